//! `cost`: what the deployment costs in a year, of counts measured in simulated time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use streammanager_host::exit::{Exit, Failure};
use streammanager_host::template::{self, Template, Trigger};
use streammanager_simulate::usage::{self, Invoked, Load};

use super::{print, say};
use crate::bench::figures::cpu_time;
use crate::cli::CostArgs;
use crate::cost::{Bill, Prices, bill};

/// Shards of a stream on demand at its beginning; it grows with what is put into it, by records of a second.
const SHARDS_ON_DEMAND: u32 = 4;
const RECORDS_A_SHARD: u32 = 1_000;
/// Of the load with 10,000 events a second so much of the time is enough: what comes more rarely is the same as in the reference load.
const SHARE_AT_PEAK: u32 = 24;
const WARM_UP: Duration = Duration::from_secs(5 * 60);

pub(crate) async fn run(args: CostArgs) -> Result<Exit, Failure> {
    let prices = Prices::built_in().map_err(Failure::new)?;
    let parameters: BTreeMap<String, String> = args.parameters.iter().cloned().collect();
    let template = match &args.template {
        Some(path) => template::load(path, &parameters),
        None => template::built_in(&parameters),
    }
    .map_err(|e| Failure::new(e.to_string()))?;
    let lasts = Duration::try_from_secs_f64(args.hours * 3_600.0)
        .map_err(|e| Failure::usage(format!("--hours {}: {e}", args.hours)))?;
    let mut bills = Vec::new();
    for (name, load, lasts) in [
        ("nothing brought", Load::NOTHING, lasts),
        ("reference load", Load::REFERENCE, lasts),
        ("10,000 events a second", Load::PEAK, lasts / SHARE_AT_PEAK),
    ] {
        let invoked = invoked(&template, &load)?;
        if load.readings_per_minute.div_ceil(60) > invoked.shards * RECORDS_A_SHARD {
            let taken = invoked.shards * RECORDS_A_SHARD;
            say(format!("{name}: left out, for {} shards take {taken} readings a second", invoked.shards));
            continue;
        }
        if !args.json {
            say(format!("{name}: {:.0} simulated minutes", lasts.as_secs_f64() / 60.0));
        }
        bills.push((name, measured(&template, &prices, load, invoked, lasts).await?));
    }
    if args.json {
        let bills: BTreeMap<_, _> = bills.into_iter().collect();
        print([json!({ "region": prices.region, "prices": prices.recorded, "bills": bills }).to_string()])?;
    } else {
        print(shown(&prices, &bills))?;
    }
    Ok(Exit::Done)
}

async fn measured(
    template: &Template,
    prices: &Prices,
    load: Load,
    invoked: Invoked,
    lasts: Duration,
) -> Result<Bill, Failure> {
    // It has a runtime of its own, whose clock is simulated.
    let running = tokio::task::spawn_blocking(move || {
        let mut before = Ok(Duration::ZERO);
        let usage = usage::measure(load, invoked, WARM_UP, lasts, || before = cpu_time())?;
        Ok::<_, String>((usage, cpu_time()?.saturating_sub(before?)))
    });
    let (usage, cpu) = running
        .await
        .map_err(|e| Failure::new(format!("the measurement died: {e}")))?
        .map_err(|e| Failure::new(format!("the load was not taken: {e}")))?;
    Ok(bill(load, invoked.shards, &usage, cpu.as_secs_f64(), template, prices))
}

/// How the template has its functions invoked.
fn invoked(template: &Template, load: &Load) -> Result<Invoked, Failure> {
    let missing = |what: &str| Failure::new(format!("the template has no {what}"));
    let function = |binary: &str| {
        let found = template.functions.iter().find(|function| function.binary == binary);
        found.ok_or_else(|| missing(&format!("function of the binary {binary}")))
    };
    let (deliver, stream) = (function("deliver")?, function("stream")?);
    let reads = stream.triggers.iter().find_map(|trigger| match trigger {
        Trigger::Stream { stream, batch_size, window, .. } => Some((stream, *batch_size, *window)),
        _ => None,
    });
    let (name, batch_size, window) = reads.ok_or_else(|| missing("stream that a function reads"))?;
    let read = template.streams.iter().find(|stream| stream.name == *name);
    let on_demand = SHARDS_ON_DEMAND.max(load.readings_per_minute.div_ceil(60).div_ceil(RECORDS_A_SHARD));
    Ok(Invoked {
        shards: read.and_then(|stream| stream.shards).unwrap_or(on_demand),
        stream_batch: batch_size as usize,
        stream_window: window,
        deliver_at_once: deliver.reserved.unwrap_or(u32::MAX).min(1_000),
        deliver_timeout: deliver.timeout,
    })
}

fn shown(prices: &Prices, bills: &[(&str, Bill)]) -> Vec<String> {
    let mut text = vec![format!(
        "A year on AWS without brokers, in US dollars: list prices of {}, recorded {}, without free tiers.",
        prices.region, prices.recorded
    )];
    for (name, bill) in bills {
        text.push(format!("\n{name}\n  {:<16} {:<24} {:>18} {:>12}", "service", "of", "a year", "$"));
        text.push(bill.to_string());
    }
    text
}

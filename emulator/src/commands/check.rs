//! `streams check`: what a streams file asks of each service, and with `--probe` what comes of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use streammanager::connect::Cursor;
use streammanager::connect::probe::{Found, probe};
use streammanager::record::StreamId;
use streammanager::schedule::file::{Load, StreamSpec, StreamsFile};
use streammanager::schedule::overlap::Overlap;
use streammanager::schedule::whole::Whole;
use streammanager::sources::Services;
use streammanager::time::Clock;
use streammanager::upstream::http::HttpUpstream;
use streammanager_host::exit::{Exit, Failure};

use super::{print, say};

/// `probed`: each stream is polled once, or this one alone.
pub(super) async fn run(file: &StreamsFile, probed: Option<Option<StreamId>>, json: bool) -> Result<Exit, Failure> {
    let (loads, overlaps) = (file.loads(), file.overlaps());
    let wholes: Vec<Whole> = file.streams.iter().filter_map(|spec| spec.whole(&Cursor::default())).collect();
    if !json {
        let sections = [(file.sensors.len(), "sensors", "mappings"), (file.mqtt.len(), "mqtt", "brokers")];
        let sections = sections.iter().filter(|(entries, ..)| *entries > 0);
        let sections = sections.map(|(entries, section, what)| format!("{section}: {entries} {what}"));
        print(loads.iter().map(Load::to_string).chain(wholes.iter().map(Whole::to_string)).chain(sections))?;
        overlaps.iter().for_each(|overlap| say(format!("note: {overlap}")));
    }
    let looks = match probed {
        Some(stream) => look(file, stream, json).await?,
        None => Vec::new(),
    };
    if json {
        print([told(file, &loads, &wholes, &overlaps, &looks)])?;
    }
    Ok(if looks.iter().any(|(_, found)| !found.problems.is_empty()) {
        Exit::Failed
    } else if looks.iter().all(|(_, found)| found.is_good()) {
        Exit::Done
    } else {
        Exit::Partly
    })
}

type Look<'a> = (&'a StreamSpec, Found);

/// One stream after the other: a look is no reason to ask a service faster than a poll would.
async fn look(file: &StreamsFile, stream: Option<StreamId>, json: bool) -> Result<Vec<Look<'_>>, Failure> {
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let services = Services::parse(&environment).map_err(Failure::new)?;
    let upstream = HttpUpstream::new().map_err(Failure::new)?;
    let wanted: Vec<&StreamSpec> =
        file.streams.iter().filter(|spec| stream.as_ref().is_none_or(|id| *id == spec.id)).collect();
    if let (Some(id), []) = (&stream, &wanted[..]) {
        return Err(Failure::usage(format!("--stream {id}: the file has no stream of this name")));
    }
    let mut looks = Vec::new();
    for spec in wanted {
        let found = match spec.polled.connector(&spec.source_id, &services) {
            Ok(connector) => {
                let apart = spec.polled.service().manners.apart;
                probe(&*connector, &upstream, &spec.source_id, apart, &Clock::system()).await
            }
            Err(problem) => Found { problems: vec![problem], ..Found::default() },
        };
        if !json {
            print([line(spec, &found)])?;
        }
        looks.push((spec, found));
    }
    Ok(looks)
}

fn line(spec: &StreamSpec, found: &Found) -> String {
    let Found { requests, records, rejects, newest, problems, more, elapsed_ms, cursor } = found;
    let mut said = format!("{:<20} {records} records of {requests} requests in {elapsed_ms} ms", spec.id);
    if let Some(newest) = newest {
        said.push_str(&format!(", the newest of {newest:.0}"));
    }
    if *more {
        said.push_str(", and there is more");
    }
    // What a source says of itself at the first look.
    if let Some(whole) = spec.whole(cursor).filter(|whole| *more && whole.takes.is_some()) {
        said.push_str(&format!("\n{:<20} all of it: {whole}", ""));
    }
    let rejects = rejects.iter().map(|(reason, count)| format!("{count} rejected: {reason}"));
    for problem in rejects.chain(problems.iter().cloned()) {
        said.push_str(&format!("\n{:<20} {problem}", ""));
    }
    said
}

fn told(file: &StreamsFile, loads: &[Load], wholes: &[Whole], overlaps: &[Overlap], looks: &[Look<'_>]) -> Value {
    let service = |load: &Load| {
        json!({ "service": load.service.name, "address": load.address, "streams": load.streams,
            "requests_a_minute": load.a_minute, "most_a_minute": load.service.manners.a_minute,
            "least_points_a_day": load.points_a_day.map(|(least, _)| least),
            "most_points_a_day": load.points_a_day.map(|(_, most)| most) })
    };
    let overlap = |overlap: &Overlap| json!({ "streams": [overlap.one, overlap.other], "shared": overlap.shared });
    let whole = |Whole { stream, progress, takes }: &Whole| {
        let takes = takes.map(|takes| takes.as_secs());
        json!({ "stream_id": stream, "whole": progress, "takes_s": takes })
    };
    let look = |(spec, found): &Look<'_>| json!({ "stream_id": spec.id, "found": found });
    json!({
        "streams": file.streams.len(),
        "sensors": file.sensors.len(),
        "mqtt": file.mqtt.len(),
        "services": loads.iter().map(service).collect::<Vec<_>>(),
        "bounded": wholes.iter().map(whole).collect::<Vec<_>>(),
        "overlaps": overlaps.iter().map(overlap).collect::<Vec<_>>(),
        "probed": looks.iter().map(look).collect::<Vec<_>>(),
    })
}

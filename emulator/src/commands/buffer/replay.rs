//! `buffer replay`: what waits in a folder goes to a sink without a running system. Tiers in their order; within CRITICAL in the
//! order in which alerts came, in the other tiers in the order of their queue. One send is settled before the next begins.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};
use streammanager::embedded::salvage::{self, Row};
use streammanager::embedded::{FolderLock, database_file};
use streammanager::express::marks;
use streammanager::limits::TRY_WAITS;
use streammanager::record::{Envelope, Outgoing, Tier};
use streammanager::sink::{Lane, Sent, Sink};
use streammanager::time::Clock;
use streammanager_host::exit::{Exit, Failure};
use streammanager_host::{folder, host};
use tokio::sync::mpsc;

use super::there;
use crate::cli::ReplayArgs;
use crate::commands::{print, say};

/// Envelopes that are read ahead.
const AHEAD: usize = 4;

/// Where records go.
enum Target {
    Sink(std::sync::Arc<dyn Sink>),
    File(BufWriter<File>),
}

/// A message on its way.
struct Waiting {
    queue: String,
    number: u64,
    envelope: Envelope,
}

#[derive(Default)]
struct Counts {
    messages: u64,
    records: u64,
    refused: u64,
    void: u64,
    unreadable: u64,
    /// Messages that are no envelopes: ticks, alerts that express is to try again.
    others: u64,
    readings: u64,
    forgotten: u64,
    /// Where it stopped, and why.
    stopped: Option<String>,
}

pub(super) async fn run(args: &ReplayArgs) -> Result<Exit, Failure> {
    let data = &args.folder.data;
    there(data)?;
    folder::refuse_demo(data)?;
    let lock = FolderLock::take(data)?;
    let mut target = match &args.out {
        Some(path) => {
            let file = folder::new_private(path);
            Target::File(BufWriter::new(
                file.map_err(|e| Failure::new(format!("--out {}: {e}: name a new file", path.display())))?,
            ))
        }
        None => {
            let sink = host::sink(None, args.kafka.as_deref(), args.kinesis.as_deref()).await?;
            sink.check().await?;
            Target::Sink(sink)
        }
    };
    let mut counts = Counts::default();
    let voids = look_through(data, &mut counts)?;
    let mut delivered = Vec::new();
    for tier in Tier::ALL {
        if counts.stopped.is_none() && args.tier.is_none_or(|only| only == tier) {
            one_tier(args, tier, &voids, &mut target, &mut counts, &mut delivered).await?;
        }
    }
    if let Target::File(file) = &mut target {
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(Failure::new)?;
    }
    if args.forget && !delivered.is_empty() {
        salvage::remove(data, &lock, &delivered, Clock::system().now())?;
        counts.forgotten = delivered.len() as u64;
    }
    report(args, &counts)
}

/// The copies of alerts that the sink has already; and counts what no replay sends.
fn look_through(data: &Path, counts: &mut Counts) -> Result<BTreeSet<String>, Failure> {
    let mut voids = BTreeSet::new();
    salvage::read(&database_file(data), &mut |row| match row {
        Row::Item(item) => {
            voids.extend(marks::void_copy(item.partition, item.sort).map(|id| id.to_string()));
            counts.readings +=
                u64::from(item.partition.starts_with("kinesis/") && item.partition.contains("/shardId-"));
        }
        Row::Message(message) if !message.binary => counts.others += 1,
        Row::Message(message) => {
            counts.unreadable += u64::from(Envelope::decode(&Bytes::copy_from_slice(message.body)).is_err());
        }
        Row::BadMessage { .. } => counts.unreadable += 1,
        Row::BadItem { .. } | Row::SetAside { .. } => {}
    })?;
    Ok(voids)
}

async fn one_tier(
    args: &ReplayArgs,
    tier: Tier,
    voids: &BTreeSet<String>,
    target: &mut Target,
    counts: &mut Counts,
    delivered: &mut Vec<(String, u64)>,
) -> Result<(), Failure> {
    let (to, mut from) = mpsc::channel::<Waiting>(AHEAD);
    let (database, since, until) = (database_file(&args.folder.data), args.since, args.until);
    let reading = tokio::task::spawn_blocking(move || {
        let mut alerts = Vec::new();
        let read = salvage::read(&database, &mut |row| {
            let Row::Message(message) = row else { return };
            let Ok(envelope) = Envelope::decode(&Bytes::copy_from_slice(message.body)) else { return };
            let at = envelope.accepted_at;
            let meant =
                envelope.tier == tier && since.is_none_or(|since| since <= at) && until.is_none_or(|until| at < until);
            if message.binary && meant {
                let waiting = Waiting { queue: message.queue.to_owned(), number: message.number, envelope };
                if tier == Tier::Critical {
                    alerts.push(waiting);
                } else {
                    // Nobody takes it when the replay has stopped.
                    drop(to.blocking_send(waiting));
                }
            }
        });
        // What only an earlier commit has comes last, and an alert must not come after its update.
        alerts.sort_by_key(|alert| alert.number);
        alerts.into_iter().for_each(|alert| drop(to.blocking_send(alert)));
        read.map(|_| ())
    });
    while let Some(Waiting { queue, number, envelope }) = from.recv().await {
        if voids.contains(&envelope.id.to_string()) {
            counts.void += 1;
            delivered.push((queue, number));
            continue;
        }
        let Ok(all) = envelope.unpack() else {
            counts.unreadable += 1;
            continue;
        };
        let total = all.len();
        let records: Vec<Outgoing> = all
            .into_iter()
            .filter(|record| args.source.as_ref().is_none_or(|source| *source == record.source))
            .collect();
        if records.is_empty() {
            continue;
        }
        let (acked, refused, problem) = send(target, tier, &records).await?;
        counts.messages += 1;
        counts.records += acked;
        counts.refused += refused;
        if acked == total as u64 {
            delivered.push((queue.clone(), number));
        }
        if let Some(problem) = problem {
            counts.stopped = Some(format!("at message {number} of the queue {queue}: {problem}"));
            from.close();
            break;
        }
    }
    drop(from);
    reading.await.map_err(Failure::new)?.map_err(Failure::from)
}

/// How many records the target has, how many it refuses for good, and why it did not take the others.
async fn send(target: &mut Target, tier: Tier, records: &[Outgoing]) -> Result<(u64, u64, Option<String>), Failure> {
    let sink = match target {
        Target::File(file) => {
            for record in records {
                writeln!(file, "{}", line(record)?).map_err(|e| Failure::new(format!("--out: {e}")))?;
            }
            return Ok((records.len() as u64, 0, None));
        }
        Target::Sink(sink) => sink,
    };
    let mut left = records.to_vec();
    let (mut acked, mut refused, mut problem) = (0, 0, None);
    for wait in TRY_WAITS {
        tokio::time::sleep(wait).await;
        let outcomes = sink.send(Lane::of(tier), &left).await;
        let mut again = Vec::new();
        problem = None;
        for (record, outcome) in left.into_iter().zip(outcomes) {
            match outcome {
                Sent::Acked(_) => acked += 1,
                Sent::Refused(..) => refused += 1,
                Sent::Retry(why) => {
                    problem = Some(why);
                    again.push(record);
                }
            }
        }
        left = again;
        if left.is_empty() {
            break;
        }
    }
    Ok((acked, refused, problem))
}

fn line(record: &Outgoing) -> Result<Value, Failure> {
    let headers: serde_json::Map<String, Value> =
        record.headers().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let value: Value = serde_json::from_slice(&record.value).map_err(Failure::new)?;
    let at = record.ingested_at.as_millisecond();
    Ok(json!({ "topic": record.topic.name(), "key": record.key, "timestamp": at, "headers": headers, "value": value }))
}

fn report(args: &ReplayArgs, counts: &Counts) -> Result<Exit, Failure> {
    let Counts { messages, records, refused, void, unreadable, others, readings, forgotten, stopped } = counts;
    if args.folder.json {
        print([json!({
            "messages": messages, "records": records, "refused": refused, "void": void, "unreadable": unreadable,
            "other_messages": others, "readings": readings, "forgotten_messages": forgotten, "stopped": stopped,
        })])?;
    } else {
        print([format!("{records} records of {messages} messages were acknowledged")])?;
        for (count, words) in [
            (refused, "records are refused for good; they stay in the folder"),
            (void, "copies of alerts that the sink had already were passed over"),
            (unreadable, "messages cannot be read: `buffer verify` names them"),
            (
                others,
                "messages are no records yet (ticks, alerts to be tried again): only a running system takes them on",
            ),
            (readings, "items of sensor streams are no records yet: only a running system takes them on"),
        ] {
            if *count > 0 {
                print([format!("{count} {words}")])?;
            }
        }
        print([match (args.forget, forgotten) {
            (true, forgotten) => format!("{forgotten} messages were taken out of the folder"),
            (false, _) => {
                "the folder keeps everything: a system that runs on it sends it again (--forget takes it out)"
                    .to_owned()
            }
        }])?;
    }
    if let Some(stopped) = stopped {
        say(format_args!("stopped {stopped}; what came before it was sent, what follows was not"));
    }
    Ok(if stopped.is_some() || refused + unreadable > 0 { Exit::Partly } else { Exit::Done })
}

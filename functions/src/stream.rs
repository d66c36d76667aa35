//! stream: pushed readings from Kinesis, the ticks of streams polled faster than every 30 s, and between them readings that were lost hold
//! of and an operator moved back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use streammanager::app::App;
use streammanager::decode::sensor::{self, Mapping, Mappings};
use streammanager::decode::{Context, Format, Row};
use streammanager::error::{BackendError, Reason, Reject, Sender};
use streammanager::ingest::dedup::Seen;
use streammanager::ingest::{self, Ledger, validate};
use streammanager::limits::READING_BYTES;
use streammanager::record::{Origin, SourceId, Stream, StreamId, TenantId, WhenFull};
use streammanager::time::Timestamp;

use crate::HandlerError;
use crate::events::{BatchResponse, KinesisEvent, KinesisRecord, RuleOutput, SqsEvent};
use crate::lost::{self, Lost, Passed, Shards};
use crate::realtime;

/// A Kinesis batch or a batch of ticks; the answer names what has to come back.
pub async fn handle(app: &App, event: Value) -> Result<Value, HandlerError> {
    handle_with(app, &Passed, event).await
}

/// The same where the stream can be read a second time.
pub async fn handle_with(app: &App, shards: &dyn Shards, event: Value) -> Result<Value, HandlerError> {
    let from_kinesis = event.pointer("/Records/0/kinesis").is_some();
    if from_kinesis {
        Ok(serde_json::to_value(readings(app, serde_json::from_value(event)?).await)?)
    } else {
        let (event, mut response) = (serde_json::from_value::<SqsEvent>(event)?, BatchResponse::default());
        for message in event.records {
            let is_done = match Lost::read(&message.body) {
                Some(lost) => found(app, shards, lost, &message.message_id).await,
                None => realtime::ticked(app, &message).await,
            };
            if !is_done {
                response.fail(message.message_id);
            }
        }
        Ok(serde_json::to_value(response)?)
    }
}

/// Takes readings that were lost hold of: whether all of them are durable now. Those that are known already stay known.
async fn found(app: &App, shards: &dyn Shards, lost: Lost, message_id: &str) -> bool {
    let records = match lost {
        Lost::Reading(error) => lost::as_put(error, message_id).map(|record| vec![record]).map_err(|e| e.to_string()),
        Lost::Records(batch) => match shards.read(&batch).await {
            Ok(records) if records.is_empty() => Err(format!("shard {} does not have them any more", batch.shard_id)),
            Ok(records) => Ok(records),
            Err(problem) => Err(problem.to_string()),
        },
    };
    match records {
        Ok(records) => readings(app, KinesisEvent { records }).await.batch_item_failures.is_empty(),
        Err(problem) => {
            tracing::error!(%problem, message_id, "readings that were lost hold of cannot be found");
            false
        }
    }
}

/// One source's readings of a batch, in order.
struct Group {
    rows: Vec<Row>,
    /// Its first record's place in the batch.
    first: usize,
}

/// Takes a batch of pushed readings. Content never fails it, which would block the shard [Q1]: bad readings go to the dead letters.
/// Only a backend that is away does, from the first record of the first source that could not be stored.
pub async fn readings(app: &App, event: KinesisEvent) -> BatchResponse {
    let mut groups: BTreeMap<SourceId, Group> = BTreeMap::new();
    let mappings = match app.mappings.get(&*app.store).await {
        Ok(mappings) => mappings,
        Err(problem) => {
            tracing::warn!(%problem, "readings stay in their stream: how they are mapped is not known");
            let mut response = BatchResponse::default();
            event.records.first().into_iter().for_each(|record| response.fail(record.kinesis.sequence_number.clone()));
            return response;
        }
    };
    for (nth, record) in event.records.iter().enumerate() {
        let (source, rows) = decode(app, &mappings, record);
        groups.entry(source).or_insert_with(|| Group { rows: Vec::new(), first: nth }).rows.extend(rows);
    }
    let mut failed: Vec<usize> = Vec::new();
    // A batch comes from one shard: `shardId-000000000000:SEQUENCE`.
    let shard = event.records.first().and_then(|record| record.event_id.split(':').next()).unwrap_or_default();
    let mut seen = Seen::of_shard(&app.shards, shard);
    for (source, group) in groups {
        if let Err(problem) = one_source(app, &mut seen, &source, group.rows).await {
            tracing::warn!(%problem, %source, "readings stay in their stream");
            failed.push(group.first);
        }
    }
    seen.done(&app.shards);
    let mut response = BatchResponse::default();
    // A checkpoint is one position: everything from the earliest failure on comes again, known by its event ids.
    if let Some(first) = failed.into_iter().min() {
        response.fail(event.records[first].kinesis.sequence_number.clone());
    }
    response
}

async fn one_source(app: &App, seen: &mut Seen, source: &SourceId, rows: Vec<Row>) -> Result<(), HandlerError> {
    let unknown = |e: streammanager::record::ids::BadId| HandlerError::UnknownEvent(e.to_string());
    let stream = Stream {
        id: StreamId::new(source.as_str()).map_err(unknown)?,
        source: source.clone(),
        tenant: TenantId::new("shared").map_err(unknown)?,
        granted: false,
        when_full: WhenFull::Refuse,
    };
    let mut ledger = Ledger::default();
    match ingest::ingest(app, &stream, seen, &mut ledger, rows.into_iter()).await {
        Ok(()) => Ok(()),
        Err(ingest::IngestError::Backend(e)) => Err(e.into()),
        Err(ingest::IngestError::Full(why)) => Err(BackendError::Retry(why.to_string()).into()),
    }
}

/// A record that does not hold a reading is still one rejected row of its source, with who sent it.
fn decode(app: &App, mappings: &Mappings, record: &KinesisRecord) -> (SourceId, Vec<Row>) {
    let mut output = match rule_output(record) {
        Ok(output) => output,
        Err(reject) => return (unknown_source(), vec![Err(reject)]),
    };
    // Within the stage its topics are called as everywhere.
    if let Some(own) = output.topic.strip_prefix(&app.settings.mqtt_prefix) {
        output.topic = own.to_owned();
    }
    let sender = Sender {
        sensor: sensor::sensor_of(&output.topic).map(str::to_owned),
        // `shardId-000000000000:SEQUENCE`
        partition: record.event_id.split_once(':').map(|(shard, _)| shard.to_owned()),
        offset: Some(record.kinesis.sequence_number.clone()),
        ..output.sender()
    };
    let mapping = mappings.of(&output.topic);
    let source = mapping.and_then(Mapping::source).cloned().or_else(|| sensor::source_of(&output.topic));
    let source = source.unwrap_or_else(unknown_source);
    let now = app.clock.now();
    let (rows, whole) = match output.payload() {
        Ok(payload) => {
            let rows = readings_of(&output, &payload, (&source, mapping), &record.kinesis.sequence_number, now);
            (rows.unwrap_or_else(|reject| vec![Err(reject)]), payload)
        }
        Err(e) => {
            let reject = Reject::new(Reason::BadJson, format!("payload is not base64: {e}"));
            (vec![Err(reject.with_raw(output.payload.clone()))], Bytes::new())
        }
    };
    // Of several readings in a message the decoder gives each its own bytes.
    let pushed_by = Arc::new(sender.clone());
    let checked = |row: Row| match row {
        Ok(mut draft) => {
            let raw = if draft.origin.raw.is_empty() { whole.clone() } else { draft.origin.raw.clone() };
            draft.origin = Origin { sender: Some(pushed_by.clone()), ..Origin::of(raw) };
            validate::check(draft, now)
        }
        Err(reject) => Err(reject.sent_by(&sender)),
    };
    (source, rows.into_iter().map(checked).collect())
}

fn readings_of(
    output: &RuleOutput,
    payload: &Bytes,
    (source, mapping): (&SourceId, Option<&Mapping>),
    sequence: &str,
    now: Timestamp,
) -> Result<Vec<Row>, Reject> {
    let received_at = output.received_at.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(now);
    if payload.len() > READING_BYTES {
        let detail = format!("{} bytes, {READING_BYTES} at most", payload.len());
        return Err(Reject::new(Reason::TooLarge, detail).with_raw(payload.clone()));
    }
    let context = Context { source, received_at, topic: Some(&output.topic), message: Some(sequence) };
    let rows = match mapping {
        Some(mapping) => mapping.rows(payload, context),
        None => Format::SENSOR.rows(payload, context),
    };
    let rows = rows.map(|rows| rows.collect());
    rows.map_err(|reject| if reject.raw.is_empty() { reject.with_raw(payload.clone()) } else { reject })
}

fn rule_output(record: &KinesisRecord) -> Result<RuleOutput, Reject> {
    use base64::Engine;
    let raw = base64::engine::general_purpose::STANDARD.decode(&record.kinesis.data).map_err(|e| {
        let detail = format!("record data is not base64: {e}");
        Reject::new(Reason::BadJson, detail).with_raw(record.kinesis.data.clone())
    })?;
    serde_json::from_slice(&raw).map_err(|e| {
        Reject::new(Reason::BadJson, format!("record is not what the sensors rule writes: {e}")).with_raw(raw)
    })
}

/// Readings whose topic names no kind.
fn unknown_source() -> SourceId {
    SourceId::new("iot_unknown").expect("`iot_unknown` keeps the rule of source ids")
}

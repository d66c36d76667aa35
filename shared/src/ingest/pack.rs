//! Records → envelopes: one stream, one tenant, one tier each, near the target size and never above a tier's largest send.

use std::sync::Arc;

use crate::dead::Rejected;
use crate::error::{Reason, Reject};
use crate::ingest::dedup::Mark;
use crate::limits::{ENVELOPE_MAX_BYTES, ENVELOPE_TARGET_BYTES, ENVELOPE_ZSTD_LEVEL};
use crate::record::{Envelope, Outgoing, Record, Stream, Tier, Topic, Traceparent, value};
use crate::settings::Settings;
use crate::sources;
use crate::time::{Rng, Timestamp, rfc3339};

/// An envelope with the marks of its records, in the same order.
pub struct Packed {
    /// The packed records, of one tier.
    pub envelope: Envelope,
    /// What the seen-set is told of each, once the queue has them.
    pub ids: Vec<Mark>,
    /// The records themselves.
    pub records: Vec<Outgoing>,
}

/// Serialises each record once, and packs them: from here on they travel as bytes. The envelopes have one trace, the most urgent tier
/// comes first. Beside them the records that no envelope can hold.
pub fn pack(
    settings: &Settings,
    rng: &Rng,
    stream: &Stream,
    accepted_at: Timestamp,
    records: Vec<Record>,
) -> (Vec<Packed>, Vec<Rejected>) {
    let trace = Traceparent::new(rng.bytes(), rng.bytes());
    let mut packer = Packer { rng, stream, trace: &trace, accepted_at, envelopes: Vec::new(), rejected: Vec::new() };
    // By tier, what is sent together: records and their marks, in the same order.
    let mut tiers: [Vec<(Vec<Outgoing>, Vec<Mark>)>; 4] = Default::default();
    let mut room = value::Room::default();
    // Of the last record's topic.
    let mut schema: Option<(Topic, Arc<str>)> = None;
    let mut records = records.into_iter();
    while let Some(record) = records.next() {
        let dataschema = match &schema {
            Some((topic, schema)) if *topic == record.topic => schema.clone(),
            _ => schema.insert((record.topic, record.topic.schema_uri(&settings.schemas_url).into())).1.clone(),
        };
        match described(&record, settings, trace.clone(), dataschema, &mut room) {
            Ok(outgoing) => {
                let sends = &mut tiers[record.tier as usize];
                let most = record.tier.largest_send();
                if sends.last().is_none_or(|(records, _)| records.len() == most) {
                    let room = most.min(1 + records.len());
                    sends.push((Vec::with_capacity(room), Vec::with_capacity(room)));
                }
                if let Some((records, marks)) = sends.last_mut() {
                    records.push(outgoing);
                    marks.push(Mark::of(&record.draft, record.revision));
                }
            }
            Err(reject) => {
                let reject = record.draft.refused(reject);
                packer.rejected.push(Rejected::of_row(record.draft.source.clone(), reject));
            }
        }
    }
    for (tier, sends) in Tier::ALL.into_iter().zip(tiers) {
        sends.into_iter().for_each(|(records, marks)| packer.pack(tier, records, marks));
    }
    (packer.envelopes, packer.rejected)
}

struct Packer<'a> {
    rng: &'a Rng,
    stream: &'a Stream,
    trace: &'a Traceparent,
    accepted_at: Timestamp,
    envelopes: Vec<Packed>,
    rejected: Vec<Rejected>,
}

impl Packer<'_> {
    /// Halves a chunk until it fits; compressing twice is rare, guessing sizes would be wrong often.
    fn pack(&mut self, tier: Tier, mut records: Vec<Outgoing>, mut marks: Vec<Mark>) {
        let envelope = Envelope::pack(
            self.rng.ulid(self.accepted_at),
            self.stream.id.clone(),
            self.stream.tenant.clone(),
            tier,
            self.accepted_at,
            self.trace.clone(),
            &records,
            ENVELOPE_ZSTD_LEVEL,
        )
        .map(|envelope| envelope.in_order(sources::keeps_order(&self.stream.source)));
        let most = if records.len() == 1 { ENVELOPE_MAX_BYTES } else { ENVELOPE_TARGET_BYTES };
        match (envelope, &records[..]) {
            (Ok(envelope), _) if envelope.packed_bytes() <= most => {
                self.envelopes.push(Packed { envelope, ids: marks, records });
            }
            (_, [outgoing]) => {
                let detail = format!("the record packs to more than {ENVELOPE_MAX_BYTES} bytes");
                let reject = Reject::new(Reason::TooLarge, detail);
                self.rejected.push(Rejected::new(outgoing.source.clone(), reject, &outgoing.value));
            }
            _ => {
                let half = records.len() / 2;
                let (second, second_marks) = (records.split_off(half), marks.split_off(half));
                self.pack(tier, records, marks);
                self.pack(tier, second, second_marks);
            }
        }
    }
}

/// The form in which a record travels to any sink; express uses it without an envelope.
pub fn outgoing(record: &Record, settings: &Settings, traceparent: Traceparent) -> Result<Outgoing, Reject> {
    let dataschema = record.topic.schema_uri(&settings.schemas_url).into();
    described(record, settings, traceparent, dataschema, &mut value::Room::default())
}

/// `dataschema` is the topic's.
fn described(
    record: &Record,
    settings: &Settings,
    traceparent: Traceparent,
    dataschema: Arc<str>,
    room: &mut value::Room,
) -> Result<Outgoing, Reject> {
    let value = value::write(record, &settings.producer_id, room)?;
    let mut extra = Vec::new();
    if let Some(alert) = &record.draft.alert {
        extra.push(("status".to_owned(), alert.status.clone()));
        extra.push(("msgType".to_owned(), alert.msg_type.clone()));
        extra.push(("sent".to_owned(), rfc3339(alert.sent)));
        if let Some(expires) = alert.expires {
            extra.push(("expires".to_owned(), rfc3339(expires)));
        }
        if !alert.references.is_empty() {
            // Blanks stand between references: those inside a name are escaped.
            let references: Vec<String> = alert.references.iter().map(|text| text.replace(' ', "%20")).collect();
            extra.push(("references".to_owned(), references.join(" ")));
        }
    }
    if let Some(lineage) = &record.draft.origin.lineage {
        extra.extend(lineage.headers());
    }
    Ok(Outgoing {
        topic: record.topic,
        key: record.key(),
        value,
        event: record.draft.event,
        revision: record.revision,
        source: record.draft.source.clone(),
        tenant: record.tenant.clone(),
        tier: record.tier,
        dataschema,
        observed_at: record.draft.observed_at,
        published_at: record.draft.published_at,
        ingested_at: record.ingested_at,
        traceparent,
        extra,
    })
}

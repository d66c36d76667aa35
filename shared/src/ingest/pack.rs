//! Records → envelopes: one stream, one tenant, one tier each, near the target size and never above a tier's largest send.

use std::sync::Arc;

use ulid::Ulid;

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

/// Fills envelopes, one a tier at a time.
pub struct Packer<'a> {
    settings: &'a Settings,
    rng: &'a Rng,
    stream: &'a Stream,
    trace: Traceparent,
    accepted_at: Timestamp,
    room: value::Room,
    /// Of the last record's topic.
    schema: Option<(Topic, Arc<str>)>,
    /// A tier's records and their marks, in the same order.
    tiers: [(Vec<Outgoing>, Vec<Mark>); 4],
}

impl<'a> Packer<'a> {
    /// An empty packer.
    pub fn new(
        settings: &'a Settings,
        rng: &'a Rng,
        stream: &'a Stream,
        trace: Traceparent,
        accepted_at: Timestamp,
    ) -> Packer<'a> {
        Packer {
            settings,
            rng,
            stream,
            trace,
            accepted_at,
            room: value::Room::default(),
            schema: None,
            tiers: Default::default(),
        }
    }

    /// Serialises the record once; from here on it travels as bytes.
    pub fn add(&mut self, record: &Record) -> Result<(), Reject> {
        let topic = record.topic;
        let schema = match &self.schema {
            Some((of, schema)) if *of == topic => schema.clone(),
            _ => topic.schema_uri(&self.settings.schemas_url).into(),
        };
        self.schema = Some((topic, schema.clone()));
        let outgoing = described(record, self.settings, self.trace.clone(), schema, &mut self.room)?;
        let (records, marks) = &mut self.tiers[record.tier as usize];
        records.push(outgoing);
        marks.push(Mark::of(&record.draft, record.revision));
        Ok(())
    }

    /// The envelopes, most urgent tier first, and the records that no envelope can hold.
    pub fn finish(mut self) -> (Vec<Packed>, Vec<Rejected>) {
        let (mut packed, mut oversized) = (Vec::new(), Vec::new());
        for tier in Tier::ALL {
            let (mut records, mut marks) = std::mem::take(&mut self.tiers[tier as usize]);
            while !records.is_empty() {
                let size = tier.largest_send().min(records.len());
                let (more, more_marks) = (records.split_off(size), marks.split_off(size));
                self.pack(tier, records, marks, &mut packed, &mut oversized);
                (records, marks) = (more, more_marks);
            }
        }
        (packed, oversized)
    }

    /// Halves a chunk until it fits; compressing twice is rare, guessing sizes would be wrong often.
    fn pack(
        &self,
        tier: Tier,
        mut records: Vec<Outgoing>,
        mut marks: Vec<Mark>,
        packed: &mut Vec<Packed>,
        oversized: &mut Vec<Rejected>,
    ) {
        let id: Ulid = self.rng.ulid(self.accepted_at);
        let envelope = Envelope::pack(
            id,
            self.stream.id.clone(),
            self.stream.tenant.clone(),
            tier,
            self.accepted_at,
            self.trace.clone(),
            &records,
            ENVELOPE_ZSTD_LEVEL,
        )
        .map(|envelope| envelope.in_order(sources::keeps_order(&self.stream.source)));
        match (envelope, &records[..]) {
            (Ok(envelope), [_]) if envelope.packed_bytes() <= ENVELOPE_MAX_BYTES => {
                packed.push(Packed { envelope, ids: marks, records });
            }
            (_, [outgoing]) => {
                let detail = format!("the record packs to more than {ENVELOPE_MAX_BYTES} bytes");
                let reject = Reject::new(Reason::TooLarge, detail);
                oversized.push(Rejected::new(outgoing.source.clone(), reject, &outgoing.value));
            }
            (Ok(envelope), _) if envelope.packed_bytes() <= ENVELOPE_TARGET_BYTES => {
                packed.push(Packed { envelope, ids: marks, records });
            }
            _ => {
                let half = records.len() / 2;
                let (second, second_marks) = (records.split_off(half), marks.split_off(half));
                self.pack(tier, records, marks, packed, oversized);
                self.pack(tier, second, second_marks, packed, oversized);
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

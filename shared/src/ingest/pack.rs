//! Records → envelopes: one stream, one tenant, one tier each, near the target size and never above a tier's largest send.

use ulid::Ulid;

use crate::app::App;
use crate::error::{Reason, Reject};
use crate::ingest::Stream;
use crate::ingest::dedup::Mark;
use crate::limits::{ENVELOPE_MAX_BYTES, ENVELOPE_TARGET_BYTES, ENVELOPE_ZSTD_LEVEL, largest_send};
use crate::record::{Envelope, Outgoing, Record, SourceId, Tier, Traceparent, value};
use crate::time::{Timestamp, rfc3339};

/// An envelope with the marks of its records, in the same order.
pub struct Packed {
    pub envelope: Envelope,
    pub ids: Vec<Mark>,
}

pub struct Packer<'a> {
    app: &'a App,
    stream: &'a Stream,
    trace: Traceparent,
    accepted_at: Timestamp,
    tiers: [Vec<(Outgoing, Mark)>; 4],
}

impl<'a> Packer<'a> {
    pub fn new(app: &'a App, stream: &'a Stream, trace: Traceparent, accepted_at: Timestamp) -> Packer<'a> {
        Packer { app, stream, trace, accepted_at, tiers: Default::default() }
    }

    /// Serialises the record once; from here on it travels as bytes.
    pub fn add(&mut self, record: &Record) -> Result<(), Reject> {
        let outgoing = outgoing(record, &self.app.settings.producer_id, self.trace.clone())?;
        self.tiers[record.tier as usize].push((outgoing, Mark::of(&record.draft, record.revision)));
        Ok(())
    }

    /// The envelopes, most urgent tier first, and the records that no envelope can hold.
    pub fn finish(mut self) -> (Vec<Packed>, Vec<(SourceId, Reject)>) {
        let (mut packed, mut oversized) = (Vec::new(), Vec::new());
        for tier in Tier::ALL {
            let records = std::mem::take(&mut self.tiers[tier as usize]);
            for chunk in records.chunks(largest_send(tier)) {
                self.pack(tier, chunk, &mut packed, &mut oversized);
            }
        }
        (packed, oversized)
    }

    /// Halves a chunk until it fits; compressing twice is rare, guessing sizes would be wrong often.
    fn pack(
        &self,
        tier: Tier,
        records: &[(Outgoing, Mark)],
        packed: &mut Vec<Packed>,
        oversized: &mut Vec<(SourceId, Reject)>,
    ) {
        let outgoing: Vec<Outgoing> = records.iter().map(|(outgoing, _)| outgoing.clone()).collect();
        let id: Ulid = self.app.rng.ulid(self.accepted_at);
        let envelope = Envelope::pack(
            id,
            self.stream.id.clone(),
            self.stream.tenant.clone(),
            tier,
            self.accepted_at,
            self.trace.clone(),
            &outgoing,
            ENVELOPE_ZSTD_LEVEL,
        );
        match (envelope, records) {
            (Ok(envelope), [_]) if envelope.packed_bytes() <= ENVELOPE_MAX_BYTES => {
                packed.push(Packed { envelope, ids: vec![records[0].1] });
            }
            (_, [(outgoing, _)]) => {
                let detail = format!("the record packs to more than {ENVELOPE_MAX_BYTES} bytes");
                let reject = Reject::new(Reason::TooLarge, detail).with_raw(outgoing.value.clone());
                oversized.push((outgoing.source.clone(), reject));
            }
            (Ok(envelope), _) if envelope.packed_bytes() <= ENVELOPE_TARGET_BYTES => {
                packed.push(Packed { envelope, ids: records.iter().map(|(_, mark)| *mark).collect() });
            }
            _ => {
                let (first, second) = records.split_at(records.len() / 2);
                self.pack(tier, first, packed, oversized);
                self.pack(tier, second, packed, oversized);
            }
        }
    }
}

/// The form in which a record travels to any sink; express uses it without an envelope.
pub fn outgoing(record: &Record, producer_id: &str, traceparent: Traceparent) -> Result<Outgoing, Reject> {
    let value = value::json(record, producer_id)?;
    let mut extra = Vec::new();
    if let Some(alert) = &record.draft.alert {
        extra.push(("status".to_owned(), alert.status.clone()));
        extra.push(("msgType".to_owned(), alert.msg_type.clone()));
        extra.push(("sent".to_owned(), rfc3339(alert.sent)));
        if let Some(expires) = alert.expires {
            extra.push(("expires".to_owned(), rfc3339(expires)));
        }
        if !alert.references.is_empty() {
            extra.push(("references".to_owned(), alert.references.join(" ")));
        }
    }
    Ok(Outgoing {
        topic: record.topic.name().to_owned(),
        key: record.key(),
        value: value.into(),
        event: record.draft.event,
        revision: record.revision,
        source: record.draft.source.clone(),
        tenant: record.tenant.clone(),
        tier: record.tier,
        schema: record.topic.schema().to_owned(),
        observed_at: record.draft.observed_at,
        ingested_at: record.ingested_at,
        traceparent,
        extra,
    })
}

//! The records of envelopes that this process has queued and not delivered yet, as they were before they were packed: whoever delivers
//! in the process that ingests need not unpack them. A memory and no source: what is not here is unpacked, and nothing is
//! delivered that its queue has not given out.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use ulid::Ulid;

use super::{Envelope, Outgoing};
use crate::limits::FRESH_BYTES;

/// What nobody has taken by then is another process's, or waits for long: younger records need the room.
const KEPT: Duration = Duration::from_secs(10);

/// What one process remembers of its envelopes.
#[derive(Debug, Default)]
pub struct Fresh(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Deliveries that run in this process; without any, nothing is kept.
    takers: usize,
    envelopes: BTreeMap<Ulid, Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    records: Vec<Outgoing>,
    bytes: usize,
    since: Instant,
}

impl Fresh {
    /// Someone in this process delivers, until the guard is dropped.
    pub(crate) fn taking(&self) -> Taking<'_> {
        self.0.lock().takers += 1;
        Taking(self)
    }

    /// Keeps the records of an envelope that is about to be queued, if they fit. The older ones are delivered first, so that they stay.
    pub(crate) fn keep(&self, envelope: &Envelope, records: Vec<Outgoing>) {
        let mut inner = self.0.lock();
        while let Some(oldest) = inner.envelopes.first_entry().filter(|oldest| oldest.get().since.elapsed() >= KEPT) {
            inner.bytes -= oldest.remove().bytes;
        }
        let bytes = envelope.unpacked_bytes();
        if inner.takers > 0 && inner.bytes + bytes <= FRESH_BYTES {
            inner.bytes += bytes;
            let before = inner.envelopes.insert(envelope.id, Kept { records, bytes, since: Instant::now() });
            inner.bytes -= before.map_or(0, |kept| kept.bytes);
        }
    }

    /// The records of an envelope; `None` when they are not known, or other than those that it holds by now.
    pub(crate) fn take(&self, envelope: &Envelope) -> Option<Vec<Outgoing>> {
        let mut inner = self.0.lock();
        let kept = inner.envelopes.remove(&envelope.id)?;
        inner.bytes -= kept.bytes;
        // A remainder has its envelope's id, and fewer records.
        (kept.records.len() == envelope.count as usize).then_some(kept.records)
    }
}

pub(crate) struct Taking<'a>(&'a Fresh);

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.0.lock();
        inner.takers -= 1;
        if inner.takers == 0 {
            (inner.envelopes, inner.bytes) = Default::default();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::limits::ENVELOPE_ZSTD_LEVEL;
    use crate::record::{EventId, SourceId, StreamId, TenantId, Tier, Topic, Traceparent};
    use crate::time::Timestamp;

    fn records(count: u8) -> Vec<Outgoing> {
        let at: Timestamp = "2026-07-24T10:00:30.123Z".parse().unwrap();
        let record = |number| Outgoing {
            topic: Topic::NASA_FIRMS,
            key: "8528308bfffffff".into(),
            value: vec![b'0' + number; 1_000].into(),
            event: EventId::from_bytes([number; 16]),
            revision: 0,
            source: SourceId::new("firms_viirs_noaa20").unwrap(),
            tenant: TenantId::new("butte").unwrap(),
            tier: Tier::High,
            dataschema: Topic::NASA_FIRMS.schema_uri("urn:x:").into(),
            observed_at: at,
            published_at: None,
            ingested_at: at,
            traceparent: Traceparent::new([1; 16], [2; 8]),
            extra: Vec::new(),
        };
        (0..count).map(record).collect()
    }

    fn envelope(id: u128, records: &[Outgoing]) -> Envelope {
        let (stream, first) = (StreamId::new("s").unwrap(), &records[0]);
        let trace = first.traceparent.clone();
        let tenant = first.tenant.clone();
        let at = first.ingested_at;
        Envelope::pack(Ulid::from(id), stream, tenant, Tier::High, at, trace, records, ENVELOPE_ZSTD_LEVEL).unwrap()
    }

    #[tokio::test]
    async fn q1_what_is_taken_is_what_the_envelope_holds_and_never_its_remainder() {
        let (fresh, all) = (Fresh::default(), records(3));
        let packed = envelope(1, &all);
        fresh.keep(&packed, all.clone());
        assert_eq!(fresh.take(&packed), None, "nobody takes anything here");

        let taking = fresh.taking();
        fresh.keep(&packed, all.clone());
        assert_eq!(fresh.take(&packed), Some(packed.unpack().unwrap()));
        assert_eq!(fresh.take(&packed), None, "a second try unpacks");

        fresh.keep(&packed, all.clone());
        assert_eq!(fresh.take(&packed.remainder(&all[1..]).unwrap()), None);

        fresh.keep(&packed, all);
        drop(taking);
        let _taking = fresh.taking();
        assert_eq!(fresh.take(&packed), None, "whoever took it over has its queue");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_and_makes_room_when_nobody_takes_it() {
        let (fresh, all) = (Fresh::default(), records(3));
        let _taking = fresh.taking();
        let one = envelope(1, &all);
        let named = |id| {
            let mut envelope = one.clone();
            envelope.id = Ulid(id);
            envelope
        };
        let envelopes: Vec<Envelope> = (1..=10_000).map(named).collect();
        envelopes.iter().for_each(|envelope| fresh.keep(envelope, all.clone()));
        let kept = FRESH_BYTES / envelopes[0].unpacked_bytes();
        assert!(fresh.take(&envelopes[kept]).is_none(), "beyond the bound nothing is kept");
        assert!(fresh.take(&envelopes[kept - 1]).is_some());
        tokio::time::advance(KEPT).await;
        envelopes[kept..].iter().for_each(|envelope| fresh.keep(envelope, all.clone()));
        assert!(fresh.take(&envelopes[0]).is_none());
        assert!(fresh.take(&envelopes[kept]).is_some());
    }
}

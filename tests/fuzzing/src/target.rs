//! A decoder by its name, under a source id of its own.

use streammanager::decode::{Format, Rows};
use streammanager::error::Reject;
use streammanager::record::{SourceId, Stream, StreamId, TenantId, WhenFull};
use streammanager::sources;
use streammanager::time::Timestamp;

use bytes::Bytes;
use streammanager::decode::Context;

/// A decoder, and what else a body comes with.
#[derive(Debug, Clone)]
pub struct Target {
    pub format: Format,
    pub stream: Stream,
    pub now: Timestamp,
}

/// Every decoder of the table of sources.
pub fn names() -> Vec<&'static str> {
    sources::formats().iter().map(|format| format.name).collect()
}

impl Target {
    /// The decoder of this name; `None` for a name that the table does not have.
    pub fn named(name: &str) -> Option<Target> {
        let has =
            |source: &&sources::Source| source.records.as_ref().is_some_and(|records| records.format.name == name);
        let source = sources::TABLE.iter().copied().find(has)?;
        let pattern = source.ids.first()?.pattern;
        Target::reading(source.records.as_ref()?.format, &pattern.replace('*', "fuzzed"))
    }

    /// A decoder under this source id; `None` for a text that is none.
    pub fn reading(format: Format, source: &str) -> Option<Target> {
        let id = SourceId::new(source).ok()?;
        let stream = Stream {
            id: StreamId::new("fuzzed").ok()?,
            source: id,
            tenant: TenantId::new("fuzzed").ok()?,
            granted: true,
            when_full: WhenFull::Wait,
        };
        // A day of the generated inputs' year: whatever is later is refused.
        let now = Timestamp::from_second(1_796_000_000).ok()?;
        Some(Target { format, stream, now })
    }

    /// The rows of `body`; one of an odd length came over MQTT.
    ///
    /// # Errors
    /// As [`Format::rows`].
    pub fn rows<'a>(&'a self, body: &'a Bytes) -> Result<Rows<'a>, Reject> {
        let topic = (body.len() % 2 == 1).then_some("sensors/fuzzed/s1/state");
        let context = Context { source: &self.stream.source, received_at: self.now, topic, message: None };
        self.format.rows(body, context)
    }
}

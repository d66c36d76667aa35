//! Which stream rows come from, as far as ingest and the dead letters need to know it.

use crate::record::{SourceId, StreamId, TenantId};

/// What happens when a tier's queue is at capacity [Q2].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The poller waits for room.
    Wait,
    /// The pusher is told to come back: `IngestError::Full`.
    Refuse,
}

/// The running stream that rows come from.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its name, unique in a deployment.
    pub id: StreamId,
    /// What its records are published under, unless a row decides otherwise.
    pub source: SourceId,
    /// Whose records they are [D4].
    pub tenant: TenantId,
    /// Its connector holds a critical grant [A2].
    pub granted: bool,
    /// What happens when a tier's queue has no room [Q2].
    pub when_full: WhenFull,
}

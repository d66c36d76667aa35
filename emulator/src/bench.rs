//! What the benchmarks measure and compare with: generated input, the system's steps, and the naive baselines.

pub(crate) mod express;
pub mod generate;
pub mod naive;
pub(crate) mod poll;

use streammanager::ingest::{Stream, WhenFull};
use streammanager::record::ids::BadId;
use streammanager::record::{SourceId, StreamId, TenantId};

/// Begins the benchmarks' topics, so that they never write among real records.
pub(crate) const PREFIX: &str = "bench-";

/// The stream of the rows that are measured.
pub(crate) fn stream() -> Result<Stream, BadId> {
    Ok(Stream {
        id: StreamId::new("bench")?,
        source: SourceId::new("firms_viirs_noaa20")?,
        tenant: TenantId::new("bench")?,
        granted: false,
        when_full: WhenFull::Wait,
    })
}

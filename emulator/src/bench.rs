//! What the benchmarks measure and compare with: generated input, the system's steps, and the baselines.

pub(crate) mod decode;
pub(crate) mod express;
pub(crate) mod figures;
pub(crate) mod generate;
pub(crate) mod joins;
pub(crate) mod lambda;
pub(crate) mod naive;
pub(crate) mod plain;
pub(crate) mod poll;
pub(crate) mod readings;
pub(crate) mod start;
mod system;
pub(crate) mod trace;

use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use streammanager::record::ids::BadId;
use streammanager::record::{SourceId, Stream, StreamId, TenantId, WhenFull};
use streammanager::sink::kafka::KafkaSettings;

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

/// The client's settings of the programs that are compared with: idempotent, acknowledged by all replicas and compressed, as ours are.
pub(crate) fn baseline(settings: &KafkaSettings) -> ClientConfig {
    let mut config = settings.client();
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "5")
        .set("compression.codec", "zstd")
        .set("compression.level", "3")
        .set("batch.size", "262144")
        .set("queue.buffering.max.messages", "8000");
    config
}

/// A folder of one run, which ends with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(benchmark: &str) -> std::io::Result<Scratch> {
        let folder = std::env::temp_dir().join(format!("streammanager-bench-{benchmark}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Scratch(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over lies among the host's other temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! One file a command.

#[cfg(feature = "up")]
pub mod bench;
pub mod decode;
pub mod ingest;
#[cfg(feature = "up")]
pub mod operate;
#[cfg(feature = "up")]
pub mod topics;

use streammanager::decode::Format;
use streammanager::record::SourceId;

use crate::cli::InputArgs;
use crate::exit::Failure;

/// The source and the format that `--source` and `--format` name.
fn input(source: &str, input: &InputArgs) -> Result<(SourceId, Format), Failure> {
    let source = SourceId::new(source).map_err(|e| Failure::new(format!("--source: {e}")))?;
    let format = match input.format.as_str() {
        "auto" => Format::of(&source).ok_or_else(|| {
            Failure::new(format!(
                "--source {source}: no decoder reads this source; known are firms_…, landsat_nrt, historical_firms…, iot_… and the critical ids"
            ))
        })?,
        name => Format::named(name)
            .ok_or_else(|| Failure::new(format!("--format {name}: unknown; use auto, firms, sensor or alert")))?,
    };
    Ok((source, format))
}

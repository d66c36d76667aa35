//! What the benchmarks measure and compare with: generated input, the system's steps, and the naive baselines.

#[cfg(feature = "up")]
pub(crate) mod express;
pub mod generate;
#[cfg(feature = "up")]
pub mod naive;
#[cfg(feature = "up")]
pub(crate) mod poll;

/// Begins the benchmarks' topics, so that they never write among real records.
#[cfg(feature = "up")]
pub(crate) const PREFIX: &str = "bench-";

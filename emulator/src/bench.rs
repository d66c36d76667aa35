//! What the benchmarks share: generated input and the naive baseline.

pub mod generate;
#[cfg(feature = "up")]
pub mod naive;

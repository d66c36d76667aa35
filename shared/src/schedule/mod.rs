//! When a stream is polled, in which mode, and who may do it.

pub mod file;
pub mod lease;
mod lines;
pub mod mappings;
pub(crate) mod mode;
pub mod mqtt;
pub mod overlap;
pub mod seed;
pub mod streams;
pub mod ticks;
pub mod whole;

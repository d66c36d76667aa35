//! When a stream is polled, in which mode, and who may do it.

pub mod file;
pub mod lease;
pub(crate) mod mode;
mod places;
pub mod seed;
pub mod streams;
pub mod ticks;

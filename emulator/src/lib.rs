#[cfg(feature = "up")]
pub mod kafka;

#[cfg(feature = "up")]
pub mod mqtt;

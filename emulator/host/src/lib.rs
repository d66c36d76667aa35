//! StreamManager on this host: a data folder with its queues and a sink, and, with the feature `up`, the template that is
//! deployed on AWS, run with the functions' own handlers. Flags and their parsing are the command's, not this crate's.

#[cfg(feature = "up")]
pub mod buffer;
pub mod exit;
pub mod folder;
#[cfg(feature = "up")]
pub mod foreign;
pub mod host;
#[cfg(feature = "up")]
pub mod publisher;
#[cfg(feature = "up")]
pub mod running;
#[cfg(feature = "up")]
pub mod runtime;
#[cfg(feature = "up")]
pub mod template;
#[cfg(feature = "up")]
pub mod up;

//! Inputs of the project's own, in every dialect that real services and archives have been seen to write, each with the
//! facts that its maker knows without reading it back. The same call gives the same bytes.

pub mod cap;
pub mod firms;
pub mod forms;

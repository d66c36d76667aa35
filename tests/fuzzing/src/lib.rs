//! One decoder under arbitrary bytes [A6]: which laws hold whatever comes, what a mutation that keeps the form looks like, and the
//! inputs that a run begins with. The decoders are those of the table of sources: no list of them stands here.

pub mod laws;
pub mod mutation;
pub mod seeds;
pub mod target;

#[path = "../../src/generated/mod.rs"]
pub mod generated;

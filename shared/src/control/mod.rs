//! What operators decide and what the system remembers of it: connectors with their keys and grants, and the audit log.

pub mod audit;
pub mod connectors;

//! What operators decide and what the system remembers of it: connectors with their keys and grants, who asks, and the audit
//! log.

pub mod admission;
pub mod audit;
pub mod caller;
pub mod connector;
pub mod connectors;
pub mod pace;

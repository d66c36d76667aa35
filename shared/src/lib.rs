//! StreamManager, the library. Modules stand in the order in which data flows: a source's bytes become records, records
//! become envelopes in a queue (ingest), envelopes become acknowledgements of a sink (deliver); express is the short
//! circuit for lives. The five seams to the outside world are `queue`, `sink`, `store`, `blobs` and `upstream`.

pub mod error;
pub mod limits;
pub mod settings;
pub mod time;

pub mod app;
pub mod record;

pub mod connect;
pub mod decode;
pub mod sources;

pub mod breaker;
pub mod fires;
pub mod ingest;
pub mod schedule;

pub mod deliver;

pub mod express;

pub mod control;
pub mod dead;
pub mod schemas;

pub mod blobs;
pub mod provenance;
pub mod queue;
pub mod sink;
pub mod store;
pub mod upstream;

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "embedded")]
pub mod embedded;

#[cfg(feature = "authorities")]
pub mod authorities;
#[cfg(feature = "tls")]
pub mod tls;

#[cfg(feature = "testing")]
pub mod faults;

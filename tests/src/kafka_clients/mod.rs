//! What the Kafka client laws stand on: the broker under test, rdkafka, kcat and Kafka's own tools.
//! The laws themselves are in `tests/kafka_clients.rs`.

pub mod child;
pub mod rd;
pub mod target;
pub mod tools;

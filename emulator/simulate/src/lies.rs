//! Planted faults at the seams: each is a lie that a backend tells, and that the judge must find. They show that it can.

use serde::Serialize;

/// What a backend says without it being true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // each name says it
pub enum Lie {
    DiskAcknowledgesUnsynced,
    QueueAcknowledgesUnsent,
    QueueForgetsAtReceive,
    QueueForgetsUnasked,
    QueueHidesForEver,
    QueueNeverForgets,
    QueueDamagesBodies,
    StoreIgnoresConditions,
    StoreForgetsWrites,
    SinkAcknowledgesUnwritten,
    SinkRefusesInOutages,
    SinkWritesTwice,
    SinkForgetsRevisions,
    SinkCutsValues,
    SinkWritesBackwards,
    StreamSkipsReadings,
}

impl Lie {
    /// Every lie.
    pub const ALL: [Lie; 16] = [
        Lie::DiskAcknowledgesUnsynced,
        Lie::QueueAcknowledgesUnsent,
        Lie::QueueForgetsAtReceive,
        Lie::QueueForgetsUnasked,
        Lie::QueueHidesForEver,
        Lie::QueueNeverForgets,
        Lie::QueueDamagesBodies,
        Lie::StoreIgnoresConditions,
        Lie::StoreForgetsWrites,
        Lie::SinkAcknowledgesUnwritten,
        Lie::SinkRefusesInOutages,
        Lie::SinkWritesTwice,
        Lie::SinkForgetsRevisions,
        Lie::SinkCutsValues,
        Lie::SinkWritesBackwards,
        Lie::StreamSkipsReadings,
    ];
}

//! With the built-in Kafka endpoint an alert's record lies on the disk that the queues are on: then new alerts stop at the
//! disk's floor as well, so that its reserve is left to what is queued [Q2]. With Kafka elsewhere they go on.

use streammanager::embedded::Embedded;
use streammanager::error::BackendError;

use super::Destination;

/// Whether new alerts may be taken in.
#[derive(Clone)]
pub(crate) struct Floor(Option<Embedded>);

impl Floor {
    /// `folder`: on the disk that the built-in endpoint writes to.
    pub(crate) fn of(destination: &Destination, folder: &Embedded) -> Floor {
        match destination {
            Destination::Embedded(_) => Floor(Some(folder.clone())),
            Destination::Brokers(_) | Destination::Kinesis(_) => Floor(None),
        }
    }

    /// # Errors
    /// `Retry`, with words for people.
    pub(crate) fn check(&self) -> Result<(), BackendError> {
        self.0.as_ref().map_or(Ok(()), Embedded::room)
    }
}

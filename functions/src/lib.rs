//! The eight functions as handlers: each translates an AWS event into one call of the library and its answer back. They
//! take their world as an argument; the Lambda binaries and the emulator call the very same ones.

pub mod batch;
pub mod control;
pub mod deliver;
pub mod express;
pub mod realtime;
pub mod redrive;
pub mod schedule;
pub mod stream;

pub mod confirm;
pub mod emf;
pub mod events;
#[cfg(feature = "lambda")]
pub mod failed;
#[cfg(feature = "lambda")]
pub mod iot;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod lost;
pub mod ready;
pub mod warm;
pub mod watch;

use streammanager::error::BackendError;

/// A handler failed as a whole: the trigger's own retry rules apply.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// What of it could not be read.
    #[error("the event is not one of this function's triggers: {0}")]
    UnknownEvent(String),
    /// Queue, store or sink could not do it; the event comes again.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl HandlerError {
    /// The `errorType` that Lambda tells.
    pub fn kind(&self) -> &'static str {
        match self {
            HandlerError::UnknownEvent(_) => "UnknownEvent",
            HandlerError::Backend(BackendError::Retry(_)) => "Retry",
            HandlerError::Backend(BackendError::Fatal(_)) => "Fatal",
        }
    }
}

impl From<serde_json::Error> for HandlerError {
    fn from(e: serde_json::Error) -> HandlerError {
        HandlerError::UnknownEvent(e.to_string())
    }
}

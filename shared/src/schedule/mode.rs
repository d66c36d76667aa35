//! Mode is derived, never configured [M1].

use std::time::Duration;

use serde::Serialize;

use super::file::StreamSpec;

/// How a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    Batch,
    Realtime,
    Streaming,
}

const BATCH_ABOVE: Duration = Duration::from_secs(3600);
const STREAMING_BELOW: Duration = Duration::from_secs(30);

impl Mode {
    /// Of a polled stream: what has an end is read as a batch, whatever its interval.
    pub(crate) fn of_stream(spec: &StreamSpec) -> Mode {
        if spec.polled.is_bounded() { Mode::Batch } else { Mode::of(spec.interval.get()) }
    }

    /// From a polled stream's interval; a push connector is always streaming.
    fn of(interval: Duration) -> Mode {
        match interval {
            _ if interval > BATCH_ABOVE => Mode::Batch,
            _ if interval < STREAMING_BELOW => Mode::Streaming,
            _ => Mode::Realtime,
        }
    }

    /// Why this stream has this mode.
    pub(crate) fn reason(self, spec: &StreamSpec) -> String {
        let seconds = spec.interval.get().as_secs();
        match self {
            Mode::Batch if spec.polled.is_bounded() => "what it asks for has an end".into(),
            Mode::Batch => format!("interval {seconds} s is more than 3600 s"),
            Mode::Realtime => format!("interval {seconds} s is from 30 s to 3600 s"),
            Mode::Streaming => format!("interval {seconds} s is less than 30 s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m1_the_bounds_are_where_the_row_puts_them() {
        let of = |seconds| Mode::of(Duration::from_secs(seconds));
        assert_eq!([of(1), of(29)], [Mode::Streaming; 2]);
        assert_eq!([of(30), of(60), of(3600)], [Mode::Realtime; 3]);
        assert_eq!([of(3601), of(86_400)], [Mode::Batch; 2]);
    }
}

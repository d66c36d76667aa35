//! Lambda's own bounds of an execution environment. Nothing here acts.

use std::time::Duration;

/// From the start of a process to its first `next`. Where it takes longer, Lambda starts it once more, within the time of
/// the invocation that waits for it.
pub const INIT: Duration = Duration::from_secs(10);
/// An event.
pub const REQUEST_BYTES: usize = 6_291_456;
/// An answer: the same and 100 bytes, as Lambda's own refusal says.
pub const RESPONSE_BYTES: usize = 6_291_556;
/// From SIGTERM to SIGKILL.
pub(super) const SHUTDOWN: Duration = Duration::from_secs(2);
/// How often a process that is not frozen is measured: a function that leaks gains some MiB in this time.
pub(super) const MEASURED: Duration = Duration::from_millis(50);
/// What a process has printed is read to its end within this time of its own end; a child of it may hold its output open.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

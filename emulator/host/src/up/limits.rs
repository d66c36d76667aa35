//! Every bound of the HTTP API's connections, each with its reason. The MQTT and Kafka endpoints have their own. Nothing here
//! acts.

use std::time::Duration;

use crate::runtime;

/// Connections that wait for a request or for their client to take an answer; of more the oldest goes. An honest client's
/// request comes with its first packet, and a burst of some hundred senders is no reason to cut one off.
pub(crate) const HTTP_WAITING: usize = 1024;
/// Requests at work: with those that wait, and the endpoints, below the descriptors that `up` asks for.
pub(crate) const HTTP_AT_WORK: usize = 512;
/// Of these for anything but `POST /alerts`: dashboards and scripts never keep an alert out.
pub(crate) const HTTP_OTHERS_AT_WORK: usize = 384;
/// From a connection's start, or its last answer, to the end of the next request's head.
pub(crate) const HTTP_HEAD_TIME: Duration = Duration::from_secs(5);
/// For a body of a quarter of a MiB, on a link of 25 kB/s.
pub(crate) const HTTP_BODY_TIME: Duration = Duration::from_secs(10);
/// A client that takes nothing of its answer for so long is gone.
pub(crate) const HTTP_ANSWER_TIME: Duration = Duration::from_secs(10);
/// For the answers under way when the system stops.
pub(crate) const HTTP_LAST_ANSWERS: Duration = Duration::from_secs(2);
/// What a function is given at once of a shard or a queue, as JSON: Lambda's own bound of an invocation. The largest readings
/// fill it with some thirty. An asynchronous one is bounded by what a queue takes, which is Lambda's bound as well: 1 MiB.
pub(crate) const EVENT_BYTES: usize = runtime::REQUEST_BYTES;
/// Asynchronous invocations of a function that are at work, wait for their turn or between two tries: what waits in their queue
/// after an outage never fills the memory. An alert is at work for milliseconds.
pub(crate) const INVOCATIONS_AT_WORK: usize = 64;
/// Messages of a queue that failed, whose first receive is remembered: beyond it the oldest ones seem to be received first when
/// they come again.
pub(crate) const FIRST_RECEIVES: usize = 10_000;
/// Records of a shard that are written as one item: the store takes 380 KiB, and one record has 180 KiB at most. Some hundred
/// readings share it when many come at once.
pub(crate) const BLOCK_BYTES: usize = 190 * 1024;
/// Unread records of one shard [Q2]: a minute of 2,500 readings a second while the queues behind it are full; the stream's four
/// shards stay far below what a host's disk has free. Whoever publishes beyond it waits.
pub(crate) const SHARD_BYTES: usize = 64 * 1024 * 1024;
/// Blocks that are read at once when a shard is opened: bounds what is in memory meanwhile.
pub(crate) const SHARD_OPENED: usize = 16;
/// When a connection cannot be accepted, mostly for want of descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Environments of a function that reserves none, with `--runtime process`: the number that an account has at first.
pub(crate) const UNRESERVED_ENVIRONMENTS: u32 = 10;
/// A call is refused for want of an environment only when those that have answered are not at their end after this: what a
/// function does then are the last tries of an alert, and they end within it.
pub(crate) const FINISHING: Duration = Duration::from_secs(10);
/// An idle environment is given up after so long, when another one becomes idle; Lambda does it after minutes, too.
pub(crate) const ENVIRONMENT_KEPT: Duration = Duration::from_secs(600);
/// For one that is made ready before any event needs it; Lambda gives it minutes.
pub(crate) const PROVISIONED_INIT: Duration = Duration::from_secs(60);

//! Every bound of the MQTT endpoint, each with its reason. Nothing here acts.

use std::time::Duration;

/// Bytes of a topic or filter. AWS IoT allows 256; local tests write longer ones, none near this.
pub(super) const TOPIC_BYTES: usize = 1024;
/// Levels of a topic or filter: the depth of the routing tree, hence of its recursion.
pub(super) const TOPIC_LEVELS: usize = 32;
/// Bytes of a client identifier (AWS IoT: 128).
pub(super) const CLIENT_ID_BYTES: usize = 256;
/// Topic aliases a version 5 client may set; each pins one topic in memory.
pub(super) const TOPIC_ALIASES: u16 = 16;
/// Deliveries of QoS 1 and 2 without acknowledgement to one client, whatever larger receive maximum it states.
pub(super) const SEND_WINDOW: u16 = 100;
/// Publishes of QoS 2 that one session has taken and its client has not released. Clients of 3.1.1 name no bound of their
/// own; those in use send at most some dozens before they release, and version 5 is held to `Limits::window`.
pub(super) const UNRELEASED_PUBLISHES: usize = 1024;
/// Clients named in the log, within `UNROUTED_MEMORY`, for publishing where no rule listens: a fleet's typing error is one
/// cause, not ten thousand lines.
pub(super) const UNROUTED_CLIENTS: usize = 256;
/// After a day such a client is named again: who reads the log today does not read yesterday's.
pub(super) const UNROUTED_MEMORY: Duration = Duration::from_secs(24 * 3600);
/// Bytes of the reason text sent with a refusal: a log line, not a document.
pub(super) const REASON_BYTES: usize = 200;

/// The bounds that an operator or a test may want to change.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections that have not said CONNECT yet; of more the oldest goes. An honest client says it with its first packet;
    /// after an outage of the network some hundred come at once, and none of them is cut off.
    pub arrivals: usize,
    /// From the accepted connection to the CONNACK: the slowest honest link needs a second or two.
    pub handshake: Duration,
    /// Connected clients without a name. All kinds together stay far below the descriptors that `up` asks for.
    pub strangers: usize,
    /// Further ones from this host: its own sensors come in although strangers fill their places.
    pub locals: usize,
    /// Connected clients that have proved a name. Strangers cannot take these places.
    pub named: usize,
    /// When all places of a kind are taken, the client goes that has neither published nor subscribed for the longest, if
    /// for so long; pings do not count. A sensor that reports every minute keeps its place.
    pub respite: Duration,
    /// A whole packet. AWS IoT allows 128 KiB.
    pub packet_bytes: usize,
    /// Publishes of one connection waiting for the gate: enough that many share one commit
    /// (rate = clients × window / commit time), stated to version 5 clients as the receive maximum.
    pub window: u16,
    /// Payload bytes of those publishes; at least one publish is always let in.
    pub window_bytes: usize,
    /// How long a publish waits for the answer of a gate, or is offered again to one that is busy, before its sender is told.
    pub busy_patience: Duration,
    /// Longest keep-alive, and the one of clients that ask for none, so that dead peers are noticed (AWS IoT: 1,200 s).
    pub keep_alive: Duration,
    /// A peer that takes nothing of what is to be written for so long is gone.
    pub write_stall: Duration,
    /// Bytes to be written beyond which neither deliveries are added nor packets read.
    pub outbox_bytes: usize,
    /// How long publishes in the window may still settle after their connection ended.
    pub drain: Duration,
    /// The same when the endpoint is told to stop.
    pub stop_grace: Duration,
    /// Messages waiting for one subscriber, connected or away.
    pub queued_messages: usize,
    /// Their payload bytes. Payloads are shared between subscribers.
    pub queued_bytes: usize,
    /// Sessions kept for clients without a name that are away; the one away longest goes first.
    pub sessions: usize,
    /// The same for clients with a name.
    pub named_sessions: usize,
    /// How long such a session is kept (AWS IoT: 1 h).
    pub session_expiry: Duration,
    /// Subscriptions of one session (AWS IoT: 50).
    pub subscriptions: usize,
    /// Retained messages, below `queued_messages` so that one subscription to `#` does not overflow its own queue.
    pub retained_messages: usize,
    /// Their payload bytes, below `queued_bytes` for the same reason.
    pub retained_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            arrivals: 1024,
            handshake: Duration::from_secs(5),
            strangers: 448,
            locals: 128,
            named: 128,
            respite: Duration::from_secs(90),
            packet_bytes: 128 * 1024,
            window: 256,
            window_bytes: 1024 * 1024,
            busy_patience: Duration::from_secs(300),
            keep_alive: Duration::from_secs(1200),
            write_stall: Duration::from_secs(30),
            outbox_bytes: 64 * 1024,
            drain: Duration::from_secs(10),
            stop_grace: Duration::from_secs(2),
            queued_messages: 1000,
            queued_bytes: 2 * 1024 * 1024,
            sessions: 192,
            named_sessions: 64,
            session_expiry: Duration::from_secs(3600),
            subscriptions: 64,
            retained_messages: 500,
            retained_bytes: 1024 * 1024,
        }
    }
}

//! The MQTT endpoint, 3.1.1 and 5 on one port: a QoS 1 publish is acknowledged after the gate has made it durable
//! [Q1]. Here are its public face and the accept loop; what a publish means is behind the gate, and TLS is not here.
//!
//! Served: every quality of service both ways, wildcard and shared subscriptions, subscription identifiers, topic aliases,
//! retained messages, last will, sessions that outlive connections; MQTT 3.1 as well. Refused on purpose: enhanced
//! authentication, publishes on `$…` (the gate decides), packets beyond `Limits::packet_bytes`, more subscriptions,
//! retained messages or sessions than the bounds say, and a keep-alive above `Limits::keep_alive`, which version 5 is told.
//! A version 5 client that sends more publishes of QoS 2 than the receive maximum is disconnected.
//!
//! The Eclipse interoperability suite (paho.mqtt.testing, `client_test.py` and `client_test5.py`) is its outside judge. It asks
//! for three things that stay as they are: a publish on `$…` is refused, which in 3.1.1 ends the connection; the keep-alive that
//! a client asks for is not cut to 60 s; and a subscription that is not granted is told 0x87 in version 5, not 0x80.
//!
//! Sessions, subscriptions and retained messages are kept in memory and end with the process.

mod aliases;
mod broker;
pub mod client;
mod connect;
mod connection;
mod decode;
mod encode;
mod ending;
mod frame;
mod handshake;
mod inbound;
mod limits;
mod message;
pub mod places;
mod publishes;
mod routes;
mod session;
#[cfg(test)]
mod tests;
mod topic;
mod unrouted;
mod vitals;
mod window;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use broker::Broker;
pub use limits::Limits;
use message::{Message, Qos};
use places::{Place, Places};
pub use topic::{BadTopic, Filter, matches};
use unrouted::Unrouted;

/// How long a leaving client is given to take the last bytes.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// A publish on its way in.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The topic, well formed and without wildcards; an alias is resolved.
    pub topic: String,
    /// Any bytes, within `Limits::packet_bytes`.
    pub payload: Bytes,
    /// Whatever id the client chose or was given.
    pub client_id: String,
    /// What `Gate::connect` said; `None` for a client without a name.
    pub identity: Option<Identity>,
    /// 0, 1 or 2, as the publisher asked; 0 for a last will, which nobody waits for.
    pub qos: u8,
    /// Kept for those who subscribe later.
    pub retain: bool,
    /// The client says that it sent this before.
    pub dup: bool,
    /// The gate was busy when this was offered to it before.
    pub again: bool,
}

/// Under which name a client acts, as its gate knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The user name that it proved.
    pub user: Arc<str>,
    /// What rules and functions see as the publisher.
    pub principal: Arc<str>,
}

/// What the gate did with a publish that it took. Either way the publish is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The actions of its rules are stored; subscribers get it now.
    Stored,
    /// Its actions are stored; subscribers do not get it from here, but what comes of it by `Endpoint::publish`.
    Withheld,
    /// No rule takes its topic: subscribers get it now and nobody else ever will. A version 5 publisher is told so when
    /// there are no subscribers either.
    NoRule,
}

/// Why the gate says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full: the connection stops reading and offers the publish again later.
    Busy,
    /// The client may not publish there: version 5 is told 0x87, and a connection of 3.1.1 ends.
    NotAuthorized,
    /// Never to be taken, and the gate has kept the bytes. A version 5 client is told the reason. To one of version 3.1.1,
    /// which cannot be told and would send the same bytes again for ever, it is acknowledged. Subscribers see nothing of it.
    Invalid(String),
}

/// What stands between clients and the system.
#[async_trait::async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Checks the user name and password of CONNECT; gives the name under which the client acts, `None` when it needs
    /// none.
    async fn connect(
        &self,
        client_id: &str,
        user: Option<&str>,
        password: Option<&[u8]>,
    ) -> Result<Option<Identity>, Refused>;

    /// Returns once every rule's action on this publish is durably stored: only then the PUBACK goes out.
    ///
    /// Many publishes of one connection are in here at the same time, begun in the order in which they came; a gate
    /// that must keep that order enqueues before it first waits. May be dropped half-way when the endpoint stops.
    async fn publish(&self, publish: Publish) -> Result<Taken, Refused>;

    /// Whether a client may subscribe to the filter at all. Called often and under a lock: decides from its arguments.
    fn may_subscribe(&self, identity: Option<&Identity>, filter: &Filter) -> bool;

    /// Whether messages of this topic may be handed to a client, whose wildcards cover more than it may see. Called
    /// for every delivery and under a lock: decides from its arguments.
    fn may_receive(&self, identity: Option<&Identity>, topic: &str) -> bool;
}

/// The endpoint. Clones share connections, sessions and retained messages.
#[derive(Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

struct Shared {
    gate: Arc<dyn Gate>,
    broker: Broker,
    limits: Limits,
    places: Rooms,
    unrouted: Unrouted,
}

/// Places by who may have them: nobody keeps out those for whom the next room is.
struct Rooms {
    /// Until CONNECT has come and is answered.
    arrivals: Places,
    /// Clients without a name.
    strangers: Places,
    /// Clients without a name on this host, once the strangers' places are taken.
    locals: Places,
    /// Clients that have proved a name: senders of alerts.
    named: Places,
}

impl Rooms {
    fn new(limits: &Limits) -> Rooms {
        Rooms {
            arrivals: Places::new(limits.arrivals, Duration::ZERO),
            strangers: Places::new(limits.strangers, limits.respite),
            locals: Places::new(limits.locals, limits.respite),
            named: Places::new(limits.named, limits.respite),
        }
    }

    fn for_client(&self, named: bool, local: bool) -> Option<Place> {
        if named {
            return self.named.take();
        }
        self.strangers.take().or_else(|| if local { self.locals.take() } else { None })
    }
}

/// What a connection runs on.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

impl Endpoint {
    /// An endpoint with the default bounds, whose publishes go through `gate`.
    pub fn new(gate: Arc<dyn Gate>) -> Endpoint {
        Endpoint::with_limits(gate, Limits::default())
    }

    /// An endpoint with other bounds.
    pub fn with_limits(gate: Arc<dyn Gate>, limits: Limits) -> Endpoint {
        let places = Rooms::new(&limits);
        let broker = Broker::new(gate.clone(), limits.clone());
        Endpoint { shared: Arc::new(Shared { gate, broker, limits, places, unrouted: Unrouted::default() }) }
    }

    /// Accepts connections until `stop`; returns when each of them has settled what it had in flight, for a short
    /// grace, and is closed.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let vitals = vitals::publish(&self);
        tokio::pin!(vitals);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                () = &mut vitals => break,
                accepted = listener.accept() => accepted,
            };
            let (socket, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: the connection stays in the backlog meanwhile.
                    tracing::warn!(%error, "MQTT connection not accepted");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Acknowledgements are small and waited for.
            let _ = socket.set_nodelay(true);
            connections.spawn(connection::run(self.shared.clone(), socket, from.ip().is_loopback(), stop.clone()));
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    /// Publishes from the system itself, such as `alerts/ack/{event_id}`: to subscribers at QoS 1, not through the gate.
    pub async fn publish(&self, topic: &str, payload: Bytes) {
        if let Err(error) = topic::check_topic(topic) {
            tracing::error!(topic, %error, "not published");
            return;
        }
        let message = Message {
            topic: topic.into(),
            payload,
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: Vec::new(),
            expires_at: None,
        };
        self.shared.broker.publish(None, message);
    }

    /// Clients connected now.
    pub fn connections(&self) -> usize {
        let rooms = &self.shared.places;
        rooms.strangers.taken() + rooms.locals.taken() + rooms.named.taken()
    }
}

/// Writes the last bytes, closes our side and reads on for a moment: closing a socket with unread input would reset the
/// connection, and the peer would not see what was written last.
async fn hang_up(socket: &mut impl Socket, last: &mut BytesMut) {
    let farewell = async {
        socket.write_all_buf(last).await?;
        socket.shutdown().await?;
        let mut ignored = [0; 4096];
        while socket.read(&mut ignored).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // Whether the peer takes it is the peer's affair.
    let _ = timeout(LAST_BYTES, farewell).await;
}

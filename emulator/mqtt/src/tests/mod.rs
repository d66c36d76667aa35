//! Tests of the endpoint as its clients see it. Packets are written by hand here, not with the crate that reads them.
//! Connections run over in-memory pipes under a paused clock, so "nothing arrives" is a fact once everything is idle.
#![allow(clippy::unwrap_used)]

mod acknowledgements;
mod client;
mod delivery;
mod exactly_once;
mod foreign;
mod handshakes;
mod malformed;
mod sessions;
mod tcp;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Endpoint, Filter, Gate, Identity, Limits, Publish, Refused, Taken, connection};
use client::{Client, Hello};

/// A gate that holds, refuses or is busy on demand.
#[derive(Default)]
struct TestGate {
    /// Publishes that were let through to storage, in order.
    stored: Mutex<Vec<Publish>>,
    holding: AtomicBool,
    held: Mutex<BTreeMap<Bytes, oneshot::Sender<()>>>,
    /// Answers "busy" while set.
    busy: AtomicBool,
    busy_answers: AtomicUsize,
    /// Topics refused, and why.
    refusals: Mutex<BTreeMap<String, Refused>>,
    /// What is said of the topics taken, where it is not `Stored`.
    taken: Mutex<BTreeMap<String, Taken>>,
}

#[async_trait::async_trait]
impl Gate for TestGate {
    async fn connect(
        &self,
        client_id: &str,
        user: Option<&str>,
        password: Option<&[u8]>,
    ) -> Result<Option<Identity>, Refused> {
        match (client_id, user, password) {
            ("busy", _, _) => Err(Refused::Busy),
            ("banned", _, _) => Err(Refused::Invalid("banned".into())),
            (_, None, None) => Ok(None),
            (_, Some(user), Some(b"secret")) => Ok(Some(Identity { user: user.into(), principal: user.into() })),
            _ => Err(Refused::NotAuthorized),
        }
    }

    async fn publish(&self, publish: Publish) -> Result<Taken, Refused> {
        if self.busy.load(Ordering::SeqCst) {
            self.busy_answers.fetch_add(1, Ordering::SeqCst);
            return Err(Refused::Busy);
        }
        if let Some(refused) = self.refusals.lock().get(&publish.topic) {
            return Err(refused.clone());
        }
        let taken = self.taken.lock().get(&publish.topic).copied().unwrap_or(Taken::Stored);
        let payload = publish.payload.clone();
        self.stored.lock().push(publish);
        if self.holding.load(Ordering::SeqCst) {
            let (release, released) = oneshot::channel();
            self.held.lock().insert(payload, release);
            released.await.expect("the gate is dropped after the endpoint");
        }
        Ok(taken)
    }

    fn may_subscribe(&self, identity: Option<&Identity>, filter: &Filter) -> bool {
        identity.is_some() || !filter.as_str().starts_with("secret/")
    }

    /// Below `secret/` for named clients, below `secret/USER` for that user alone.
    fn may_receive(&self, identity: Option<&Identity>, topic: &str) -> bool {
        let Some(below) = topic.strip_prefix("secret/") else { return true };
        identity
            .is_some_and(|identity| !below.starts_with("for-") || below.strip_prefix("for-") == Some(&*identity.user))
    }
}

impl TestGate {
    fn hold(&self) {
        self.holding.store(true, Ordering::SeqCst);
    }

    fn release(&self, payload: &str) {
        let release = self.held.lock().remove(payload.as_bytes()).expect("it is held");
        release.send(()).unwrap();
    }

    fn refuse(&self, topic: &str, refused: Refused) {
        self.refusals.lock().insert(topic.to_owned(), refused);
    }

    fn payloads(&self) -> Vec<String> {
        let stored = self.stored.lock();
        stored.iter().map(|publish| String::from_utf8_lossy(&publish.payload).into_owned()).collect()
    }
}

/// An endpoint whose clients are connected by in-memory pipes.
struct Bench {
    gate: Arc<TestGate>,
    endpoint: Endpoint,
    stop: CancellationToken,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Limits::default())
    }

    fn with(limits: Limits) -> Bench {
        let gate = Arc::new(TestGate::default());
        let endpoint = Endpoint::with_limits(gate.clone(), limits);
        Bench { gate, endpoint, stop: CancellationToken::new() }
    }

    /// A pipe to a new connection, and that connection's task.
    fn dial(&self) -> (Client<DuplexStream>, JoinHandle<()>) {
        // Small, as a client that does not read must be felt.
        let (ours, theirs) = tokio::io::duplex(8 * 1024);
        let task = tokio::spawn(connection::run(self.endpoint.shared.clone(), theirs, true, self.stop.clone()));
        (Client::new(ours), task)
    }

    /// A connected client, which has read its CONNACK.
    async fn connect(&self, hello: Hello) -> Client<DuplexStream> {
        let (mut client, _) = self.dial();
        let connack = client.connect(&hello).await;
        assert_eq!(connack.code(), 0, "accepted");
        client
    }
}

/// Lets every other task run until all of them wait: the paused clock only moves when nothing else can.
async fn idle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

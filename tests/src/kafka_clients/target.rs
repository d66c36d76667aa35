//! The broker that a law runs against: the embedded endpoint in this process, or a real one somewhere.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use streammanager_kafka_endpoint::{Broker, BrokerError};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub struct Target {
    pub address: String,
}

impl Target {
    /// A name that no other law and no earlier run used: a real broker keeps its topics and groups.
    pub fn unique(&self, what: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_micros();
        format!("{what}-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The endpoint in this process; it stops when told to, and ends with the test's runtime otherwise.
pub struct Embedded {
    pub target: Target,
    address: SocketAddr,
    stop: tokio_util::sync::CancellationToken,
    serving: JoinHandle<Result<(), BrokerError>>,
}

impl Embedded {
    /// On a free port.
    pub async fn start(folder: &Path) -> Self {
        Self::start_at(folder, ([127, 0, 0, 1], 0).into()).await
    }

    async fn start_at(folder: &Path, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let broker = Broker::open(folder, address).expect("the endpoint opens its folder");
        let stop = tokio_util::sync::CancellationToken::new();
        let serving = tokio::spawn(broker.serve(listener, stop.clone()));
        Self { target: Target { address: address.to_string() }, address, stop, serving }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        let stopped = tokio::time::timeout(Duration::from_secs(30), self.serving).await;
        stopped.expect("it stops when told to").expect("serving did not panic").expect("serving did not fail");
    }

    /// The same folder on the same address.
    pub async fn restart(self, folder: &Path) -> Self {
        let address = self.address;
        self.stop().await;
        Self::start_at(folder, address).await
    }
}

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

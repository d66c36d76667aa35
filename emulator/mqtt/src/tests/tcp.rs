//! The endpoint on a real port, with Mosquitto's clients where they are installed.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Client, V5, V311, hello};
use super::{Endpoint, Limits, TestGate};

struct Server {
    port: u16,
    gate: Arc<TestGate>,
    endpoint: Endpoint,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn serve(limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let gate = Arc::new(TestGate::default());
    let endpoint = Endpoint::with_limits(gate.clone(), limits);
    let stop = CancellationToken::new();
    let task = tokio::spawn(endpoint.clone().serve(listener, stop.clone()));
    Server { port, gate, endpoint, stop, task }
}

impl Server {
    async fn dial(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap())
    }

    async fn until_connections(&self, wanted: usize) {
        tokio::time::timeout(Duration::from_secs(20), async {
            while self.endpoint.connections() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn connections_are_counted_and_bounded_and_all_closed_on_stop() {
    let server = serve(Limits { strangers: 1, locals: 1, ..Limits::default() }).await;
    let (mut one, mut two, mut three) = (server.dial().await, server.dial().await, server.dial().await);
    assert_eq!(one.connect(&hello(V5, "1")).await.code(), 0);
    assert_eq!(two.connect(&hello(V311, "2")).await.code(), 0);
    assert_eq!(three.connect(&hello(V5, "3")).await.code(), 0x89, "one too many");
    assert_eq!(three.next().await, None);
    assert_eq!(server.endpoint.connections(), 2);
    drop(two);
    server.until_connections(1).await;
    let mut four = server.dial().await;
    assert_eq!(four.connect(&hello(V5, "4")).await.code(), 0);
    four.publish("t", "x", 1).await;
    assert_eq!(four.receive().await.acknowledged(), 1);
    server.stop.cancel();
    for client in [&mut one, &mut four] {
        assert_eq!(client.receive().await.reason(), 0x8b, "server shutting down");
        assert_eq!(client.next().await, None);
    }
    drop((one, four));
    server.task.await.unwrap();
    assert_eq!(server.endpoint.connections(), 0);
    assert!(TcpStream::connect(("127.0.0.1", server.port)).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn mosquitto_clients_publish_and_subscribe() {
    let installed = Command::new("mosquitto_sub").arg("--help").stdout(Stdio::null()).status().await;
    if installed.is_err() {
        eprintln!("SKIPPED mosquitto_clients_publish_and_subscribe: mosquitto_pub and mosquitto_sub are not installed");
        return;
    }
    let server = serve(Limits::default()).await;
    let port = server.port.to_string();
    for version in ["mqttv311", "mqttv5"] {
        let common = ["-V", version, "-p", &port, "-q", "1", "-u", "dev", "-P", "secret"];
        let kept = Command::new("mosquitto_pub").args(common).args(["-t", "m/kept", "-m", "kept", "-r"]).status().await;
        assert!(kept.unwrap().success());
        let mut subscriber = Command::new("mosquitto_sub")
            .args(common)
            .args(["-t", "m/#", "-C", "4", "-W", "20", "-F", "%t %q %r %p"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(subscriber.stdout.take().unwrap()).lines();
        // The retained message shows that the subscription stands.
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("m/kept 1 1 kept"), "{version}");
        for number in 1..=3 {
            let message = number.to_string();
            let sent = Command::new("mosquitto_pub").args(common).args(["-t", "m/x", "-m", &message]).status().await;
            assert!(sent.unwrap().success());
        }
        for expected in ["m/x 1 0 1", "m/x 1 0 2", "m/x 1 0 3"] {
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(expected), "{version}");
        }
        assert!(subscriber.wait().await.unwrap().success());
    }
    let stored = server.gate.stored.lock();
    assert_eq!(stored.len(), 8);
    assert!(stored.iter().all(|publish| publish.identity.as_ref().is_some_and(|of| &*of.user == "dev")));
}

#[tokio::test]
async fn a_burst_of_honest_clients_is_let_in_whole() {
    let server = serve(Limits::default()).await;
    let mut burst = Vec::new();
    for _ in 0..300 {
        burst.push(server.dial().await);
    }
    for (number, client) in burst.iter_mut().enumerate() {
        assert_eq!(client.connect(&hello(V311, &number.to_string())).await.code(), 0, "client {number}");
    }
    server.stop.cancel();
    drop(burst);
    server.task.await.unwrap();
}

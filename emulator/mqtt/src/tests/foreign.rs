//! The client against the endpoint, and against bytes that no broker sends.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::client::{V311, hello};
use super::{Bench, idle};
use crate::client::{Client, ClientError, Login};
use crate::connection;

fn login(client_id: &str, clean: bool) -> Login {
    Login { client_id: client_id.into(), user: None, clean, keep_alive: Duration::from_secs(30) }
}

async fn connect(bench: &Bench, login: &Login) -> Result<Client, ClientError> {
    let (ours, theirs) = tokio::io::duplex(8 * 1024);
    tokio::spawn(connection::run(bench.endpoint.shared.clone(), theirs, true, bench.stop.clone()));
    Client::connect(ours, login).await
}

fn filters(filter: &str) -> Vec<String> {
    vec![filter.to_owned()]
}

#[tokio::test(start_paused = true)]
async fn q1_what_the_client_did_not_acknowledge_comes_again_with_its_session() {
    let bench = Bench::new();
    let mut client = connect(&bench, &login("c", false)).await.unwrap();
    assert!(!client.session_present);
    client.subscribe(&filters("a/+")).await.unwrap();
    bench.endpoint.publish("a/1", "one".into()).await;
    bench.endpoint.publish("a/2", "two".into()).await;
    let (one, two) = (client.next().await.unwrap(), client.next().await.unwrap());
    assert_eq!((one.topic.as_str(), &one.payload[..], one.dup, one.retained), ("a/1", &b"one"[..], false, false));
    client.acknowledge(two.packet_id.unwrap()).await.unwrap();
    idle().await;
    drop(client);
    idle().await;
    bench.endpoint.publish("a/3", "three".into()).await;

    let mut client = connect(&bench, &login("c", false)).await.unwrap();
    assert!(client.session_present);
    // What the session brings comes before the answer to a new subscription, and is not lost by it.
    client.subscribe(&filters("b")).await.unwrap();
    let again = client.next().await.unwrap();
    assert_eq!((&again.payload[..], again.dup), (&b"one"[..], true));
    assert_eq!(&client.next().await.unwrap().payload[..], b"three");
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_brokers_refusals_are_told_in_its_words() {
    let bench = Bench::new();
    let wrong = Login { user: Some(("u".into(), Some(b"wrong".to_vec()))), ..login("c", true) };
    let refused = connect(&bench, &wrong).await.err().unwrap();
    assert!(matches!(refused, ClientError::Refused("not authorized" | "bad user name or password")), "{refused}");
    let mut client = connect(&bench, &login("d", true)).await.unwrap();
    let refused = client.subscribe(&filters("secret/x")).await.unwrap_err();
    assert_eq!(refused, ClientError::NotGranted("secret/x".into()));
    let mut client = connect(&bench, &login("e", true)).await.unwrap();
    client.ping().await.unwrap();
    idle().await;
    // The same client id from elsewhere takes the session over.
    let (mut other, _) = bench.dial();
    other.connect(&hello(V311, "e")).await;
    assert_eq!(client.next().await.unwrap_err(), ClientError::Closed);
}

#[tokio::test(start_paused = true)]
async fn a6_bytes_that_no_broker_sends_end_the_connection_with_words() {
    const CONNACK: &[u8] = &[0x20, 2, 0, 0];
    for (bytes, words) in [
        (&[0x30, 3, 0, 9, b'a'][..], "a message is cut off"),
        (&[0x34, 5, 0, 1, b'a', 0, 1], "quality of service that was not asked for"),
        (&[0x32, 5, 0, 1, b'a', 0, 0], "packet id 0"),
        (&[0x30, 3, 0, 1, 0xff], "not UTF-8"),
        (&[0x30, 3, 0, 1, b'#'], "wrong topic"),
        (&[0x30, 0xff, 0xff, 0xff, 0xff], "more than four bytes"),
        (&[0x90, 0xff, 0xff, 0xff, 0x7f], "a packet of 268435460 bytes that is no message"),
        (&[0x10, 0], "type 1 that is not valid here"),
        (&[0x20, 2, 0, 0, 0x30, 0], "a message is cut off"),
    ] {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(CONNACK).await.unwrap();
        let mut client = Client::connect(ours, &login("c", true)).await.unwrap();
        theirs.write_all(bytes).await.unwrap();
        let problem = client.next().await.unwrap_err().to_string();
        assert!(problem.contains(words), "{bytes:?}: {problem}");
    }
    let (ours, _theirs) = tokio::io::duplex(1024);
    assert_eq!(Client::connect(ours, &login("c", true)).await.err(), Some(ClientError::Silent));
}

#[tokio::test(start_paused = true)]
async fn q1_a_message_that_is_too_large_is_cut_and_what_comes_behind_it_is_read() {
    const CONNACK: &[u8] = &[0x20, 2, 0, 0];
    const SENT: usize = 3 * 1024 * 1024;
    let publish = |packet_id: u8, payload: usize| {
        let mut body = vec![0, 1, b'a', 0, packet_id];
        body.resize(body.len() + payload, b'x');
        super::client::packet(0x32, &body)
    };
    let (ours, mut theirs) = tokio::io::duplex(16 * 1024);
    let sent = [CONNACK, &publish(1, SENT), &publish(2, 10)].concat();
    tokio::spawn(async move {
        theirs.write_all(&sent).await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut client = Client::connect(ours, &login("c", true)).await.unwrap();
    // Whoever waits for it may turn to something else in between.
    let large = loop {
        match tokio::time::timeout(Duration::ZERO, client.next()).await {
            Ok(message) => break message.unwrap(),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!((large.topic.as_str(), large.packet_id, large.sent_bytes), ("a", Some(1), SENT));
    assert!(large.payload.len() < 600_000 && large.payload.iter().all(|byte| *byte == b'x'));
    let behind = client.next().await.unwrap();
    assert_eq!((behind.packet_id, behind.payload.len(), behind.sent_bytes), (Some(2), 10, 10));
}

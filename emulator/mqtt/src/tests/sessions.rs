//! What outlives a connection: sessions and last wills; and what two connections of one client do to each other.

use std::time::Duration;

use super::client::{V5, V311, hello, packet};
use super::{Bench, Limits, idle};

#[tokio::test(start_paused = true)]
async fn a_session_resumes_in_order_and_repeats_what_was_not_acknowledged() {
    for version in [V311, V5] {
        let bench = Bench::new();
        let mut publisher = bench.connect(hello(version, "p")).await;
        let (mut first, _) = bench.dial();
        assert!(!first.connect(&hello(version, "s").persistent()).await.session_present());
        first.subscribe(&[("t", 1)]).await;
        for id in 1..=3 {
            publisher.publish("t", &id.to_string(), id).await;
        }
        let sent = [first.delivery().await, first.delivery().await, first.delivery().await];
        first.acknowledge(sent[0].packet_id.unwrap()).await;
        first.ping().await;
        drop(first);
        idle().await;
        publisher.publish("t", "4", 4).await;
        publisher.publish("t", "at QoS 0", 0).await;
        publisher.publish("t", "5", 5).await;
        idle().await;

        let (mut second, _) = bench.dial();
        assert!(second.connect(&hello(version, "s").persistent()).await.session_present());
        for before in &sent[1..] {
            let again = second.delivery().await;
            assert!(again.dup, "sent before");
            assert_eq!((&again.payload, again.packet_id), (&before.payload, before.packet_id));
        }
        for payload in ["4", "5"] {
            let new = second.delivery().await;
            assert_eq!((new.payload.as_str(), new.dup), (payload, false));
        }
        second.ping().await;
        for id in 1..=8 {
            second.acknowledge(id).await;
        }
        second.ping().await;

        let (mut clean, _) = bench.dial();
        assert!(!clean.connect(&hello(version, "s")).await.session_present(), "a clean start forgets");
        publisher.publish("t", "6", 6).await;
        idle().await;
        clean.ping().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumed_session_of_version_5_keeps_to_the_receive_maximum() {
    let bench = Bench::new();
    let mut publisher = bench.connect(hello(V5, "p")).await;
    let mut first = bench.connect(hello(V5, "s").persistent()).await;
    first.subscribe(&[("t", 1)]).await;
    for id in 1..=4 {
        publisher.publish("t", &id.to_string(), id).await;
        first.delivery().await;
    }
    drop(first);
    idle().await;
    let mut modest = hello(V5, "s").persistent();
    modest.properties.extend([0x21, 0, 1]);
    let mut second = bench.connect(modest).await;
    for payload in ["1", "2", "3", "4"] {
        let delivered = second.delivery().await;
        assert_eq!((delivered.payload.as_str(), delivered.dup), (payload, true));
        second.expect_nothing().await;
        second.acknowledge(delivered.packet_id.unwrap()).await;
    }
    second.ping().await;
}

#[tokio::test(start_paused = true)]
async fn sessions_end_by_time_by_number_and_by_the_clients_word() {
    let bench = Bench::with(Limits { sessions: 2, ..Limits::default() });
    let comes_back = async |version: u8, id: &str| {
        let (mut client, _) = bench.dial();
        let present = client.connect(&hello(version, id).persistent()).await.session_present();
        drop(client);
        idle().await;
        present
    };
    assert!(!comes_back(V5, "256 s").await);
    tokio::time::sleep(Duration::from_secs(250)).await;
    assert!(comes_back(V5, "256 s").await);
    tokio::time::sleep(Duration::from_secs(257)).await;
    assert!(!comes_back(V5, "256 s").await, "expired");
    assert!(!comes_back(V311, "1 h").await);
    tokio::time::sleep(Duration::from_secs(3590)).await;
    assert!(comes_back(V311, "1 h").await);
    tokio::time::sleep(Duration::from_secs(3610)).await;
    assert!(!comes_back(V311, "1 h").await, "3.1.1 names no time: ours");

    for id in ["a", "b", "c"] {
        comes_back(V311, id).await;
    }
    assert!(comes_back(V311, "c").await);
    assert!(comes_back(V311, "b").await);
    assert!(!comes_back(V311, "a").await, "away longest: forgotten");

    let mut client = bench.connect(hello(V5, "leaves").persistent()).await;
    client.send(&packet(0xe0, &[0, 5, 0x11, 0, 0, 0, 0])).await;
    assert_eq!(client.rest().await, []);
    assert!(!comes_back(V5, "leaves").await, "its DISCONNECT gave the session up");
    let mut client = bench.connect(hello(V5, "regrets")).await;
    client.send(&packet(0xe0, &[0, 5, 0x11, 0, 0, 0, 9])).await;
    assert_eq!(client.receive().await.reason(), 0x82, "a session that was not to be kept cannot be");
}

#[tokio::test(start_paused = true)]
async fn messages_for_a_client_that_is_away_are_bounded_and_the_oldest_are_kept() {
    let bench = Bench::with(Limits { queued_messages: 3, ..Limits::default() });
    let mut publisher = bench.connect(hello(V311, "p")).await;
    bench.connect(hello(V311, "s").persistent()).await.subscribe(&[("t", 1)]).await;
    idle().await;
    for id in 1..=10 {
        publisher.publish("t", &id.to_string(), id).await;
        assert_eq!(publisher.receive().await.acknowledged(), id);
    }
    let mut back = bench.connect(hello(V311, "s").persistent()).await;
    for payload in ["1", "2", "3"] {
        assert_eq!(back.delivery().await.payload, payload);
    }
    back.ping().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_takes_over_from_the_old_one() {
    for version in [V311, V5] {
        for persistent in [true, false] {
            let bench = Bench::new();
            let who = || if persistent { hello(version, "c").persistent() } else { hello(version, "c") };
            let mut old = bench.connect(who().will("w", "taken over")).await;
            old.subscribe(&[("t", 1)]).await;
            let (mut new, _) = bench.dial();
            assert_eq!(new.connect(&who()).await.session_present(), persistent);
            if version == V5 {
                assert_eq!(old.receive().await.reason(), 0x8e, "session taken over");
            }
            assert_eq!(old.rest().await, []);
            drop(old);
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(bench.gate.payloads(), ["taken over"], "the old connection's last will");
            let mut publisher = bench.connect(hello(version, "p")).await;
            publisher.publish("t", "1", 1).await;
            publisher.receive().await;
            if persistent {
                assert_eq!(new.delivery().await.payload, "1", "the session's subscription now serves the new one");
            }
            new.ping().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_will_is_published_through_the_gate_unless_the_client_says_farewell() {
    for version in [V311, V5] {
        let bench = Bench::new();
        let mut subscriber = bench.connect(hello(version, "s")).await;
        subscriber.subscribe(&[("w/#", 1)]).await;
        let mut polite = bench.connect(hello(version, "polite").will("w/polite", "no")).await;
        polite.send(&[0xe0, 0]).await;
        assert_eq!(polite.rest().await, []);
        drop(bench.connect(hello(version, "dropped").will("w/dropped", "dropped")).await);
        assert_eq!(subscriber.delivery().await.payload, "dropped");
        let mut silent = hello(version, "silent").will("w/silent", "silent");
        silent.keep_alive = 1;
        let mut silent = bench.connect(silent).await;
        assert_eq!(subscriber.delivery().await.payload, "silent");
        silent.rest().await;
        let mut wrong = bench.connect(hello(version, "wrong").will("w/wrong", "wrong")).await;
        wrong.send(&[0, 0]).await;
        assert_eq!(subscriber.delivery().await.payload, "wrong");
        subscriber.ping().await;
        assert_eq!(bench.gate.payloads(), ["dropped", "silent", "wrong"]);
    }
    let bench = Bench::new();
    let mut leaving = bench.connect(hello(V5, "leaving").will("w", "asked for")).await;
    leaving.send(&packet(0xe0, &[4])).await;
    leaving.rest().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.gate.payloads(), ["asked for"], "DISCONNECT with will message");
}

#[tokio::test(start_paused = true)]
async fn a_delayed_will_is_dropped_when_its_client_comes_back_in_time() {
    for (back_after, expected) in [(5, vec![]), (60, vec!["delayed"])] {
        let bench = Bench::new();
        let mut delayed = hello(V5, "c").persistent().will("w", "delayed");
        delayed.will.as_mut().unwrap().4 = vec![0x18, 0, 0, 0, 30];
        drop(bench.connect(delayed).await);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(bench.gate.payloads(), [""; 0], "not yet");
        tokio::time::sleep(Duration::from_secs(back_after)).await;
        let mut back = bench.connect(hello(V5, "c").persistent()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(bench.gate.payloads(), expected);
        back.ping().await;
    }
}

#[tokio::test(start_paused = true)]
async fn e5_a_session_belongs_to_the_name_and_the_client_id_together() {
    for version in [V311, V5] {
        let bench = Bench::new();
        let mut named = hello(version, "station").persistent();
        named.login = Some(("butte".into(), "secret".into()));
        let mut station = bench.connect(named.clone()).await;
        assert_eq!(station.subscribe(&[("secret/ack", 1)]).await, [1]);
        let (mut stranger, _) = bench.dial();
        let answer = stranger.connect(&hello(version, "station").persistent()).await;
        assert_eq!((answer.code(), answer.session_present()), (0, false), "a session of its own");
        station.ping().await;
        drop(station);
        idle().await;
        bench.endpoint.publish("secret/ack", "confirmed".into()).await;
        drop(stranger);
        let (mut stranger, _) = bench.dial();
        stranger.connect(&hello(version, "station").persistent()).await;
        stranger.ping().await;
        let (mut clean, _) = bench.dial();
        assert!(!clean.connect(&hello(version, "station")).await.session_present());
        let mut other = named.clone();
        other.login = Some(("yuba".into(), "secret".into()));
        let (mut other_name, _) = bench.dial();
        assert!(!other_name.connect(&other).await.session_present(), "another name is another client");
        other_name.ping().await;
        let (mut station, _) = bench.dial();
        assert!(station.connect(&named).await.session_present(), "nobody took or cleared it");
        assert_eq!(station.delivery().await.payload, "confirmed");
    }
}

//! CONNECT and what becomes of it: refusals, limits told to the client, keep-alive.

use std::time::Duration;

use super::client::{Hello, V5, V311, hello, packet, text};
use super::{Bench, Limits};

fn with_login(mut hello: Hello, user: &str, password: &str) -> Hello {
    hello.login = Some((user.to_owned(), password.to_owned()));
    hello
}

#[tokio::test(start_paused = true)]
async fn the_gate_decides_who_may_connect_and_names_the_principal() {
    for (version, not_authorized, busy, id_not_valid) in [(V311, 5, 3, 2), (V5, 0x87, 0x89, 0x85)] {
        let bench = Bench::new();
        let refusals = [
            (with_login(hello(version, "c"), "dev", "wrong"), not_authorized),
            (hello(version, "busy"), busy),
            (hello(version, "banned"), id_not_valid),
        ];
        for (hello, code) in refusals {
            let (mut client, _) = bench.dial();
            assert_eq!(client.connect(&hello).await.code(), code);
            assert_eq!(client.rest().await, []);
        }
        let mut client = bench.connect(with_login(hello(version, "c"), "dev", "secret")).await;
        client.send(&super::client::publish(version, "t", "1", 1)).await;
        assert_eq!(client.receive().await.acknowledged(), 1);
        let stored = bench.gate.stored.lock();
        assert_eq!(
            (stored[0].client_id.as_str(), stored[0].identity.as_ref().map(|of| &*of.principal)),
            ("c", Some("dev"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_5_client_is_told_the_limits() {
    let bench = Bench::with(Limits { window: 7, packet_bytes: 0x12345, ..Limits::default() });
    let (mut client, _) = bench.dial();
    let mut nameless = hello(V5, "");
    nameless.properties = vec![0x11, 0xff, 0xff, 0xff, 0xff];
    let connack = client.connect(&nameless).await;
    let told = [
        &[0x11, 0, 0, 0x0e, 0x10][..],
        &[0x21, 0, 7],
        &[0x27, 0, 1, 0x23, 0x45],
        &[0x22, 0, 16],
        &[0x13, 0x04, 0xb0],
        &[0x12, 0, 37],
        b"auto-",
    ]
    .concat();
    let properties = &connack.body[3..];
    assert_eq!(&properties[..told.len()], told, "expiry, window, size, aliases, keep-alive, id");
    assert_eq!(properties.len(), told.len() + 32);
}

#[tokio::test(start_paused = true)]
async fn connects_that_cannot_be_served_are_refused_each_in_its_way() {
    let mut other_level = hello(3, "c").packet();
    let old_name = packet(0x10, &[&text("MQIsdp")[..], &[4, 2, 0, 0], &text("c")].concat());
    let anonymous = |version| Hello { clean: false, ..hello(version, "") };
    let will = |version, topic: &str, qos| {
        let mut hello = hello(version, "c").will(topic, "x");
        hello.will.as_mut().unwrap().2 = qos;
        hello.packet()
    };
    let with = |properties: &[u8]| Hello { properties: properties.to_vec(), ..hello(V5, "c") }.packet();
    let flags = |version, flags: u8| {
        let mut connect = hello(version, "c").packet();
        connect[9] = flags;
        connect
    };
    let trailing = |version| {
        let mut connect = hello(version, "c").packet();
        connect[1] += 1;
        connect.push(0);
        connect
    };
    let long_id = "x".repeat(257);
    let table: Vec<(&str, Vec<u8>, Option<u8>)> = vec![
        ("protocol level 3", std::mem::take(&mut other_level), Some(1)),
        ("MQIsdp of another level", old_name, Some(1)),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec(), None),
        ("PUBLISH first", packet(0x30, b"\0\x01a"), None),
        ("PINGREQ first", vec![0xc0, 0], None),
        ("200 MB", vec![0x10, 0xff, 0xff, 0xff, 0x5f], None),
        ("3.1.1 without id and clean session", anonymous(V311).packet(), Some(2)),
        ("3.1.1 long id", hello(V311, &long_id).packet(), Some(2)),
        ("3.1.1 NUL in id", hello(V311, "a\0b").packet(), Some(2)),
        ("3.1.1 will topic", will(V311, "a/#", 1), None),
        ("3.1.1 will QoS 3", will(V311, "a", 3), None),
        ("3.1.1 reserved flag", flags(V311, 0x03), None),
        ("3.1.1 will retain without will", flags(V311, 0x22), None),
        ("3.1.1 password without user", flags(V311, 0x42), Some(4)),
        ("3.1.1 trailing byte", trailing(V311), None),
        ("5 long id", hello(V5, &long_id).packet(), Some(0x85)),
        ("5 NUL in user name", with_login(hello(V5, "c"), "a\0", "secret").packet(), Some(0x86)),
        ("5 will topic", will(V5, "a/+", 1), Some(0x90)),
        ("5 will QoS 3", will(V5, "a", 3), Some(0x81)),
        ("5 reserved flag", flags(V5, 0x03), Some(0x81)),
        ("5 trailing byte", trailing(V5), Some(0x81)),
        ("5 enhanced authentication", with(&[&[0x15][..], &text("SCRAM")].concat()), Some(0x8c)),
        ("5 receive maximum 0", with(&[0x21, 0, 0]), Some(0x82)),
        ("5 maximum packet size 0", with(&[0x27, 0, 0, 0, 0]), Some(0x82)),
        ("5 a property twice", with(&[0x21, 0, 1, 0x21, 0, 1]), Some(0x82)),
        ("5 a property of another packet", with(&[0x23, 0, 1]), Some(0x82)),
    ];
    let bench = Bench::new();
    for (what, bytes, code) in table {
        let (mut client, task) = bench.dial();
        client.send(&bytes).await;
        let answer = client.rest().await;
        let codes: Vec<u8> = answer.iter().map(|packet| packet.code()).collect();
        assert_eq!(codes, code.into_iter().collect::<Vec<_>>(), "{what}");
        drop(client);
        task.await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_say_connect_in_time_is_closed() {
    let bench = Bench::new();
    let (mut client, task) = bench.dial();
    client.send(&hello(V311, "c").packet()[..5]).await;
    tokio::time::sleep(Duration::from_millis(4_900)).await;
    assert!(!task.is_finished());
    assert_eq!(client.rest().await, []);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    for (version, asked, allowed) in [(V311, 10, 15), (V5, 10, 15), (V311, 0, 1800), (V311, 9999, 1800)] {
        let bench = Bench::new();
        let (mut client, task) = bench.dial();
        client.connect(&Hello { keep_alive: asked, ..hello(version, "c") }).await;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(allowed * 1000 - 100)).await;
            client.ping().await;
        }
        tokio::time::sleep(Duration::from_millis(allowed * 1000 - 100)).await;
        assert!(!task.is_finished(), "not yet");
        tokio::time::sleep(Duration::from_millis(200)).await;
        if version == V5 {
            assert_eq!(client.receive().await.reason(), 0x8d, "keep-alive timeout");
        }
        assert_eq!(client.rest().await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_bytes_is_given_up() {
    let bench = Bench::new();
    let (mut client, task) = bench.dial();
    client.connect(&hello(V311, "c")).await;
    // More answers than the pipe holds, none of them read.
    for _ in 0..8_000 {
        client.send(&[0xc0, 0]).await;
    }
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(!task.is_finished());
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_is_served_under_its_old_name() {
    let bench = Bench::new();
    for present in [false, true] {
        let (mut client, _) = bench.dial();
        client.send(&packet(0x10, &[&text("MQIsdp")[..], &[3, 0, 0, 60], &text("old")].concat())).await;
        assert_eq!(client.receive().await.body, [0, 0], "its second byte is reserved, also when present is {present}");
        client.publish("t", "x", 1).await;
        assert_eq!(client.receive().await.acknowledged(), 1);
        drop(client);
        super::idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_never_take_the_places_of_named_clients_and_the_silent_go_first() {
    let limits = Limits { strangers: 2, locals: 1, named: 1, ..Limits::default() };
    for (version, busy) in [(V311, 3), (V5, 0x89)] {
        let bench = Bench::with(limits.clone());
        let mut crowd = Vec::new();
        for id in ["1", "2", "3 is on this host"] {
            crowd.push(bench.connect(hello(version, id)).await);
        }
        let (mut fourth, _) = bench.dial();
        assert_eq!(fourth.connect(&hello(version, "4")).await.code(), busy, "each has just come");
        let mut named = bench.connect(with_login(hello(version, "sender"), "butte", "secret")).await;
        tokio::time::sleep(Duration::from_secs(89)).await;
        crowd[0].publish("t", "x", 1).await;
        crowd[0].receive().await;
        crowd[1].ping().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut newcomer = bench.connect(hello(version, "5")).await;
        if version == V5 {
            assert_eq!(crowd[1].receive().await.reason(), 0x89, "pings say nothing");
        }
        assert_eq!(crowd[1].rest().await, []);
        for client in [&mut newcomer, &mut named] {
            client.ping().await;
        }
        crowd[0].ping().await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_too_many_connections_that_do_not_say_connect_the_oldest_goes() {
    let bench = Bench::with(Limits { arrivals: 3, ..Limits::default() });
    let mut silent: Vec<_> = (0..3).map(|_| bench.dial()).collect();
    super::idle().await;
    bench.connect(hello(V311, "speaks")).await.ping().await;
    assert_eq!(silent[0].0.rest().await, []);
    super::idle().await;
    assert!(!silent[1].1.is_finished() && !silent[2].1.is_finished());
}

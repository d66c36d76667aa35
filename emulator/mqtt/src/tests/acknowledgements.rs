//! When a publish is acknowledged: after the gate, in order, within the window.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::client::{Hello, Packet, V5, V311, hello, publish};
use super::{Bench, Limits, Refused, idle};

#[tokio::test(start_paused = true)]
async fn a_puback_waits_for_the_gate_and_keeps_the_order_of_publishes() {
    for version in [V311, V5] {
        let bench = Bench::new();
        bench.gate.hold();
        let mut client = bench.connect(hello(version, "c")).await;
        for id in 1..=3 {
            client.publish("t", &id.to_string(), id).await;
        }
        // The answered ping shows that the server has read on; no PUBACK came before it.
        client.ping().await;
        assert_eq!(bench.gate.payloads(), ["1", "2", "3"], "all three are in the gate together");
        bench.gate.release("3");
        bench.gate.release("2");
        idle().await;
        client.ping().await;
        bench.gate.release("1");
        for id in 1..=3 {
            assert_eq!(client.receive().await.acknowledged(), id);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn publishes_in_flight_are_bounded_by_number_and_by_bytes() {
    let by_number = Limits { window: 4, ..Limits::default() };
    let by_bytes = Limits { window_bytes: 4 * 1000, ..Limits::default() };
    for limits in [by_number, by_bytes] {
        let bench = Bench::with(limits);
        bench.gate.hold();
        let mut client = bench.connect(hello(V311, "c")).await;
        let payload = |id: u16| format!("{id:01000}");
        for id in 1..=7 {
            client.publish("t", &payload(id), id).await;
        }
        idle().await;
        assert_eq!(bench.gate.payloads().len(), 4, "the window is full");
        client.send(&[0xc0, 0]).await;
        client.expect_nothing().await;
        bench.gate.release(&payload(1));
        assert_eq!(client.receive().await.acknowledged(), 1);
        idle().await;
        assert_eq!(bench.gate.payloads().len(), 5, "one left, one was let in");
        for id in 2..=7 {
            bench.gate.release(&payload(id));
            idle().await;
        }
        let mut answers = Vec::new();
        for _ in 0..7 {
            answers.push(client.receive().await.kind());
        }
        let ping = answers.iter().position(|kind| *kind == 13).unwrap();
        assert!(
            ping >= 2,
            "read after the seventh publish was let in, so after the third acknowledgement: {answers:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_gate_stops_reading_freezes_keep_alive_and_loses_nothing() {
    let bench = Bench::new();
    let mut client = bench.connect(Hello { keep_alive: 10, ..hello(V311, "c") }).await;
    bench.gate.busy.store(true, Ordering::SeqCst);
    client.publish("t", "1", 1).await;
    idle().await;
    let mut rest = Vec::new();
    for id in 2..=50 {
        rest.extend(publish(V311, "t", &id.to_string(), id));
    }
    rest.extend([0xc0, 0]);
    client.send(&rest).await;
    client.expect_nothing().await;
    // Far beyond one and a half times the keep-alive.
    tokio::time::sleep(Duration::from_secs(120)).await;
    client.expect_nothing().await;
    assert!(bench.gate.busy_answers.load(Ordering::SeqCst) > 10, "it was offered again");
    assert_eq!(bench.gate.payloads(), [""; 0]);
    bench.gate.busy.store(false, Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    for _ in 0..51 {
        let answer = client.receive().await;
        if answer.kind() != 13 {
            acknowledged.push(answer.acknowledged());
        }
    }
    assert_eq!(acknowledged, (1..=50).collect::<Vec<_>>(), "all, in order, beside the PINGRESP");
    let expected: Vec<String> = (1..=50).map(|id| id.to_string()).collect();
    assert_eq!(bench.gate.payloads(), expected, "each once, in order");
    let again: Vec<bool> = bench.gate.stored.lock().iter().map(|publish| publish.again).collect();
    assert!(again[0] && !again[49], "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_gate_busy_or_silent_beyond_patience_is_told_to_the_sender() {
    for is_silent in [false, true] {
        let limits = Limits { busy_patience: Duration::from_secs(5), ..Limits::default() };
        let bench = Bench::with(limits);
        if is_silent {
            bench.gate.hold();
        } else {
            bench.gate.busy.store(true, Ordering::SeqCst);
        }
        let mut newer = bench.connect(hello(V5, "newer")).await;
        newer.publish("t", "1", 1).await;
        assert_eq!(newer.receive().await, Packet { first: 0x40, body: vec![0, 1, 0x97] });
        newer.ping().await;
        let mut older = bench.connect(hello(V311, "older")).await;
        older.publish("t", "1", 1).await;
        assert_eq!(older.rest().await, [], "3.1.1 has no word for it: closed without PUBACK");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_publishes_get_their_reason_or_close_the_connection() {
    let bench = Bench::new();
    bench.gate.refuse("secret", Refused::NotAuthorized);
    bench.gate.refuse("bad", Refused::Invalid("no JSON".into()));
    let mut newer = bench.connect(hello(V5, "newer")).await;
    newer.publish("secret", "1", 1).await;
    assert_eq!(newer.receive().await, Packet { first: 0x40, body: vec![0, 1, 0x87] });
    newer.publish("bad", "2", 2).await;
    let told = [&[0, 2, 0x99, 10, 0x1f, 0, 7][..], b"no JSON"].concat();
    assert_eq!(newer.receive().await, Packet { first: 0x40, body: told });
    newer.publish("secret", "at QoS 0: dropped", 0).await;
    newer.publish("good", "3", 3).await;
    assert_eq!(newer.receive().await.acknowledged(), 3, "the connection goes on");

    let mut all = bench.connect(hello(V311, "all")).await;
    all.subscribe(&[("#", 0)]).await;
    let mut older = bench.connect(hello(V311, "older")).await;
    older
        .send(&[publish(V311, "good", "4", 4), publish(V311, "bad", "5", 5), publish(V311, "secret", "6", 6)].concat())
        .await;
    older.send(&publish(V311, "good", "7", 7)).await;
    assert_eq!(older.receive().await.acknowledged(), 4);
    assert_eq!(older.receive().await.acknowledged(), 5, "it is kept, and would come again for ever");
    assert_eq!(older.rest().await, [], "nothing after the refused one is acknowledged");
    assert_eq!(bench.gate.payloads(), ["3", "4", "7"]);
    assert_eq!(all.delivery().await.payload, "4", "subscribers see what was accepted");
    assert_eq!(all.delivery().await.payload, "7");
}

#[tokio::test(start_paused = true)]
async fn publishes_at_qos_0_go_through_the_gate_even_when_their_client_leaves_at_once() {
    let bench = Bench::new();
    bench.gate.hold();
    let mut other = bench.connect(hello(V311, "other")).await;
    other.subscribe(&[("t", 0)]).await;
    let mut client = bench.connect(hello(V311, "c")).await;
    client.publish("t", "1", 0).await;
    client.send(&[0xe0, 0]).await;
    assert_eq!(client.rest().await, []);
    idle().await;
    assert_eq!(bench.gate.payloads(), ["1"]);
    other.expect_nothing().await;
    bench.gate.release("1");
    assert_eq!(other.delivery().await.payload, "1", "spread after the gate, though the publisher has left");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_when_a_client_half_closes_is_still_acknowledged() {
    use tokio::io::AsyncWriteExt;
    let bench = Bench::new();
    bench.gate.hold();
    let mut client = bench.connect(hello(V311, "c")).await;
    client.publish("t", "1", 1).await;
    client.socket.shutdown().await.unwrap();
    idle().await;
    bench.gate.release("1");
    assert_eq!(client.receive().await.acknowledged(), 1);
    assert_eq!(client.rest().await, []);
}

#[tokio::test(start_paused = true)]
async fn on_stop_what_settles_within_the_grace_is_acknowledged_and_the_client_told() {
    let bench = Bench::new();
    bench.gate.hold();
    let (mut client, task) = bench.dial();
    client.connect(&hello(V5, "c").will("w", "must not be published")).await;
    client.publish("t", "1", 1).await;
    client.publish("t", "2", 2).await;
    client.ping().await;
    bench.stop.cancel();
    idle().await;
    bench.gate.release("1");
    assert_eq!(client.receive().await.acknowledged(), 1);
    assert_eq!(client.receive().await.reason(), 0x8b, "server shutting down; 2 is not acknowledged");
    assert_eq!(client.rest().await, []);
    drop(client);
    task.await.unwrap();
    assert_eq!(bench.gate.payloads(), ["1", "2"], "no last will on stop");
}

#[tokio::test(start_paused = true)]
async fn a_last_will_comes_to_the_gate_as_what_nobody_waits_for() {
    let bench = Bench::new();
    let (mut client, task) = bench.dial();
    client.connect(&hello(V311, "c").will("w", "will")).await;
    drop(client);
    task.await.unwrap();
    let stored = bench.gate.stored.lock();
    assert_eq!(stored.iter().map(|will| (&will.payload[..], will.qos)).collect::<Vec<_>>(), [(&b"will"[..], 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_never_answers_does_not_hold_a_connection_for_ever() {
    for stop in [true, false] {
        let bench = Bench::new();
        bench.gate.hold();
        let (mut client, task) = bench.dial();
        client.connect(&hello(V311, "c").will("w", "will")).await;
        client.publish("t", "1", 1).await;
        client.ping().await;
        drop(client);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!task.is_finished(), "it may still settle");
        if stop {
            bench.stop.cancel();
        }
        tokio::time::sleep(Duration::from_secs(if stop { 5 } else { 20 })).await;
        assert!(task.is_finished());
    }
}

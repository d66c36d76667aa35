//! What every queue must do, as laws over the trait; each runs on a queue of its own name. Laws wait in tokio time, so a
//! paused clock runs them in no time and a real endpoint in seconds. Nothing here knows an implementation.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::{Body, Delivery, Depth, Message, Queue, QueueRef, Receipt, Remains, SendError, Settle};
use crate::limits;

/// Long enough for a real endpoint to act within, short enough to wait for; whole seconds, as SQS has them.
pub const VISIBILITY: Duration = Duration::from_secs(3);
/// Endpoints end a visibility or a delay up to a second late.
const LATE: Duration = Duration::from_millis(1_500);
/// The longest wait for a message that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than one call to an endpoint may take that does not wait.
const CALL: Duration = Duration::from_secs(7);

/// An implementation under test.
#[async_trait]
pub trait TestQueues: Send + Sync {
    /// The queues as they are now; after a crash others.
    fn queue(&self) -> Arc<dyn Queue>;

    /// The queue of this name, made as its [`Spec`] says and used by nobody else.
    fn at(&self, name: &str) -> QueueRef;

    /// Kills the implementation and starts it on what it left. `false`: it cannot; the law ends there.
    async fn crash(&self) -> bool {
        false
    }

    /// Whether it enforces the spec's capacity itself.
    fn bounded(&self) -> bool {
        false
    }

    /// Whether a stale receipt certainly changes nothing. Of a standard queue SQS only says that a message deleted by an
    /// older receipt handle "might not be deleted".
    fn fences(&self) -> bool {
        true
    }

    /// Whether a receive that waits can be told to wait no longer.
    fn ends_waits(&self) -> bool {
        false
    }

    /// How long after the last change counts may still be wrong.
    fn counts_within(&self) -> Duration {
        Duration::ZERO
    }
}

/// How a law wants its queue made, beside [`VISIBILITY`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name, without the implementation's prefix.
    pub name: &'static str,
    /// How many messages it holds at most; `None`: the implementation's own bound.
    pub capacity: Option<u64>,
    /// The dead-letter queue's name and the receives that come before it.
    pub dead_letters: Option<(&'static str, u32)>,
}

/// One law at work.
pub type Run<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
/// A law's name, which also names its queues, and the law.
pub type Law = (&'static str, for<'a> fn(&'a dyn TestQueues) -> Run<'a>);

macro_rules! laws {
    ($($name:ident),+ $(,)?) => {
        /// Every law; each must hold on every implementation.
        pub const LAWS: &[Law] = &[$((stringify!($name), |world| Box::pin($name(world, stringify!($name))))),+];
    };
}

laws![
    sent_is_received_once_with_its_data,
    binary_and_text_come_back_exactly,
    order_is_roughly_kept,
    a_receive_hides,
    visibility_ends_and_receives_count,
    extend_keeps_hidden,
    extend_by_nothing_shows,
    release_shows_at_once,
    forgotten_is_forgotten,
    a_stale_receipt_changes_nothing,
    nonsense_receipts_are_no_error,
    mixed_settling_does_each,
    what_remains_replaces_a_message,
    a_stale_receipt_replaces_nothing,
    a_delay_hides,
    an_empty_receive_waits,
    an_empty_receive_without_wait_returns,
    an_ended_wait_brings_nothing_and_loses_nothing,
    a_send_wakes_a_receive,
    a_release_wakes_a_receive,
    an_ended_visibility_wakes_a_receive,
    receive_gives_ten_at_most,
    many_in_one_send,
    too_large_is_refused_alone,
    the_largest_is_taken,
    depth_counts,
    two_receivers_share,
    too_often_received_goes_to_dead_letters,
    full_is_refused_and_room_taken_again,
    a_crash_loses_nothing_and_revives_nothing,
    a_crash_keeps_a_delay,
    a_crash_keeps_what_remains,
];

/// Every queue the laws use.
pub fn specs() -> Vec<Spec> {
    let plain = |name| Spec { name, capacity: None, dead_letters: None };
    let mut specs: Vec<Spec> = LAWS.iter().map(|(name, _)| plain(*name)).collect();
    for spec in &mut specs {
        match spec.name {
            "full_is_refused_and_room_taken_again" => spec.capacity = Some(5),
            "too_often_received_goes_to_dead_letters" => spec.dead_letters = Some(("dead_letters", 2)),
            _ => {}
        }
    }
    // First, for whoever makes them in order.
    specs.insert(0, plain("dead_letters"));
    specs
}

/// Runs every law; side by side, for most of a law is waiting.
pub async fn run(world: &dyn TestQueues) {
    // Those that crash the world come last and alone.
    let (crashing, others): (Vec<Law>, Vec<Law>) = LAWS.iter().partition(|(name, _)| name.starts_with("a_crash"));
    join_all(others.iter().map(|(name, law)| named(name, law(world)))).await;
    for (name, law) in crashing {
        named(name, law(world)).await;
    }
}

async fn named(name: &str, law: Run<'_>) {
    law.await;
    println!("ok: {name}");
}

async fn sent_is_received_once_with_its_data(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["one"]).await;
    let got = receive(&*queue, &at, 1).await;
    assert_eq!(texts(&got), ["one"]);
    assert_eq!(got[0].receives, 1);
    assert!(!got[0].id.is_empty());
    forget(&*queue, &at, &got).await;
    assert_eq!(queue.receive(&at, 10, Duration::ZERO).await.expect("receive"), [], "it was there twice");
}

async fn binary_and_text_come_back_exactly(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let every_byte: Vec<u8> = (0..=255).collect();
    let bodies = [
        Body::Binary(Bytes::from(every_byte)),
        Body::Text("Grüße, 火災 🔥 \t\n\r \"quoted\" <&> \\".into()),
        Body::Text("control \u{1}\u{0}\u{b}\u{fffe} characters".into()),
        Body::Text("AAEC".into()),
        Body::Binary(Bytes::from_static(b"AAEC")),
    ];
    let messages: Vec<Message> = bodies.iter().cloned().map(Message::now).collect();
    all_taken(queue.send(&at, &messages).await);
    let got = receive(&*queue, &at, bodies.len()).await;
    for body in &bodies {
        assert!(got.iter().any(|delivery| delivery.body == *body), "{body:?} is not among {got:?}");
    }
}

async fn order_is_roughly_kept(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let sent: Vec<String> = (0..60).map(|n| format!("{n:02}")).collect();
    for ten in sent.chunks(10) {
        send(&*queue, &at, ten).await;
    }
    let got = texts(&receive(&*queue, &at, 60).await);
    // Without any order a message stands 20 places away from its own on average.
    let astray: usize = got.iter().enumerate().map(|(i, text)| text.parse::<usize>().unwrap_or(0).abs_diff(i)).sum();
    assert!(astray / got.len() <= 10, "{got:?}");
}

async fn a_receive_hides(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["one"]).await;
    receive(&*queue, &at, 1).await;
    assert_eq!(queue.receive(&at, 10, Duration::ZERO).await.expect("receive"), []);
}

async fn visibility_ends_and_receives_count(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["one"]).await;
    let first = receive(&*queue, &at, 1).await;
    for receives in 2..=3 {
        sleep(VISIBILITY + LATE).await;
        let again = receive(&*queue, &at, 1).await;
        assert_eq!((&again[0].id, again[0].receives), (&first[0].id, receives));
        assert_eq!(again[0].sent_at, first[0].sent_at);
        assert_ne!(again[0].receipt, first[0].receipt);
    }
}

async fn extend_keeps_hidden(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["one"]).await;
    let got = receive(&*queue, &at, 1).await;
    settle(&*queue, &at, &got, Settle::Extend(VISIBILITY * 3)).await;
    sleep(VISIBILITY + LATE).await;
    assert_eq!(queue.receive(&at, 10, Duration::ZERO).await.expect("receive"), []);
    sleep(VISIBILITY * 2).await;
    assert_eq!(texts(&receive(&*queue, &at, 1).await), ["one"]);
}

async fn extend_by_nothing_shows(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["one"]).await;
    let got = receive(&*queue, &at, 1).await;
    settle(&*queue, &at, &got, Settle::Extend(Duration::from_secs(600))).await;
    settle(&*queue, &at, &got, Settle::Extend(Duration::ZERO)).await;
    assert_eq!(receive(&*queue, &at, 1).await[0].receives, 2);
}

async fn release_shows_at_once(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["one"]).await;
    let got = receive(&*queue, &at, 1).await;
    settle(&*queue, &at, &got, Settle::Extend(Duration::from_secs(600))).await;
    settle(&*queue, &at, &got, Settle::Release).await;
    let again = receive(&*queue, &at, 1).await;
    assert_eq!((texts(&again), again[0].receives), (vec!["one".to_owned()], 2));
}

async fn forgotten_is_forgotten(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["one", "two"]).await;
    let got = receive(&*queue, &at, 2).await;
    forget(&*queue, &at, &got[..1]).await;
    sleep(VISIBILITY + LATE).await;
    let left = receive(&*queue, &at, 1).await;
    assert_eq!(left[0].id, got[1].id);
    forget(&*queue, &at, &left).await;
    sleep(VISIBILITY + LATE).await;
    assert_eq!(queue.receive(&at, 10, Duration::ZERO).await.expect("receive"), []);
}

async fn a_stale_receipt_changes_nothing(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["one"]).await;
    let stale = receive(&*queue, &at, 1).await;
    settle(&*queue, &at, &stale, Settle::Release).await;
    let current = receive(&*queue, &at, 1).await;
    settle(&*queue, &at, &current, Settle::Extend(Duration::from_secs(60))).await;
    settle(&*queue, &at, &stale, Settle::Release).await;
    settle(&*queue, &at, &stale, Settle::Extend(Duration::ZERO)).await;
    settle(&*queue, &at, &stale, Settle::Forget).await;
    if !world.fences() {
        println!("SKIPPED the rest of {name}: this queue may still take a stale receipt");
        return;
    }
    sleep(LATE).await;
    assert_eq!(queue.receive(&at, 10, Duration::ZERO).await.expect("receive"), [], "it showed");
    settle(&*queue, &at, &current, Settle::Release).await;
    let again = receive(&*queue, &at, 1).await;
    assert_eq!(again[0].receives, 3);
    forget(&*queue, &at, &again).await;
    settle(&*queue, &at, &again, Settle::Release).await;
    settle(&*queue, &at, &again, Settle::Forget).await;
    assert_eq!(queue.receive(&at, 10, LATE).await.expect("receive"), [], "it came back from the forgotten");
}

async fn nonsense_receipts_are_no_error(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["one"]).await;
    for what in [Settle::Forget, Settle::Release, Settle::Extend(VISIBILITY)] {
        let nonsense = ["nonsense", "1.2.3", "99999999999999999999999.1.1"].map(|text| (Receipt(text.into()), what));
        queue.settle(&at, &nonsense).await.expect("no error");
    }
    queue.settle(&at, &[]).await.expect("settling nothing succeeds");
    assert_eq!(texts(&receive(&*queue, &at, 1).await), ["one"]);
}

async fn mixed_settling_does_each(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["a", "b", "c"]).await;
    let got = receive(&*queue, &at, 3).await;
    let receipt = |text: &str| {
        let found = got.iter().find(|delivery| delivery.body == Body::Text(text.into()));
        found.expect("was received").receipt.clone()
    };
    // Longer than anybody waits here: what the settling says of these two is what shows them.
    for text in ["b", "c"] {
        queue.settle(&at, &[(receipt(text), Settle::Extend(Duration::from_secs(600)))]).await.expect("settle");
    }
    let settling = [
        (receipt("a"), Settle::Forget),
        (Receipt("nonsense".into()), Settle::Forget),
        (receipt("b"), Settle::Release),
        (receipt("c"), Settle::Extend(VISIBILITY * 3)),
    ];
    queue.settle(&at, &settling).await.expect("settle");
    let shown = receive(&*queue, &at, 1).await;
    assert_eq!(texts(&shown), ["b"]);
    forget(&*queue, &at, &shown).await;
    assert_eq!(texts(&receive(&*queue, &at, 1).await), ["c"]);
}

async fn what_remains_replaces_a_message(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["whole"]).await;
    let got = receive(&*queue, &at, 1).await;
    send(&*queue, &at, &["later"]).await;
    let remains = queue.replace(&at, &got[0].receipt, Body::Text("rest".into())).await.expect("replace");
    if remains == Remains::InPlace {
        assert_eq!(texts(&receive(&*queue, &at, 1).await), ["later"], "what remains is hidden as before");
        settle(&*queue, &at, &got, Settle::Release).await;
        let rest = receive(&*queue, &at, 1).await;
        assert_eq!((texts(&rest), &rest[0].id, rest[0].receives), (vec!["rest".to_owned()], &got[0].id, 2));
        assert_eq!(rest[0].sent_at, got[0].sent_at);
        forget(&*queue, &at, &rest).await;
    } else {
        let mut left = texts(&receive(&*queue, &at, 2).await);
        left.sort();
        assert_eq!(left, ["later", "rest"]);
    }
    sleep(VISIBILITY + LATE).await;
    let back = texts(&queue.receive(&at, 10, Duration::ZERO).await.expect("receive"));
    assert!(back.iter().all(|text| text != "whole"), "{back:?}");
}

async fn a_stale_receipt_replaces_nothing(world: &dyn TestQueues, name: &str) {
    if !world.fences() {
        println!("SKIPPED {name}: this queue may still take a stale receipt");
        return;
    }
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["whole"]).await;
    let stale = receive(&*queue, &at, 1).await;
    settle(&*queue, &at, &stale, Settle::Release).await;
    let current = receive(&*queue, &at, 1).await;
    let replaced = queue.replace(&at, &stale[0].receipt, Body::Text("rest".into())).await.expect("replace");
    assert_eq!(replaced, Remains::Queued);
    settle(&*queue, &at, &current, Settle::Release).await;
    assert_eq!(texts(&receive(&*queue, &at, 1).await), ["whole"]);
    let nonsense = queue.replace(&at, &Receipt("nonsense".into()), Body::Text("rest".into())).await;
    assert_eq!(nonsense.expect("replace"), Remains::Queued);
}

async fn a_delay_hides(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let delayed = Message { body: Body::Text("late".into()), delay: VISIBILITY };
    all_taken(queue.send(&at, &[delayed, Message::now(Body::Text("now".into()))]).await);
    let now = receive(&*queue, &at, 1).await;
    assert_eq!(texts(&now), ["now"]);
    forget(&*queue, &at, &now).await;
    assert_eq!(queue.receive(&at, 10, Duration::ZERO).await.expect("receive"), []);
    let began = Instant::now();
    assert_eq!(texts(&queue.receive(&at, 10, PATIENCE).await.expect("receive")), ["late"]);
    woken(began);
}

async fn an_empty_receive_waits(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let began = Instant::now();
    assert_eq!(queue.receive(&at, 10, CALL).await.expect("receive"), []);
    assert!(began.elapsed() >= CALL - Duration::from_millis(50), "came back after {:?}", began.elapsed());
}

async fn an_empty_receive_without_wait_returns(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let began = Instant::now();
    assert_eq!(queue.receive(&at, 10, Duration::ZERO).await.expect("receive"), []);
    assert!(began.elapsed() < CALL, "came back after {:?}", began.elapsed());
}

async fn an_ended_wait_brings_nothing_and_loses_nothing(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let began = Instant::now();
    let (got, ()) = tokio::join!(queue.receive(&at, 10, CALL), async {
        sleep(Duration::from_millis(500)).await;
        queue.end_waits(&at);
    });
    assert_eq!(got.expect("receive"), []);
    let bound = if world.ends_waits() { CALL / 2 } else { CALL + LATE };
    assert!(began.elapsed() < bound, "came back after {:?}", began.elapsed());
    send(&*queue, &at, &["one"]).await;
    assert_eq!(texts(&receive(&*queue, &at, 1).await), ["one"]);
}

async fn a_send_wakes_a_receive(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let began = Instant::now();
    let (got, ()) = tokio::join!(queue.receive(&at, 10, PATIENCE), async {
        sleep(Duration::from_millis(500)).await;
        send(&*queue, &at, &["one"]).await;
    });
    assert_eq!(texts(&got.expect("receive")), ["one"]);
    woken(began);
}

async fn a_release_wakes_a_receive(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["one"]).await;
    let got = receive(&*queue, &at, 1).await;
    settle(&*queue, &at, &got, Settle::Extend(Duration::from_secs(600))).await;
    let began = Instant::now();
    let (again, ()) = tokio::join!(queue.receive(&at, 10, PATIENCE), async {
        sleep(Duration::from_millis(500)).await;
        settle(&*queue, &at, &got, Settle::Release).await;
    });
    assert_eq!(texts(&again.expect("receive")), ["one"]);
    woken(began);
}

async fn an_ended_visibility_wakes_a_receive(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    // The waiter comes first: it must learn of the hidden message from the receive that hid it.
    let began = Instant::now();
    let (waiter, ()) = tokio::join!(
        async {
            let mut got = queue.receive(&at, 10, PATIENCE).await.expect("receive");
            // Unless the waiter was the first to get it.
            if got.iter().all(|delivery| delivery.receives < 2) {
                got.extend(queue.receive(&at, 10, PATIENCE).await.expect("receive"));
            }
            got
        },
        async {
            sleep(Duration::from_millis(100)).await;
            send(&*queue, &at, &["one"]).await;
            queue.receive(&at, 10, Duration::ZERO).await.expect("receive");
        }
    );
    assert!(texts(&waiter).contains(&"one".to_owned()), "{waiter:?}");
    assert!(waiter.last().is_some_and(|delivery| delivery.receives >= 2), "{waiter:?}");
    woken(began);
}

async fn receive_gives_ten_at_most(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let sent: Vec<String> = (0..12).map(|n| n.to_string()).collect();
    send(&*queue, &at, &sent).await;
    let got = queue.receive(&at, 100, Duration::from_secs(1)).await.expect("receive");
    assert!((1..=limits::QUEUE_BATCH).contains(&got.len()), "{}", got.len());
    let got = queue.receive(&at, 1, Duration::from_secs(1)).await.expect("receive");
    assert_eq!(got.len(), 1);
}

async fn many_in_one_send(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    assert_eq!(queue.send(&at, &[]).await.expect("an empty send succeeds"), []);
    // More messages than a batch of SQS holds, and ten of them have more bytes.
    let sent: Vec<String> = (0..23).map(|n| format!("{n:02}{}", "x".repeat(120_000))).collect();
    send(&*queue, &at, &sent).await;
    let mut got = texts(&receive(&*queue, &at, sent.len()).await);
    got.sort();
    assert!(got == sent, "{} came back", got.len());
}

async fn too_large_is_refused_alone(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let large = "x".repeat(limits::MESSAGE_BYTES + 1);
    let messages = ["one", &large, "two"].map(|text| Message::now(Body::Text(text.into())));
    let outcomes = queue.send(&at, &messages).await.expect("send");
    assert_eq!(outcomes, [Ok(()), Err(SendError::TooLarge(large.len())), Ok(())]);
    let empty = queue.send(&at, &[Message::now(Body::Text(String::new()))]).await.expect("send");
    assert!(matches!(empty[..], [Err(SendError::Failed(_))]), "{empty:?}");
    let mut got = texts(&receive(&*queue, &at, 2).await);
    got.sort();
    assert_eq!(got, ["one", "two"]);
}

async fn the_largest_is_taken(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let text = "x".repeat(limits::MESSAGE_BYTES);
    send(&*queue, &at, &[&text]).await;
    assert!(texts(&receive(&*queue, &at, 1).await) == [text]);
    let binary = Body::Binary(vec![0xff; limits::ENVELOPE_MAX_BYTES].into());
    all_taken(queue.send(&at, &[Message::now(binary.clone())]).await);
    assert!(receive(&*queue, &at, 1).await[0].body == binary);
}

async fn depth_counts(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["a", "b", "c"]).await;
    let delayed = Message { body: Body::Text("late".into()), delay: Duration::from_secs(600) };
    all_taken(queue.send(&at, &[delayed]).await);
    let got = receive(&*queue, &at, 1).await;
    settle(&*queue, &at, &got, Settle::Extend(Duration::from_secs(600))).await;
    depth_becomes(world, &at, Depth { visible: 2, in_flight: 1, delayed: 1 }).await;
    forget(&*queue, &at, &got).await;
    depth_becomes(world, &at, Depth { visible: 2, in_flight: 0, delayed: 1 }).await;
}

async fn two_receivers_share(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let sent: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    send(&*queue, &at, &sent).await;
    let receiving = || async { texts(&queue.receive(&at, 10, Duration::ZERO).await.expect("receive")) };
    let (one, two) = tokio::join!(receiving(), receiving());
    let both: BTreeSet<&String> = one.iter().chain(&two).collect();
    assert_eq!(both.len(), one.len() + two.len(), "one message went to both");
}

async fn too_often_received_goes_to_dead_letters(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["poison"]).await;
    for receives in 1..=2 {
        let got = receive(&*queue, &at, 1).await;
        assert_eq!(got[0].receives, receives);
        settle(&*queue, &at, &got, Settle::Release).await;
    }
    assert_eq!(queue.receive(&at, 10, Duration::from_secs(2)).await.expect("receive"), []);
    let dead = receive(&*queue, &world.at("dead_letters"), 1).await;
    assert_eq!(texts(&dead), ["poison"]);
    depth_becomes(world, &at, Depth::default()).await;
}

async fn full_is_refused_and_room_taken_again(world: &dyn TestQueues, name: &str) {
    if !world.bounded() {
        println!("SKIPPED {name}: this queue's counts are approximate, and so is its capacity");
        return;
    }
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["a", "b", "c"]).await;
    // Hidden and delayed messages count too.
    let got = receive(&*queue, &at, 1).await;
    let late = Message { body: Body::Text("d".into()), delay: Duration::from_secs(60) };
    all_taken(queue.send(&at, &[late]).await);
    let messages = ["e", "f"].map(|text| Message::now(Body::Text(text.into())));
    assert_eq!(queue.send(&at, &messages).await.expect("send"), [Ok(()), Err(SendError::Full)]);
    let racing = join_all((0..4).map(|_| queue.send(&at, &messages[..1]))).await;
    assert!(racing.iter().flatten().flatten().all(|outcome| *outcome == Err(SendError::Full)), "{racing:?}");
    forget(&*queue, &at, &got).await;
    let racing = join_all((0..4).map(|_| queue.send(&at, &messages[..1]))).await;
    assert_eq!(racing.iter().flatten().flatten().filter(|outcome| outcome.is_ok()).count(), 1, "{racing:?}");
}

async fn a_crash_loses_nothing_and_revives_nothing(world: &dyn TestQueues, name: &str) {
    let at = world.at(name);
    let queue = world.queue();
    let sent: Vec<String> = (0..12).map(|n| format!("{n:02}")).collect();
    send(&*queue, &at, &sent[..1]).await;
    let once = receive(&*queue, &at, 1).await;
    settle(&*queue, &at, &once, Settle::Release).await;
    let twice = receive(&*queue, &at, 1).await;
    send(&*queue, &at, &sent[1..]).await;
    let got = receive(&*queue, &at, 5).await;
    forget(&*queue, &at, &got[..2]).await;
    settle(&*queue, &at, &twice, Settle::Release).await;
    drop(queue);
    if !world.crash().await {
        println!("SKIPPED the rest of {name}: this queue cannot be crashed");
        return;
    }
    let queue = world.queue();
    // Receipts of before the crash are stale.
    forget(&*queue, &at, &got).await;
    let forgotten = texts(&got[..2]);
    let want: Vec<String> = sent.into_iter().filter(|text| !forgotten.contains(text)).collect();
    let again = receive(&*queue, &at, want.len()).await;
    let mut left = texts(&again);
    left.sort();
    assert_eq!(left, want);
    let released = again.iter().find(|delivery| delivery.id == twice[0].id).expect("released before the crash");
    assert_eq!(released.receives, 3, "its receive count was written when it came back");
    for held in &got[2..] {
        let repeat = again.iter().find(|delivery| delivery.id == held.id).expect("held at the crash");
        assert!(repeat.receives >= 2, "what was in hand at the crash does not count as received [K6]");
    }
    // Stale still, although the same messages are in hand again.
    for stale in [&once, &twice, &got] {
        settle(&*queue, &at, stale, Settle::Release).await;
    }
    assert_eq!(queue.receive(&at, 10, Duration::ZERO).await.expect("receive"), []);
}

async fn a_crash_keeps_a_delay(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    let late = Message { body: Body::Text("late".into()), delay: VISIBILITY };
    all_taken(queue.send(&at, &[late]).await);
    drop(queue);
    world.crash().await;
    let queue = world.queue();
    assert_eq!(queue.receive(&at, 10, Duration::ZERO).await.expect("receive"), []);
    assert_eq!(texts(&receive(&*queue, &at, 1).await), ["late"]);
}

async fn a_crash_keeps_what_remains(world: &dyn TestQueues, name: &str) {
    let (queue, at) = (world.queue(), world.at(name));
    send(&*queue, &at, &["whole", "later"]).await;
    let got = receive(&*queue, &at, 2).await;
    let whole = got.iter().find(|delivery| delivery.body == Body::Text("whole".into())).expect("was received");
    queue.replace(&at, &whole.receipt, Body::Text("rest".into())).await.expect("replace");
    drop(queue);
    if world.crash().await {
        let mut left = texts(&receive(&*world.queue(), &at, 2).await);
        left.sort();
        assert_eq!(left, ["later", "rest"]);
    }
}

async fn send(queue: &dyn Queue, at: &QueueRef, bodies: &[impl AsRef<str>]) {
    let messages: Vec<Message> = bodies.iter().map(|text| Message::now(Body::Text(text.as_ref().to_owned()))).collect();
    all_taken(queue.send(at, &messages).await);
}

fn all_taken(outcomes: Result<Vec<Result<(), SendError>>, crate::error::BackendError>) {
    let outcomes = outcomes.expect("send");
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// Receives until there are `count`, each message once.
async fn receive(queue: &dyn Queue, at: &QueueRef, count: usize) -> Vec<Delivery> {
    let began = Instant::now();
    let mut got: Vec<Delivery> = Vec::new();
    while got.len() < count {
        assert!(began.elapsed() < PATIENCE, "{} of {count} messages came", got.len());
        let more = queue.receive(at, (count - got.len()).min(10), Duration::from_secs(2)).await.expect("receive");
        got.extend(more);
    }
    let ids: BTreeSet<&str> = got.iter().map(|delivery| delivery.id.as_str()).collect();
    assert_eq!(ids.len(), got.len(), "a message came twice within its visibility");
    got
}

/// Whoever is not woken gets the message too, at the end of the wait.
fn woken(began: Instant) {
    assert!(began.elapsed() < PATIENCE, "nothing woke the receive before its time was over");
}

async fn depth_becomes(world: &dyn TestQueues, at: &QueueRef, want: Depth) {
    let began = Instant::now();
    loop {
        let depth = world.queue().depth(at).await.expect("depth");
        if depth == want {
            return;
        }
        assert!(began.elapsed() < world.counts_within(), "{depth:?}, not {want:?}");
        sleep(Duration::from_secs(1)).await;
    }
}

async fn settle(queue: &dyn Queue, at: &QueueRef, deliveries: &[Delivery], what: Settle) {
    let receipts: Vec<_> = deliveries.iter().map(|delivery| (delivery.receipt.clone(), what)).collect();
    queue.settle(at, &receipts).await.expect("settle");
}

async fn forget(queue: &dyn Queue, at: &QueueRef, deliveries: &[Delivery]) {
    settle(queue, at, deliveries, Settle::Forget).await;
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|delivery| match &delivery.body {
            Body::Text(text) => text.clone(),
            Body::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        })
        .collect()
}

//! Laws of delivery in simulated time: what it sends when, what it forgets, and that nothing is lost whatever fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use streammanager::app::{App, Seams};
use streammanager::breaker::BreakerState;
use streammanager::dead;
use streammanager::deliver::duty::{self, Outcome};
use streammanager::deliver::report;
use streammanager::express::Verdict;
use streammanager::faults::sink::{Fault as SinkFault, Shares};
use streammanager::faults::{self, Fault};
use streammanager::limits::{BULK_IN_FLIGHT_ENVELOPES, BULK_IN_FLIGHT_RECORDS, HAND_ENVELOPES, LEASE, TRY};
use streammanager::queue::Settle;
use streammanager::record::{EventId, Outgoing, Tier};
use streammanager::settings::Settings;
use streammanager::sink::Lane;
use streammanager::time::Rng;
use streammanager_tests::bodies::{actual, alert};
use streammanager_tests::simulated::{Simulated, send_alert};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const HIGH: &str = "firms_test";
const NORMAL: &str = "iot_test";
const LOW: &str = "historical_firms_test";
const CRITICAL_TOPIC: &str = "wildfire-critical-alerts";

fn events(sim: &Simulated) -> Vec<EventId> {
    sim.sink.stored().iter().map(|record| record.event).collect()
}

/// Which record of its source it is.
fn number_of(record: &Outgoing) -> usize {
    let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
    value["data"]["n"].as_u64().unwrap() as usize
}

fn distinct(events: &[EventId]) -> BTreeSet<EventId> {
    events.iter().copied().collect()
}

#[tokio::test(start_paused = true)]
async fn everything_is_delivered_once_and_forgotten() {
    let sim = Simulated::new(1);
    let mut accepted = sim.ingest(HIGH, 0..1_200).await;
    accepted.extend(sim.ingest(NORMAL, 0..2_500).await);
    accepted.extend(sim.ingest(LOW, 0..9_000).await);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(60)).await;
    delivering.stop().await;
    let stored = events(&sim);
    assert_eq!((stored.len(), distinct(&stored)), (accepted.len(), distinct(&accepted)));
    let largest = sim.sink.sends().iter().map(|(_, records)| *records).max();
    assert!(largest <= Some(Tier::Low.largest_send()), "P5: {largest:?}");
    let high = sim.stored("wildfire-nasa-firms");
    assert_eq!(high.len(), 1_200);
}

#[tokio::test(start_paused = true)]
async fn f8_whoever_stops_does_not_wait_for_empty_queues() {
    let sim = Simulated::new(1);
    let delivering = sim.deliver();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let began = tokio::time::Instant::now();
    delivering.stop().await;
    assert!(began.elapsed() < Duration::from_millis(10), "it took {:?}", began.elapsed());
}

/// P4, Q1: of an envelope only what failed goes on, with its first time of acceptance.
#[tokio::test(start_paused = true)]
async fn q1_what_the_sink_did_not_take_goes_on_as_a_new_envelope_of_the_same_age() {
    let sim = Simulated::new(2);
    let began = tokio::time::Instant::now();
    let accepted = sim.ingest(HIGH, 0..10).await;
    let fails = |failing: usize| (0..10).map(move |n| if n < failing { SinkFault::Retry } else { SinkFault::None });
    // Three tries: 10 records, then the 4 that failed, twice.
    sim.sink.script(fails(4).chain([SinkFault::Retry; 8]));
    let delivering = sim.deliver();
    // Three tries open the breaker; the rest waits in the queue for a probe.
    while sim.sink.sends().len() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(sim.sink.sends(), [(Lane::Bulk, 10), (Lane::Bulk, 4), (Lane::Bulk, 4)]);
    assert_eq!(sim.app.breakers.lane(Lane::Bulk).state(), BreakerState::Open);
    assert_eq!(sim.depth(Tier::High).await.total(), 1);
    sim.sink.outage(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    sim.sink.outage(false);
    sim.drained(Duration::from_secs(120)).await;
    delivering.stop().await;
    assert_eq!(sim.sink.sends().last(), Some(&(Lane::Bulk, 4)));
    let stored = events(&sim);
    assert_eq!((stored.len(), distinct(&stored)), (10, distinct(&accepted)), "each once");
    let (waited, longest) =
        (began.elapsed().as_secs_f64(), sim.app.tally.totals().latency_ms[&Tier::High].max / 1000.0);
    assert!(longest > waited - 2.0, "the remainder has the age of its envelope: {longest} s of {waited}");
}

/// K6: also when each of them holds few records.
#[tokio::test(start_paused = true)]
async fn k6_few_envelopes_are_in_flight_at_once_however_small_they_are() {
    let sim = Simulated::new(32);
    for n in 0..20 {
        sim.ingest(HIGH, n * 10..(n + 1) * 10).await;
    }
    sim.sink.delay(Duration::from_secs(1));
    let delivering = sim.deliver();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(sim.sink.sends(), [(Lane::Bulk, 10); BULK_IN_FLIGHT_ENVELOPES]);
    sim.drained(Duration::from_secs(10)).await;
    delivering.stop().await;
}

/// K3: what the broker took of one source comes in the order in which it was accepted, whatever fails: records,
/// the sink for long or short, everything by a crash. One that is repeated counts where it came first.
#[tokio::test(start_paused = true)]
async fn k3_readings_keep_their_order_through_failures_outages_and_crashes() {
    let mut repeated = 0;
    for seed in 0..20 {
        println!("seed {seed}");
        let mut sim = Simulated::new(1_000 + seed);
        let rng = Rng::seeded(seed);
        let below = |most: u64| u64::from_be_bytes(rng.bytes()) % most;
        sim.sink.seed(Rng::seeded(seed), Shares { lost_ack: below(3) as u8, retry: 1 + below(6) as u8 });
        let mut delivering = sim.deliver();
        let mut next = [0; 3];
        for _ in 0..40 {
            for (source, next) in ["iot_a", "iot_b", "iot_c"].into_iter().zip(&mut next) {
                let until = *next + 1 + below(if below(8) == 0 { 900 } else { 30 }) as usize;
                sim.ingest(source, *next..until).await;
                *next = until;
            }
            sim.sink.delay(Duration::from_millis(below(300)));
            match below(12) {
                0 => {
                    sim.sink.outage(true);
                    tokio::time::sleep(Duration::from_millis(below(90_000))).await;
                    sim.sink.outage(false);
                }
                1 => {
                    delivering.abort().await;
                    sim.crash();
                    delivering = sim.deliver();
                }
                2 => sim.sink.pause(Duration::from_millis(below(4_000))),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(below(1_500))).await;
        }
        sim.sink.seed(Rng::seeded(seed), Shares::default());
        sim.drained(Duration::from_secs(2_000)).await;
        delivering.stop().await;
        let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
        for record in sim.stored("wildfire-iot-sensors") {
            if !seen.insert(record.event) {
                repeated += 1;
                continue;
            }
            let number = number_of(&record);
            let last = last.insert(record.source.to_string(), number);
            assert!(last < Some(number), "seed {seed}: {number} of {} came after {last:?}", record.source);
        }
        assert_eq!(seen.len(), next.iter().sum::<usize>(), "seed {seed}");
    }
    assert!(repeated > 0, "no seed repeats anything");
}

/// K3: what is in one stream's way is in no other's: its topic is away, and more of it waits than a hand holds.
#[tokio::test(start_paused = true)]
async fn k3_a_stream_that_waits_for_its_topic_takes_no_room_from_others() {
    let sim = Simulated::new(33);
    sim.sink.away_topic("wildfire-weather");
    let delivering = sim.deliver();
    let mut waiting = 0;
    for n in 0..900 {
        sim.ingest(HIGH, n..n + 1).await;
        for _ in 0..if n == 10 { HAND_ENVELOPES * 2 } else { usize::from(n % 50 == 0) } {
            sim.ingest("noaa_alerts", waiting..waiting + 1).await;
            waiting += 1;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stored = if n % 50 == 0 { sim.stored("wildfire-nasa-firms").len() } else { n };
        assert!(stored + 2 >= n, "{stored} detections after {n} s");
    }
    assert_eq!(sim.app.breakers.lane(Lane::Bulk).state(), BreakerState::Closed);
    let tries = sim.sink.sends().iter().filter(|(_, records)| *records > 1).count();
    assert!(tries < 3 * 10, "{tries} tries of what waits for its topic");
    sim.sink.return_topic("wildfire-weather");
    sim.drained(Duration::from_secs(310)).await;
    delivering.stop().await;
    let alerts: Vec<usize> = sim.stored("wildfire-weather").iter().map(number_of).collect();
    assert_eq!(alerts, Vec::from_iter(0..waiting));
}

/// R2: a topic that is away opens the breaker when nothing else is sent. What waits behind it is tried as well, and goes.
#[tokio::test(start_paused = true)]
async fn r2_one_topic_away_keeps_the_breaker_open_for_nobody_else() {
    for stuck in ["noaa_alerts", "firms_stuck"] {
        let sim = Simulated::new(34);
        let (topic, others) = match stuck {
            "noaa_alerts" => ("wildfire-weather", HIGH),
            _ => ("wildfire-nasa-firms", "noaa_alerts"),
        };
        sim.sink.away_topic(topic);
        for n in 0..HAND_ENVELOPES * 2 {
            sim.ingest(stuck, n..n + 1).await;
        }
        let waiting = sim.ingest(others, 0..10).await;
        let delivering = sim.deliver();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(events(&sim), waiting, "behind {stuck}");
        sim.sink.return_topic(topic);
        sim.drained(Duration::from_secs(310)).await;
        delivering.stop().await;
        let stored = events(&sim);
        assert_eq!(stored.len(), distinct(&stored).len());
        assert_eq!(stored.len(), HAND_ENVELOPES * 2 + 10);
    }
    // Several were on their way when everything was away, and one topic stays away.
    let sim = Simulated::new(35);
    sim.sink.outage(true);
    sim.sink.away_topic("wildfire-weather");
    let delivering = sim.deliver();
    let mut others = Vec::new();
    for n in 0..20 {
        sim.ingest("noaa_alerts", n..n + 1).await;
        for source in ["firms_a", "firms_b", "firms_c"] {
            others.extend(sim.ingest(source, n..n + 1).await);
        }
        tokio::time::sleep(Duration::from_secs(n as u64)).await;
    }
    sim.sink.outage(false);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(distinct(&events(&sim)), distinct(&others));
    delivering.stop().await;
}

#[tokio::test(start_paused = true)]
async fn r4_what_the_sink_refuses_is_a_dead_letter_and_holds_up_nothing() {
    let sim = Simulated::new(3);
    let accepted = sim.ingest(HIGH, 0..3).await;
    sim.sink.script([SinkFault::None, SinkFault::Refuse, SinkFault::None]);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(10)).await;
    delivering.stop().await;
    assert_eq!(events(&sim), [accepted[0], accepted[2]]);
    let letters = dead::list(&*sim.app.store, None, 10).await.unwrap().letters;
    assert_eq!(letters.iter().map(|letter| letter.event).collect::<Vec<_>>(), [Some(accepted[1])]);
    assert_eq!(letters[0].reason.code(), "sink_refused");
    assert_eq!(sim.app.breakers.lane(Lane::Bulk).state(), BreakerState::Closed, "a refusal is not an outage [R2]");
}

#[tokio::test(start_paused = true)]
async fn p4_critical_does_not_wait_for_bulk_sends() {
    let sim = Simulated::new(4);
    let key = sim.sender("butte").await;
    sim.ingest(LOW, 0..20_000).await;
    // The alert reaches the queue because the broker's lane is away for a moment.
    sim.open_breaker(Lane::Critical);
    assert!(matches!(sim.alert(&key, actual("A")).await, Verdict::Taken { .. }));
    sim.sink.delay(Duration::from_millis(900));
    let delivering = sim.deliver();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(sim.stored(CRITICAL_TOPIC).len(), 1, "{:?}", sim.sink.sends());
    assert!(sim.depth(Tier::Low).await.total() > 0, "bulk is still under way");
    delivering.stop().await;
}

/// P4: while all three tiers have work, the sink is given records in shares of 3 : 2 : 1.
#[tokio::test(start_paused = true)]
async fn p4_bulk_tiers_share_three_to_two_to_one_in_records() {
    let sim = Simulated::new(5);
    for (source, size) in [(HIGH, 50), (NORMAL, 200), (LOW, 500)] {
        for start in (0..12_000).step_by(size) {
            sim.ingest(source, start..start + size).await;
        }
    }
    sim.sink.delay(Duration::from_millis(100));
    let delivering = sim.deliver();
    while sim.sink.stored().len() < 20_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut by_tier: BTreeMap<Tier, f64> = BTreeMap::new();
    let stored = sim.sink.stored();
    for record in &stored {
        *by_tier.entry(record.tier).or_default() += 1.0 / stored.len() as f64;
    }
    for (tier, share) in [(Tier::High, 3.0 / 6.0), (Tier::Normal, 2.0 / 6.0), (Tier::Low, 1.0 / 6.0)] {
        assert!((by_tier[&tier] - share).abs() < 0.07, "{tier}: {by_tier:?}");
    }
    delivering.stop().await;
}

/// A backlog of HIGH and LOW that a slow sink takes minutes for.
async fn slow_backlog(sim: &Simulated) {
    for n in 0..200 {
        for source in [HIGH, LOW] {
            sim.ingest(source, n * 50..(n + 1) * 50).await;
        }
    }
    sim.sink.delay(Duration::from_millis(1_900));
}

/// HIGH's share of what the sink stores in half a minute.
async fn share_of_high(sim: &Simulated) -> f64 {
    let before = sim.sink.stored().len();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let stored = &sim.sink.stored()[before..];
    stored.iter().filter(|record| record.tier == Tier::High).count() as f64 / stored.len() as f64
}

/// P6: LOW gets NORMAL's credit after five minutes and HIGH's after ten.
#[tokio::test(start_paused = true)]
async fn p6_what_waits_long_is_served_with_a_higher_tiers_credit() {
    for (minutes, expected) in [(3, 3.0 / 4.0), (6, 3.0 / 5.0), (11, 1.0 / 2.0)] {
        let sim = Simulated::new(14);
        slow_backlog(&sim).await;
        tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
        let delivering = sim.deliver();
        let share = share_of_high(&sim).await;
        delivering.stop().await;
        assert!((share - expected).abs() < 0.1, "after {minutes} min HIGH gets {share}");
    }
}

/// P6: the age clock stands still while the sink is away, and while nobody is on duty. Recovery goes by priority, although
/// everything is two hours old.
#[tokio::test(start_paused = true)]
async fn p6_an_outage_makes_nothing_old_not_even_over_a_crash() {
    let mut sim = Simulated::new(15);
    slow_backlog(&sim).await;
    sim.sink.outage(true);
    let delivering = sim.deliver();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    delivering.abort().await;
    sim.crash();
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    let delivering = sim.deliver();
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    sim.sink.outage(false);
    let share = share_of_high(&sim).await;
    delivering.stop().await;
    assert!((share - 3.0 / 4.0).abs() < 0.1, "HIGH gets {share}");
}

/// O8: no record waits longer than was said to be possible while it waited, as long as the sink keeps its pace.
#[tokio::test(start_paused = true)]
async fn o8_nothing_waits_longer_than_was_said_to_be_possible() {
    let sim = Simulated::new(16);
    for (source, envelopes, size) in [(HIGH, 60, 400), (NORMAL, 30, 900), (LOW, 12, 1_000)] {
        for n in 0..envelopes {
            sim.ingest(source, n * size..(n + 1) * size).await;
        }
    }
    sim.sink.delay(Duration::from_millis(1_500));
    let delivering = sim.deliver();
    let mut said: BTreeMap<Tier, f64> = BTreeMap::new();
    while sim.queued().await > 0 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Some(report) = report::last(&*sim.app.store).await.unwrap() else { continue };
        for (tier, wait) in report.waits {
            if let Some(possible) = wait.longest_possible_s.filter(|_| wait.oldest_s > 0.0) {
                let said = said.entry(tier).or_insert(f64::INFINITY);
                *said = said.min(possible);
            }
        }
    }
    delivering.stop().await;
    let report = report::last(&*sim.app.store).await.unwrap().unwrap();
    for tier in Tier::BULK {
        let seen = report.waits[&tier].longest_seen_s;
        assert!(seen > 3.0 && seen <= said[&tier], "{tier}: {seen} s were seen, {} s were said", said[&tier]);
    }
}

#[tokio::test(start_paused = true)]
async fn r2_an_outage_burns_no_receives_and_what_waited_is_delivered_once_after_it() {
    let sim = Simulated::new(6);
    let accepted = sim.ingest(HIGH, 0..2_000).await;
    sim.sink.outage(true);
    let delivering = sim.deliver();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let tries = sim.sink.sends().len();
    // Three tries open it, and then one probe a minute.
    assert!((60..70).contains(&tries), "{tries} sends in an hour of outage");
    let depth = sim.depth(Tier::High).await;
    assert_eq!(depth.total(), 4);
    delivering.stop().await;
    let queue = sim.app.settings.queues.tier(Tier::High);
    let waiting = sim.app.queue.receive(queue, 10, Duration::ZERO).await.unwrap();
    // For the hand that was given back when it opened, for the probes, and now.
    let receives: Vec<u32> = waiting.iter().map(|delivery| delivery.receives).collect();
    assert!(receives.len() == 4 && receives.iter().all(|receives| *receives <= 3), "{receives:?}");
    let release: Vec<_> = waiting.into_iter().map(|delivery| (delivery.receipt, Settle::Release)).collect();
    sim.app.queue.settle(queue, &release).await.unwrap();
    sim.sink.outage(false);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(5)).await;
    delivering.stop().await;
    let stored = events(&sim);
    assert_eq!((stored.len(), distinct(&stored)), (2_000, distinct(&accepted)));
    assert_eq!(
        dead::list(&*sim.app.store, None, 10).await.unwrap().letters,
        [],
        "an outage never sends good records there [R4]"
    );
}

/// R2, F4: however long the sink was away, and whatever was under way when it went or came back, bulk flows within seconds of its return
/// and nothing is left behind for a long pause.
#[tokio::test(start_paused = true)]
async fn r2_nothing_stalls_after_an_outage_of_any_length() {
    let mut slowest = Duration::ZERO;
    for seed in 0..40 {
        let sim = Simulated::new(seed);
        for n in 0..40 {
            sim.ingest([HIGH, NORMAL, LOW][n % 3], n * 50..(n + 1) * 50).await;
        }
        sim.sink.delay(Duration::from_millis(20));
        let rng = Rng::seeded(seed);
        let within = |most: u64| Duration::from_millis(u64::from_be_bytes(rng.bytes()) % most);
        let delivering = sim.deliver();
        tokio::time::sleep(within(60)).await;
        // Several short ones, or one that lasts.
        for _ in 0..1 + seed % 3 {
            sim.sink.outage(true);
            tokio::time::sleep(within(40_000)).await;
            sim.sink.outage(false);
            tokio::time::sleep(within(300)).await;
        }
        let returned = tokio::time::Instant::now();
        sim.drained(Duration::from_secs(120)).await;
        delivering.stop().await;
        slowest = slowest.max(returned.elapsed());
        eprintln!("seed {seed}: {:?}", returned.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

/// Q5: a slow sink keeps envelopes in hand far longer than their visibility.
#[tokio::test(start_paused = true)]
async fn q5_what_is_in_hand_stays_hidden_however_slow_the_sink_is() {
    let sim = Simulated::new(7);
    let envelopes = HAND_ENVELOPES * 2;
    for n in 0..envelopes {
        sim.ingest(HIGH, n * 10..(n + 1) * 10).await;
    }
    sim.sink.delay(Duration::from_millis(1_950));
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(600)).await;
    delivering.stop().await;
    assert_eq!(events(&sim).len(), envelopes * 10, "none was received a second time");
    assert_eq!(sim.app.tally.totals().redelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_what_is_in_work_and_gives_back_the_rest() {
    let sim = Simulated::new(8);
    for n in 0..40 {
        sim.ingest(LOW, n * 1_000..(n + 1) * 1_000).await;
    }
    sim.sink.delay(Duration::from_millis(700));
    let delivering = sim.deliver();
    tokio::time::sleep(Duration::from_secs(1)).await;
    delivering.stop().await;
    let (stored, depth) = (events(&sim).len(), sim.depth(Tier::Low).await);
    assert_eq!((stored % 1_000, depth.in_flight), (0, 0), "nothing is half done: {depth:?}");
    assert_eq!(stored as u64 / 1_000 + depth.visible, 40);
}

/// S12: the seen-set moves only after the queue's acknowledgement, also when a merge of its pages falls in between.
#[tokio::test(start_paused = true)]
async fn s12_rows_that_no_queue_took_are_offered_again_and_published() {
    let sim = Simulated::new(10);
    let mut accepted = Vec::new();
    // One page a commit: the next one merges.
    for n in 0..31 {
        accepted.extend(sim.ingest(HIGH, n..n + 1).await);
    }
    // Two envelopes, of which the queue takes one.
    sim.queue_faults.script([Fault::Part]);
    accepted.extend(sim.ingest(HIGH, 31..1_031).await);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(60)).await;
    delivering.stop().await;
    let stored = events(&sim);
    assert_eq!((stored.len(), distinct(&stored)), (1_031, distinct(&accepted)), "each once");
}

/// P4, E2: right after an outage many alerts wait and the bulk lane may still be away.
#[tokio::test(start_paused = true)]
async fn p4_a_flood_of_alerts_goes_out_while_the_bulk_lane_is_away() {
    let sim = Simulated::new(11);
    let key = sim.sender("butte").await;
    sim.open_breaker(Lane::Critical);
    for n in 0..600 {
        assert!(matches!(sim.alert(&key, actual(&format!("F{n}"))).await, Verdict::Taken { .. }));
    }
    sim.ingest(HIGH, 0..10).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    sim.open_breaker(Lane::Bulk);
    sim.sink.away_topic("wildfire-nasa-firms");
    let delivering = sim.deliver();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(sim.stored(CRITICAL_TOPIC).len(), 600);
    assert_eq!(sim.stored("wildfire-nasa-firms").len(), 0, "the bulk lane is away");
    delivering.stop().await;
}

/// P4: in a flood alerts share the bulk lane's room with the other tiers, and go on at their own pace when it has none.
#[tokio::test(start_paused = true)]
async fn p4_a_flood_of_alerts_neither_stops_the_others_nor_waits_for_them() {
    let sim = Simulated::new(18);
    let key = sim.sender("butte").await;
    sim.open_breaker(Lane::Critical);
    for n in 0..600 {
        assert!(matches!(sim.alert(&key, actual(&format!("F{n}"))).await, Verdict::Taken { .. }));
    }
    for n in 0..60 {
        sim.ingest(LOW, n * 50..(n + 1) * 50).await;
    }
    sim.sink.delay(Duration::from_millis(100));
    let delivering = sim.deliver();
    // The queue's copies of alerts come a few seconds after them.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let low = sim.stored("wildfire-historical").len();
    assert!(low > 0 && sim.depth(Tier::Critical).await.total() > 400, "{low} records of LOW went out in the flood");
    // Four at once, ten times a second.
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(sim.stored(CRITICAL_TOPIC).len(), 600);
    delivering.stop().await;
}

/// P7: after an outage of minutes the alerts go first where more people are told to be, whatever their age.
#[tokio::test(start_paused = true)]
async fn p7_after_an_outage_alerts_go_by_people() {
    let sim = Simulated::new(19);
    let key = sim.sender("butte").await;
    sim.sink.outage(true);
    for people in 1..=12 {
        let mut alert: serde_json::Value = serde_json::from_str(&actual(&format!("P{people}"))).unwrap();
        alert["population"] = (people * 1_000).into();
        assert!(matches!(sim.alert(&key, alert.to_string()).await, Verdict::Taken { .. }));
    }
    let delivering = sim.deliver();
    tokio::time::sleep(Duration::from_secs(120)).await;
    sim.sink.outage(false);
    sim.drained(Duration::from_secs(10)).await;
    delivering.stop().await;
    let people =
        |value: &[u8]| serde_json::from_slice::<serde_json::Value>(value).unwrap()["data"]["population"].as_u64();
    let order: Vec<u64> = sim.stored(CRITICAL_TOPIC).iter().filter_map(|record| people(&record.value)).collect();
    assert_eq!(order.len(), 12);
    // One was the probe, and one may not have been due yet.
    let first = &order[..8];
    assert!((7..=12).all(|thousands| first.contains(&(thousands * 1_000))), "{order:?}");
}

/// R4: what only one topic cannot take is tried ever more rarely, so that it never uses up its receives.
#[tokio::test(start_paused = true)]
async fn r4_one_topic_away_uses_up_no_receives() {
    let sim = Simulated::new(12);
    sim.sink.away_topic("wildfire-nasa-firms");
    let waiting = sim.ingest(HIGH, 0..10).await;
    let delivering = sim.deliver();
    for n in 0..3_600 {
        sim.ingest(NORMAL, n..n + 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let tries = sim.sink.sends().iter().filter(|(_, records)| *records == 10).count();
    assert!((3 * 5..3 * 40).contains(&tries), "{tries} tries in an hour");
    delivering.stop().await;
    assert_eq!((sim.depth(Tier::High).await.total(), waiting.len()), (1, 10));
    assert!(sim.stored("wildfire-iot-sensors").len() >= 3_500);
}

/// R2, Q1: the clock steps while the broker is away and alerts and records wait. Nothing is held up by it, nothing dropped.
#[tokio::test(start_paused = true)]
async fn r2_a_step_of_the_clock_holds_up_nothing_and_drops_nothing() {
    for step in [-3_600, 15 * 86_400] {
        let sim = Simulated::new(13);
        let key = sim.sender("butte").await;
        sim.sink.pause(Duration::from_secs(30));
        for n in 0..12 {
            assert!(matches!(sim.alert(&key, actual(&format!("C{n}"))).await, Verdict::Taken { .. }));
        }
        sim.ingest(HIGH, 0..100).await;
        let delivering = sim.deliver();
        tokio::time::sleep(Duration::from_secs(15)).await;
        sim.wall.step(step);
        tokio::time::sleep(Duration::from_secs(14)).await;
        sim.drained(Duration::from_secs(10)).await;
        delivering.stop().await;
        assert_eq!(sim.stored(CRITICAL_TOPIC).len(), 12, "{step} s");
        assert_eq!(sim.stored("wildfire-nasa-firms").len(), 100, "{step} s");
    }
}

/// K6: a process that dies leaves at most what was in flight to be sent again.
#[tokio::test(start_paused = true)]
async fn k6_a_crash_repeats_no_more_than_what_was_in_flight_and_says_so() {
    let mut sim = Simulated::new(9);
    let mut accepted = Vec::new();
    for n in 0..60 {
        accepted.extend(sim.ingest(HIGH, n * 500..(n + 1) * 500).await);
    }
    sim.sink.delay(Duration::from_millis(300));
    let delivering = sim.deliver();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    delivering.abort().await;
    sim.crash();
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(120)).await;
    delivering.stop().await;
    let stored = events(&sim);
    assert_eq!(distinct(&stored), distinct(&accepted), "nothing is lost");
    let repeated = stored.len() - accepted.len();
    assert!(repeated <= BULK_IN_FLIGHT_RECORDS, "{repeated} records stand twice");
}

/// An invocation of deliver that runs this version of the function, in a process of its own over what `sim` shares.
fn invoked(sim: &Simulated, version: &str) -> (JoinHandle<Outcome>, CancellationToken) {
    let App { queue, sink, store, blobs, upstream, clock, rng, .. } = sim.app.clone();
    let settings = Settings { version: Some(version.to_owned()), ..(*sim.app.settings).clone() };
    let app = App::new(settings, Seams { queue, store, blobs, sink, upstream }, clock, rng);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    (tokio::spawn(async move { duty::run(&app, &stopped).await.unwrap() }), stop)
}

/// D2: the version that was deployed last has the duty within seconds, up and back, while a backlog is delivered: nothing is lost
/// or comes twice, and deliveries never pause for as long as a lease. The same version again changes nothing.
#[tokio::test(start_paused = true)]
async fn d2_another_version_takes_the_duty_over_and_back_without_a_gap_a_loss_or_a_repeat() {
    let sim = Simulated::new(22);
    let mut accepted = Vec::new();
    for n in 0..500 {
        accepted.extend(sim.ingest(HIGH, n * 50..(n + 1) * 50).await);
    }
    sim.sink.delay(TRY / 2);
    let moment = || tokio::time::sleep(Duration::from_millis(2_500));
    let within = |invocation: JoinHandle<Outcome>| async {
        tokio::time::timeout(LEASE * 2, invocation).await.expect("it goes on").unwrap()
    };
    let pauses = tokio::spawn({
        let sink = sim.sink.clone();
        let all = accepted.len();
        async move {
            let (mut longest, mut since, mut stored) = (Duration::ZERO, Instant::now(), 0);
            while stored < all {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let now = sink.stored().len();
                if now > stored {
                    (stored, since) = (now, Instant::now());
                }
                longest = longest.max(since.elapsed());
            }
            longest
        }
    });

    let (old, _) = invoked(&sim, "7");
    moment().await;
    let (standing_by, _) = invoked(&sim, "7");
    moment().await;
    let (another, _) = invoked(&sim, "7");
    assert_eq!(within(another).await, Outcome::Surplus);
    assert!(!old.is_finished() && !standing_by.is_finished(), "the same version is in nobody's way");

    let (new, _) = invoked(&sim, "8");
    assert_eq!(within(standing_by).await, Outcome::Surplus);
    assert_eq!(within(old).await, Outcome::HandedOver);
    moment().await;
    assert!(!new.is_finished());

    // Turned back: the number is lower, the start later.
    let (back, stop) = invoked(&sim, "7");
    assert_eq!(within(new).await, Outcome::HandedOver);
    assert!(!pauses.is_finished(), "there was something to deliver all the time");
    sim.drained(Duration::from_secs(300)).await;
    stop.cancel();
    assert_eq!(within(back).await, Outcome::Delivered);

    let stored = events(&sim);
    assert_eq!((stored.len(), distinct(&stored)), (accepted.len(), distinct(&accepted)));
    let longest = pauses.await.unwrap();
    assert!(longest < LEASE, "nothing was delivered for {longest:?}");
}

/// D3: a state store that is away, hangs or loses an answer ends no invocation: whoever has time left delivers again within a lease
/// of the store's return.
#[tokio::test(start_paused = true)]
async fn d3_after_an_outage_of_the_state_store_whoever_has_time_left_delivers() {
    for (seed, alone) in [(23, true), (24, false)] {
        for hangs in [false, true] {
            let sim = Simulated::new(seed);
            let (first, stop) = invoked(&sim, "7");
            tokio::time::sleep(Duration::from_secs(2)).await;
            let standing_by = (!alone).then(|| invoked(&sim, "7"));
            tokio::time::sleep(Duration::from_secs(2)).await;
            if hangs {
                sim.store_faults.script([Fault::Late(Duration::from_secs(15)); 10_000]);
            } else {
                sim.store_faults.outage(true);
            }
            tokio::time::sleep(Duration::from_secs(40)).await;
            sim.store_faults.quiet();
            sim.store_faults.outage(false);
            sim.ingest(HIGH, 0..100).await;
            sim.drained(Duration::from_secs(15) + LEASE * 2).await;
            assert_eq!(sim.stored("wildfire-nasa-firms").len(), 100, "alone: {alone}, hangs: {hangs}");
            let mut ends = vec![(first, stop)];
            ends.extend(standing_by);
            for (_, stop) in &ends {
                stop.cancel();
            }
            for (invocation, _) in ends {
                tokio::time::timeout(LEASE * 4, invocation).await.expect("it ends").unwrap();
            }
        }
    }
}

/// D3: the holder whose renewal was written, and whose answer was lost, finds its own lease and goes on.
#[tokio::test(start_paused = true)]
async fn d3_a_renewal_whose_answer_was_lost_costs_a_second_and_not_a_lease() {
    // One of these calls is the renewal; later ones are not about the duty.
    for call in 0..6 {
        let sim = Simulated::new(25);
        let (delivering, stop) = invoked(&sim, "7");
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        sim.store_faults.script((0..call).map(|_| Fault::None).chain([Fault::After]));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let began = Instant::now();
        sim.ingest(HIGH, 0..100).await;
        sim.drained(Duration::from_secs(2)).await;
        assert!(began.elapsed() < LEASE / 2 && !delivering.is_finished(), "call {call}");
        stop.cancel();
        assert_eq!(tokio::time::timeout(LEASE, delivering).await.expect("it ends").unwrap(), Outcome::Delivered);
    }
}

/// Q1 and E4, by seed: a sink that loses acknowledgements and goes away, a queue and a store that fail before and after the
/// deed, and crashes; senders that go on until they were told "accepted". `STREAMMANAGER_TEST_SEED` runs one seed.
#[tokio::test(start_paused = true)]
async fn q1_nothing_is_lost_whatever_fails() {
    let seeds = std::env::var("STREAMMANAGER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seeds.map_or(0..24, |seed| seed..seed + 1);
    let (mut crashes, mut injected) = (0, 0);
    for seed in seeds {
        let mut run = Run::new(seed).await;
        for _ in 0..run.within(2..6) {
            run.go_on().await;
            run.sim.crash();
            crashes += 1;
        }
        run.go_on().await;
        injected += run.sim.queue_faults.injected() + run.sim.store_faults.injected();
        run.settle_and_judge().await;
    }
    assert!(crashes > 0 && injected > 0, "{crashes} crashes, {injected} faults");
}

struct Run {
    sim: Simulated,
    seed: u64,
    rng: Rng,
    key: String,
    accepted: BTreeSet<EventId>,
    next: usize,
    /// Threads of alerts: how many messages of each were accepted.
    threads: BTreeMap<usize, usize>,
    sent: BTreeMap<EventId, (usize, usize)>,
}

impl Run {
    async fn new(seed: u64) -> Run {
        let (sim, rng) = (Simulated::new(seed), Rng::seeded(seed ^ 0x5eed));
        let key = sim.sender("butte").await;
        Run { sim, seed, rng, key, accepted: BTreeSet::new(), next: 0, threads: BTreeMap::new(), sent: BTreeMap::new() }
    }

    fn within(&self, range: std::ops::Range<u64>) -> u64 {
        range.start + u64::from_be_bytes(self.rng.bytes()) % (range.end - range.start)
    }

    /// With the store away an alert goes out all the same, and its order is best effort.
    fn store_fails(&self) -> bool {
        self.seed % 2 == 1
    }

    /// One process's life: everything fails a little, records and alerts come in, and delivery is under way.
    async fn go_on(&mut self) {
        let shares = faults::Shares { before: 12, after: 12, part: 12 };
        self.sim.queue_faults.seed(self.rng.clone(), shares);
        if self.store_fails() {
            self.sim.store_faults.seed(self.rng.clone(), faults::Shares { part: 0, ..shares });
        }
        self.sim.sink.seed(self.rng.clone(), Shares { lost_ack: 8, retry: 8 });
        let delivering = self.sim.deliver();
        for _ in 0..self.within(3..9) {
            self.sim.sink.outage(self.within(0..4) == 0);
            self.sim.sink.delay(Duration::from_millis(self.within(0..150)));
            let source = [HIGH, NORMAL, LOW][self.within(0..3) as usize];
            let numbers = self.next..self.next + self.within(1..700) as usize;
            self.next = numbers.end;
            self.accepted.extend(self.sim.ingest(source, numbers).await);
            self.alert().await;
            tokio::time::sleep(Duration::from_millis(self.within(0..4_000))).await;
        }
        delivering.abort().await;
    }

    /// The next message of some thread, sent until it is accepted, as a sender does that was told 503.
    async fn alert(&mut self) {
        let thread = self.within(0..3) as usize;
        let number = self.threads.get(&thread).copied().unwrap_or(0);
        let (id, first) = (format!("T{thread}-{number}"), format!("T{thread}-0"));
        let body = match number {
            0 => actual(&id),
            _ => alert(&id, "Actual", "Update", &[&first]),
        };
        loop {
            match send_alert(&self.sim.app, &self.key, body.clone()).await {
                Verdict::Taken { accepted, rejected, .. } => {
                    assert_eq!((accepted.len(), rejected.len()), (1, 0), "{rejected:?}");
                    self.accepted.insert(accepted[0].event_id);
                    self.sent.insert(accepted[0].event_id, (thread, number));
                    self.threads.insert(thread, number + 1);
                    return;
                }
                Verdict::Refused(refusal) => panic!("{}", refusal.reject),
                Verdict::Full { .. } | Verdict::Unavailable { .. } => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn settle_and_judge(mut self) {
        for faults in [&self.sim.queue_faults, &self.sim.store_faults] {
            faults.quiet();
        }
        self.sim.sink.seed(Rng::seeded(0), Shares::default());
        self.sim.sink.outage(false);
        self.sim.crash();
        let delivering = self.sim.deliver();
        self.sim.drained(Duration::from_secs(600)).await;
        delivering.stop().await;
        let stored = events(&self.sim);
        let stored = distinct(&stored);
        let lost = self.accepted.difference(&stored).count();
        assert_eq!(lost, 0, "seed {}: of {} accepted", self.seed, self.accepted.len());
        let mut first_seen: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for record in self.sim.stored(CRITICAL_TOPIC) {
            if let Some(&(thread, number)) = self.sent.get(&record.event) {
                let numbers = first_seen.entry(thread).or_default();
                if !numbers.contains(&number) {
                    numbers.push(number);
                }
            }
        }
        for (thread, numbers) in first_seen {
            let ordered = numbers.is_sorted() || self.store_fails();
            assert!(ordered, "seed {}: thread {thread} came as {numbers:?} [E4]", self.seed);
        }
    }
}

use super::*;
use crate::sink::Lane;
use tokio::time::advance;

const SECOND: Duration = Duration::from_secs(1);
/// As a polled source has it [S10].
const GROWING: Policy =
    Policy { failures: 3, open: Duration::from_secs(60), longest: Duration::from_secs(600), probe: SECOND };

fn opened() -> SinkBreakers {
    let breakers = SinkBreakers::default();
    for lane in Lane::ALL {
        (0..3).for_each(|_| breakers.lane(lane).record(false));
    }
    breakers
}

#[tokio::test(start_paused = true)]
async fn r2_three_failed_tries_in_a_row_open_it_and_a_success_between_starts_anew() {
    let breakers = SinkBreakers::default();
    let bulk = breakers.lane(Lane::Bulk);
    for succeeded in [false, false, true, false, false] {
        bulk.record(succeeded);
        assert_eq!(bulk.state(), BreakerState::Closed);
    }
    bulk.record(false);
    assert_eq!(bulk.state(), BreakerState::Open);
    advance(59 * SECOND).await;
    assert!(!bulk.admit());
}

#[tokio::test(start_paused = true)]
async fn r2_when_its_time_is_over_one_probe_decides() {
    for (lane, open) in [(Lane::Bulk, 60 * SECOND), (Lane::Critical, SECOND)] {
        for (succeeds, state) in [(true, BreakerState::Closed), (false, BreakerState::Open)] {
            let breakers = opened();
            let breaker = breakers.lane(lane);
            assert!(!breaker.admit());
            advance(open).await;
            assert!(breaker.admit(), "the probe");
            assert!(!breaker.admit(), "only one");
            breaker.record(succeeds);
            assert_eq!(breaker.state(), state);
            assert_eq!(breaker.admit(), succeeds);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_never_reports_is_replaced() {
    let breakers = opened();
    advance(SECOND).await;
    assert!(breakers.lane(Lane::Critical).admit());
    advance(crate::limits::PROBE - SECOND).await;
    assert!(!breakers.lane(Lane::Critical).admit());
    advance(SECOND).await;
    assert!(breakers.lane(Lane::Critical).admit());
}

#[tokio::test(start_paused = true)]
async fn a_late_failure_of_an_old_try_does_not_lengthen_the_open_time_and_a_late_success_ends_it() {
    let breakers = opened();
    let bulk = breakers.lane(Lane::Bulk);
    advance(30 * SECOND).await;
    bulk.record(false);
    advance(30 * SECOND).await;
    assert!(bulk.admit());
    bulk.record(false);
    bulk.record(true);
    assert_eq!(bulk.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn r2_an_acknowledged_alert_ends_the_wait_of_the_bulk_lane() {
    let breakers = opened();
    let bulk = breakers.lane(Lane::Bulk);
    advance(5 * SECOND).await;
    assert!(bulk.holds_back());
    let mut changed = Box::pin(breakers.changed());
    changed.as_mut().enable();
    breakers.lane(Lane::Critical).record(true);
    changed.await;
    assert!(!bulk.holds_back() && bulk.admit());
    bulk.record(true);
    assert_eq!(bulk.state(), BreakerState::Closed);
}

/// The bulk lane's own topic is away while alerts go through: every acknowledged alert is a sign, and none of them is true.
#[tokio::test(start_paused = true)]
async fn r2_false_signs_of_return_wait_ever_longer() {
    let breakers = opened();
    let (critical, bulk) = (breakers.lane(Lane::Critical), breakers.lane(Lane::Bulk));
    let mut probes = 0;
    for _ in 0..3600 {
        advance(SECOND).await;
        critical.record(true);
        if bulk.admit() {
            probes += 1;
            bulk.record(false);
        }
    }
    assert!((60..80).contains(&probes), "{probes} probes in an hour");
}

#[tokio::test(start_paused = true)]
async fn r2_an_old_word_of_another_process_stops_nobody_who_got_through_since() {
    for lane in Lane::ALL {
        let breakers = SinkBreakers::default();
        let breaker = breakers.lane(lane);
        advance(10 * SECOND).await;
        breaker.record(true);
        advance(SECOND / 2).await;
        breaker.hear(true, SECOND * 3 / 4);
        assert_eq!(breaker.state(), BreakerState::Closed, "{lane:?}");
        breaker.hear(true, SECOND / 4);
        assert_eq!(breaker.state(), BreakerState::Open, "{lane:?}");
    }
}

/// The wall clock is for what is stored; a step of it shifts what was stored by it.
#[test]
fn s10_the_open_time_grows_and_can_be_moved_to_a_clock_that_was_set_back() {
    let at = |second: i64| crate::time::Timestamp::from_second(1_700_000_000 + second).unwrap();
    let mut breaker = Breaker::default();
    (0..3).for_each(|_| breaker.record(false, at(0), &GROWING));
    assert_eq!(breaker.waits_until(), Some(at(60)));
    let stored: Breaker<_> = serde_json::from_str(&serde_json::to_string(&breaker).unwrap()).unwrap();
    let mut back = stored.shifted(|time| time - 3600 * SECOND);
    assert_eq!(back.waits_until(), Some(at(-3540)));
    for (now, until) in [(-3540, -3420), (-3420, -3180), (-3180, -2700), (-2700, -2100), (-2100, -1500)] {
        assert!(back.admit(at(now), &GROWING));
        back.record(false, at(now), &GROWING);
        assert_eq!(back.waits_until(), Some(at(until)));
    }
    back.record(true, at(0), &GROWING);
    assert_eq!((back.failures(), back.state()), (0, BreakerState::Closed));
}

#[cfg(all(feature = "embedded", feature = "testing"))]
mod processes {
    //! Several processes over one store.

    use tokio::time::Instant;

    use super::*;
    use crate::breaker::shared::{self, Known};
    use crate::embedded::{Commits, Embedded, MemoryDisk, Options};
    use crate::faults::{Fault, Faults, Faulty};
    use crate::limits::BREAKER_SHARED;
    use crate::time::Clock;

    struct Process {
        breakers: SinkBreakers,
        store: Faulty<Embedded>,
        clock: Clock,
    }

    /// The store of each fails as told.
    fn processes<const N: usize>() -> ([Process; N], Faults) {
        let clock = Clock::simulated("2026-09-01T19:00:00Z".parse().unwrap());
        let options = Options { commits: Commits::Inline, ..Options::new(clock.clone()) };
        let (embedded, faults) = (Embedded::on_disk(&MemoryDisk::new(), options).unwrap(), Faults::none());
        let process = |_| Process {
            breakers: SinkBreakers::default(),
            store: Faulty::new(embedded.clone(), faults.clone()),
            clock: clock.clone(),
        };
        (std::array::from_fn(process), faults)
    }

    async fn exchange(of: &Process) {
        shared::exchange(&of.breakers, &of.store, &of.clock).await;
    }

    async fn known(to: &Process, lane: Lane) -> Known {
        shared::known(&to.breakers, &to.store, &to.clock).await.unwrap()[lane as usize]
    }

    fn fails(app: &Process, lane: Lane) {
        (0..3).for_each(|_| app.breakers.lane(lane).record(false));
    }

    /// As the others do it every second.
    async fn a_second_later(apps: &[&Process]) {
        advance(BREAKER_SHARED).await;
        for app in apps {
            exchange(app).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r2_what_one_process_finds_out_stops_the_others_and_frees_them() {
        for lane in Lane::ALL {
            let ([first, second, third], _) = processes();
            fails(&first, lane);
            exchange(&first).await;
            exchange(&second).await;
            let breaker = second.breakers.lane(lane);
            assert!(breaker.holds_back() && !breaker.admit(), "{lane:?}");
            assert!(!second.breakers.lane(lane.other()).holds_back(), "{lane:?}");
            a_second_later(&[&third, &first]).await;
            // The broker is back, and the second one finds out.
            second.breakers.sign_of_return();
            assert!(second.breakers.lane(lane).admit());
            second.breakers.lane(lane).record(true);
            exchange(&second).await;
            a_second_later(&[&first, &third]).await;
            for app in [&first, &third] {
                assert!(!app.breakers.lane(lane).holds_back(), "{lane:?}");
            }
            assert_eq!(known(&third, lane).await.state, third.breakers.lane(lane).state());
        }
    }

    /// On a clock that runs, unlike the others' here, no two looks at it tell the same time.
    #[tokio::test]
    async fn r2_the_first_exchange_takes_place_and_the_next_one_waits() {
        let ([first, second], _) = processes();
        fails(&first, Lane::Bulk);
        exchange(&first).await;
        exchange(&second).await;
        assert!(second.breakers.lane(Lane::Bulk).holds_back());
        assert!(!first.breakers.is_exchange_due() && !second.breakers.is_exchange_due());
    }

    #[tokio::test(start_paused = true)]
    async fn r2_a_failed_probe_of_what_was_heard_opens_again() {
        let ([first, second], _) = processes();
        fails(&first, Lane::Bulk);
        exchange(&first).await;
        exchange(&second).await;
        let bulk = second.breakers.lane(Lane::Bulk);
        advance(60 * SECOND).await;
        assert!(bulk.admit() && !bulk.admit(), "one probe");
        bulk.record(false);
        assert!(bulk.holds_back() && bulk.state() == BreakerState::Open);
    }

    /// A process whose own network is broken must not hold up the ones that get through.
    #[tokio::test(start_paused = true)]
    async fn r2_who_got_through_later_goes_on_and_says_so() {
        let ([cut_off, well, idle], _) = processes();
        fails(&cut_off, Lane::Critical);
        exchange(&cut_off).await;
        advance(SECOND / 2).await;
        well.breakers.lane(Lane::Critical).record(true);
        exchange(&well).await;
        exchange(&idle).await;
        for app in [&well, &idle] {
            assert_eq!(app.breakers.lane(Lane::Critical).state(), BreakerState::Closed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r2_without_the_store_each_goes_by_its_own_and_the_news_is_told_later() {
        let ([first, second], faults) = processes();
        faults.outage(true);
        fails(&first, Lane::Bulk);
        exchange(&first).await;
        assert!(first.breakers.lane(Lane::Bulk).holds_back() && second.breakers.lane(Lane::Bulk).admit());
        assert!(first.breakers.exchange_due() > Some(Instant::now()), "not tried again without a pause");
        faults.outage(false);
        a_second_later(&[&first, &second]).await;
        assert!(second.breakers.lane(Lane::Bulk).holds_back());
    }

    #[tokio::test(start_paused = true)]
    async fn r2_the_answer_to_a_word_is_lost_and_it_is_said_again() {
        let ([first, second], faults) = processes();
        fails(&first, Lane::Bulk);
        faults.script([Fault::None, Fault::After]);
        exchange(&first).await;
        assert!(first.breakers.exchange_due() <= Some(Instant::now() + crate::limits::ASK_AGAIN));
        a_second_later(&[&first, &second]).await;
        assert!(second.breakers.lane(Lane::Bulk).holds_back());
        assert!(
            first.breakers.exchange_due() > Some(Instant::now() + crate::limits::ASK_AGAIN),
            "nothing is left to say"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn o8_since_when_the_sink_is_away_is_kept_while_others_repeat_it() {
        let ([first, second, control], _) = processes();
        let began = control.clock.now();
        fails(&first, Lane::Critical);
        exchange(&first).await;
        for app in [&second, &first, &second] {
            advance(2 * SECOND).await;
            exchange(app).await;
            app.breakers.lane(Lane::Critical).admit();
            fails(app, Lane::Critical);
            exchange(app).await;
        }
        let critical = known(&control, Lane::Critical).await;
        assert_eq!((critical.state, critical.since), (BreakerState::Open, Some(began)));
        advance(600 * SECOND).await;
        let critical = known(&control, Lane::Critical).await;
        assert_eq!(critical.state, BreakerState::Closed, "nobody has repeated it");
    }
}

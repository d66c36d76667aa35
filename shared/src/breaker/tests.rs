use super::*;
use crate::sink::Lane;
use tokio::time::advance;

const SECOND: Duration = Duration::from_secs(1);
/// As a polled source has it [S10].
const GROWING: Policy =
    Policy { failures: 3, open: Duration::from_secs(60), longest: Duration::from_secs(600), probe: SECOND };

fn opened() -> SinkBreakers {
    let breakers = SinkBreakers::default();
    for lane in [Lane::Critical, Lane::Bulk] {
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

//! What a load uses of AWS [F10]: the handlers in simulated time, invoked as the template has it, over seams that count what is
//! billed. Nothing fails here; what faults cost is a share of this.

mod brought;
mod lines;
mod meter;
mod system;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use system::System;

/// What is counted, in the unit in which AWS bills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Billed {
    /// Acknowledged by Kafka: what the rest is for. It is not billed here.
    Records,
    /// Requests to SQS, one for each 64 KiB of a request's messages.
    SqsRequests,
    /// DynamoDB's write units of 1 KiB.
    DynamoWrites,
    /// DynamoDB's units of 4 KiB, read consistently.
    DynamoReads,
    /// Objects written to S3.
    S3Puts,
    /// Objects read from S3.
    S3Gets,
    /// Bytes written to S3.
    S3Bytes,
    /// Records put into Kinesis, one for each 25 KiB of a record: what provisioned shards are paid for.
    KinesisRecords,
    /// Their bytes, each rounded up to whole KiB: what a stream on demand is paid for.
    KinesisBytes,
    /// Messages to AWS IoT, one for each 5 KiB, each of which triggers one rule with one action.
    IotMessages,
    /// Of these, those that came by their topic, not straight to the rule.
    IotTopicMessages,
    /// Calls by EventBridge Scheduler.
    Scheduled,
    /// Requests to the HTTP API.
    HttpRequests,
    /// Bytes between functions in the VPC and SQS, through its endpoint.
    EndpointBytes,
    /// Bytes of the lines that functions log at level info or tell metrics in, and of the API's access log; without what Lambda itself logs of a call.
    LineBytes,
}

/// What is brought, at an even rate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Load {
    /// Streams of FIRMS, polled every minute.
    pub firms_streams: u32,
    /// Rows in each answer.
    pub firms_rows: u32,
    /// Of these, those that were not in the last one.
    pub firms_new_rows: u32,
    /// Weather stations, polled every five minutes.
    pub stations: u32,
    /// Sensors that are connected, one shard of the stream after the other.
    pub devices: u32,
    /// Their messages together.
    pub readings_per_minute: u32,
    /// They publish straight to the rule (Basic Ingest), not by their topics.
    pub basic_ingest: bool,
    /// Alerts over HTTPS.
    pub alerts_per_week: u32,
    /// Rows of archives.
    pub archive_rows_per_day: u32,
}

impl Load {
    /// The load that every figure of the requirements means which says so. What is new in an answer of FIRMS is assumed: one row in
    /// ten, as if each satellite passed all day.
    pub const REFERENCE: Load = Load {
        firms_streams: 6,
        firms_rows: 500,
        firms_new_rows: 50,
        stations: 60,
        devices: 2_494,
        readings_per_minute: 2_494,
        basic_ingest: true,
        alerts_per_week: 241,
        archive_rows_per_day: 10_847,
    };
    /// A stack to which nobody brings anything.
    pub const NOTHING: Load = Load {
        firms_streams: 0,
        firms_rows: 0,
        firms_new_rows: 0,
        stations: 0,
        devices: 0,
        readings_per_minute: 0,
        basic_ingest: true,
        alerts_per_week: 0,
        archive_rows_per_day: 0,
    };
    /// The reference load with 10,000 events a second, nearly all of them readings of the same sensors.
    pub const PEAK: Load = Load { readings_per_minute: 597_000, ..Load::REFERENCE };
}

/// What the template says of how functions are invoked.
#[derive(Debug, Clone, Copy)]
pub struct Invoked {
    /// Shards of the sensors' stream.
    pub shards: u32,
    /// Records that a call of `stream` takes at most.
    pub stream_batch: usize,
    /// How long such a batch may fill.
    pub stream_window: Duration,
    /// Calls of `deliver` at a time.
    pub deliver_at_once: u32,
    /// How long a call of `deliver` may run.
    pub deliver_timeout: Duration,
}

/// Calls of one function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// How many began.
    pub calls: u64,
    /// How long they ran together, each rounded up to a millisecond, without the time that they computed.
    pub billed_ms: u64,
}

/// What was used in `lasts`.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    /// The simulated time, in seconds.
    pub seconds: f64,
    /// By what is billed.
    pub counts: BTreeMap<Billed, u64>,
    /// By the function's binary.
    pub calls: BTreeMap<&'static str, Calls>,
    /// What lies in the state table when as much expires as is added.
    pub stored_bytes: u64,
    /// Metrics that functions tell CloudWatch of: names with their dimensions.
    pub metrics: usize,
}

impl Usage {
    fn since(mut self, before: &Usage) -> Usage {
        for (what, count) in &mut self.counts {
            *count -= before.counts.get(what).copied().unwrap_or_default();
        }
        for (function, calls) in &mut self.calls {
            let before = before.calls.get(function).copied().unwrap_or_default();
            calls.calls -= before.calls;
            calls.billed_ms -= before.billed_ms;
        }
        self.seconds -= before.seconds;
        self
    }
}

/// Runs the load for `warm_up`, until everything is as it will stay, and then counts for `lasts`. A call that is under way at either
/// end counts with the time that it ran between them. `measured` is told when counting begins.
///
/// # Errors
/// When no runtime can be had, or the load was not accepted: why.
pub fn measure(
    load: Load,
    invoked: Invoked,
    warm_up: Duration,
    lasts: Duration,
    measured: impl FnOnce(),
) -> Result<Usage, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|e| format!("no runtime: {e}"))?.block_on(async {
        let started = Instant::now();
        let system = System::start(load, invoked).await?;
        let lines = lines::counted(system.meter());
        sleep(warm_up).await;
        let began = Instant::now();
        let before = system.usage(started, began);
        measured();
        sleep(lasts).await;
        system.failed()?;
        drop(lines);
        Ok(system.usage(started, began).since(&before))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const INVOKED: Invoked = Invoked {
        shards: 2,
        stream_batch: 1_000,
        stream_window: Duration::ZERO,
        deliver_at_once: 3,
        deliver_timeout: Duration::from_secs(900),
    };
    const LITTLE: Load = Load {
        firms_streams: 1,
        firms_rows: 20,
        firms_new_rows: 5,
        stations: 2,
        devices: 60,
        readings_per_minute: 600,
        basic_ingest: true,
        alerts_per_week: 7 * 24 * 60,
        archive_rows_per_day: 0,
    };

    fn ten_minutes(load: Load) -> Usage {
        measure(load, INVOKED, Duration::from_secs(300), Duration::from_secs(600), || ()).unwrap()
    }

    #[test]
    fn f10_what_a_load_uses_is_counted() {
        let usage = ten_minutes(LITTLE);
        let count = |what| usage.counts.get(&what).copied().unwrap_or_default();
        // Ten minutes, give or take what is under way at their ends.
        let about = |what: Billed, expected: u64| {
            let counted = count(what);
            assert!(counted.abs_diff(expected) * 50 <= expected.max(50), "{what:?}: {counted}, not {expected}");
        };
        about(Billed::Records, 6_000 + 50 + 10);
        about(Billed::IotMessages, 6_000);
        about(Billed::KinesisRecords, 6_000);
        // A reading is less than 1 KiB, and is paid for as one.
        about(Billed::KinesisBytes, 6_000 * 1_024);
        about(Billed::HttpRequests, 10);
        // schedule, deliver and keep-warm.
        about(Billed::Scheduled, 30);
        assert_eq!(count(Billed::IotTopicMessages), 0);
        // Each shard once a second; FIRMS each minute and stations each five.
        assert!(usage.calls["stream"].calls.abs_diff(1_200) < 30, "{usage:?}");
        assert!(usage.calls["realtime"].calls.abs_diff(12) <= 1, "{usage:?}");
        // One at work all the time, and one that stands by.
        let delivering = usage.calls["deliver"].billed_ms as f64 / 600_000.0;
        assert!((delivering - 2.0).abs() < 0.1, "{delivering}: {usage:?}");
        // O1: what it names, by tier where a tier is a dimension, and little besides.
        assert!((10..25).contains(&usage.metrics), "{usage:?}");
        assert!(count(Billed::LineBytes) > 1_200 * 200, "{usage:?}");
        // The long polls of four queues with five pollers each, deliver's four, and what is sent.
        assert!(count(Billed::SqsRequests) > 4 * 5 * 30 && count(Billed::DynamoWrites) > 1_200, "{usage:?}");
    }

    #[test]
    fn f10_a_stack_to_which_nothing_is_brought_still_waits_for_it() {
        let usage = ten_minutes(Load::NOTHING);
        let count = |what| usage.counts.get(&what).copied().unwrap_or_default();
        assert_eq!([Billed::Records, Billed::IotMessages, Billed::HttpRequests].map(count), [0; 3], "{usage:?}");
        assert!(!usage.calls.contains_key("realtime") && !usage.calls.contains_key("stream"), "{usage:?}");
        let delivering = usage.calls["deliver"].billed_ms as f64 / 600_000.0;
        assert!((delivering - 2.0).abs() < 0.1 && count(Billed::SqsRequests) > 4 * 5 * 30, "{usage:?}");
    }

    /// No call of deliver ends in it: they run for 870 s from the start on.
    #[test]
    fn f10_calls_that_outlast_what_is_measured_are_billed() {
        let usage = measure(LITTLE, INVOKED, Duration::from_secs(300), Duration::from_secs(150), || ()).unwrap();
        let delivering = usage.calls["deliver"].billed_ms as f64 / 150_000.0;
        assert!((delivering - 2.0).abs() < 0.1, "{delivering}: {usage:?}");
    }

    /// What is remembered of readings lasts longer than what is measured: what will lie there is the same, however long that is.
    #[test]
    fn f10_what_is_stored_is_what_lies_there_in_the_end() {
        let load = Load { readings_per_minute: 0, ..LITTLE };
        let of =
            |minutes: u64| measure(load, INVOKED, Duration::from_secs(300), Duration::from_secs(60 * minutes), || ());
        let [short, long] = [20, 40].map(|minutes| of(minutes).unwrap().stored_bytes as f64);
        assert!((short / long - 1.0).abs() < 0.25, "{short} of 20 minutes, {long} of 40");
    }

    /// Only what goes by readings doubles with them. What is asked each second or minute stays, and so does what is bought by the day.
    #[test]
    fn f10_twice_the_readings_are_billed_by_what_they_use() {
        let (one, two) =
            (ten_minutes(LITTLE), ten_minutes(Load { readings_per_minute: 1_200, basic_ingest: false, ..LITTLE }));
        let times = |what: Billed| two.counts[&what] as f64 / one.counts[&what] as f64;
        for what in [Billed::IotMessages, Billed::KinesisRecords, Billed::KinesisBytes] {
            assert!((times(what) - 2.0).abs() < 0.01, "{what:?}: {}", times(what));
        }
        assert_eq!(two.counts[&Billed::IotTopicMessages], two.counts[&Billed::IotMessages]);
        for what in
            [Billed::SqsRequests, Billed::DynamoWrites, Billed::DynamoReads, Billed::Scheduled, Billed::HttpRequests]
        {
            assert!((0.9..1.4).contains(&times(what)), "{what:?}: {}", times(what));
        }
        let calls =
            |usage: &Usage| -> BTreeMap<&str, u64> { usage.calls.iter().map(|(f, calls)| (*f, calls.calls)).collect() };
        assert_eq!(calls(&one), calls(&two));
    }
}

//! Against the rules of the format: what CloudWatch's schema asks of a document, and that no figure is lost or told twice.

use metrics::with_local_recorder;

use super::*;

fn at() -> Timestamp {
    Timestamp::from_second(7).unwrap()
}

/// What is counted and told of it.
fn told(count: impl FnOnce()) -> Vec<Value> {
    let emf = Emf::new("StreamManager/p-dev", "p-dev-deliver");
    with_local_recorder(&emf, count);
    let lines = emf.lines(at());
    assert_eq!(emf.lines(at()), Vec::<Value>::new(), "what was told is not told again");
    lines.iter().for_each(keeps_the_rules);
    lines
}

/// CloudWatch's rules for a document; a line without a directive is no metric.
fn keeps_the_rules(line: &Value) {
    assert!(line.to_string().len() < 256 * 1024);
    let Some(aws) = line.get("_aws") else { return };
    assert!(aws["Timestamp"].is_u64(), "{line}");
    for directive in aws["CloudWatchMetrics"].as_array().unwrap() {
        let namespace = directive["Namespace"].as_str().unwrap();
        assert!((1..=255).contains(&namespace.len()));
        for set in directive["Dimensions"].as_array().unwrap() {
            let set = set.as_array().unwrap();
            assert!(set.len() <= 9, "{line}");
            assert!(set.iter().all(|name| line[name.as_str().unwrap()].is_string()), "{line}");
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()), "{} metrics", metrics.len());
        for metric in metrics {
            let value = &line[metric["Name"].as_str().unwrap()];
            match (&value["Values"], &value["Counts"]) {
                (Value::Array(values), Value::Array(counts)) => {
                    assert!(values.len() == counts.len() && (1..=100).contains(&values.len()), "{line}");
                    assert!(values.iter().chain(counts).all(Value::is_number), "{line}");
                }
                _ => assert!(value.is_number(), "{line}"),
            }
        }
    }
}

#[test]
fn o1_counters_and_levels_are_told_once_with_their_labels() {
    let lines = told(|| {
        for (source, records) in [("a", 2), ("a", 3), ("b", 1)] {
            metrics::counter!("stream_records_processed_total", "source_id" => source).increment(records);
        }
        metrics::gauge!("stream_consumer_lag_seconds", "group" => "desk").set(7.0);
        metrics::counter!("stream_dlq_beyond_total").increment(0);
    });
    let directive = |dimensions: Value, metric: Value| {
        json!({ "Timestamp": 7000, "CloudWatchMetrics": [{
            "Namespace": "StreamManager/p-dev", "Dimensions": [dimensions], "Metrics": [metric],
        }]})
    };
    let processed = |source: &str, records: u64| {
        json!({
            "_aws": directive(json!([]), json!({ "Name": "stream_records_processed_total" })), "function": "p-dev-deliver",
            "source_id": source, "stream_records_processed_total": records,
        })
    };
    let lag = json!({
        "_aws": directive(json!(["group"]), json!({ "Name": "stream_consumer_lag_seconds", "Unit": "Seconds" })),
        "function": "p-dev-deliver", "group": "desk", "stream_consumer_lag_seconds": 7.0,
    });
    assert_eq!(lines, [processed("a", 5), processed("b", 1), lag]);
}

#[test]
fn o1_of_several_levels_of_one_metric_the_highest_is_told_and_each_is_logged() {
    let lines = told(|| {
        for (lane, state) in [("critical", 2.0), ("bulk", 0.0)] {
            metrics::gauge!("stream_circuit_breaker_state", "lane" => lane).set(state);
        }
        metrics::gauge!("stream_dlq_size").increment(1.0);
        metrics::gauge!("stream_active_streams").set(f64::NAN);
    });
    let (metrics, logged): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.get("_aws").is_some());
    assert_eq!(metrics.len(), 1, "a level that nobody has looked at is not told: {lines:?}");
    assert_eq!(metrics[0]["stream_circuit_breaker_state"], 2.0);
    let states: Vec<_> = logged.iter().map(|line| (&line["lane"], &line["stream_circuit_breaker_state"])).collect();
    assert_eq!(states, [(&json!("bulk"), &json!(0.0)), (&json!("critical"), &json!(2.0))]);
}

/// Values of eight decades, more of them than a document takes.
#[test]
fn o1_a_histogram_loses_no_value_however_many_there_are() {
    let (count, mut sum) = (100_000_u32, 0.0);
    let lines = told(|| {
        for n in 0..count {
            let value = 1e-4 * 1e8_f64.powf(f64::from(n) / f64::from(count));
            sum += 3.0 * value;
            metrics::histogram!("stream_latency_seconds", "priority" => "low").record_many(value, 3);
        }
        let odd = metrics::histogram!("stream_batch_size");
        [0.0, f64::NAN, f64::INFINITY].into_iter().for_each(|value| odd.record(value));
    });
    let of = |name: &str| {
        let all = lines.iter().map(|line| &line[name]).filter(|value| value.is_object());
        let numbers = |value: &Value| value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>();
        all.flat_map(|value| numbers(&value["Values"]).into_iter().zip(numbers(&value["Counts"]))).collect::<Vec<_>>()
    };
    let latencies = of("stream_latency_seconds");
    assert!(latencies.len() > 100 && lines.len() == 3, "{} values in {} lines", latencies.len(), lines.len());
    assert_eq!(latencies.iter().map(|(_, count)| count).sum::<f64>(), 3.0 * f64::from(count));
    let told: f64 = latencies.iter().map(|(value, count)| value * count).sum();
    assert!((told / sum - 1.0).abs() < 1e-9, "{told}, not {sum}");
    assert!(latencies.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[1].0 / pair[0].0 < 1.11));
    assert_eq!(of("stream_batch_size"), [(0.0, 1.0)]);
}

#[test]
fn o1_a_document_holds_no_more_metrics_than_it_may() {
    let names: Vec<String> = (0..250).map(|n| format!("stream_{n:03}_total")).collect();
    let lines = told(|| names.iter().for_each(|name| metrics::counter!(name.clone()).increment(1)));
    assert_eq!(lines.len(), 3);
    assert!(names.iter().all(|name| lines.iter().filter(|line| line[name] == 1).count() == 1));
}

/// F10: what would be many metrics, and nobody draws.
#[test]
fn f10_what_is_only_looked_up_is_no_metric() {
    let lines = told(|| {
        let stage = metrics::histogram!("stream_stage_seconds", "priority" => "high", "stage" => "sent");
        [0.5, 0.25, 2.0].into_iter().for_each(|seconds| stage.record(seconds));
    });
    let stage = json!({ "count": 3, "sum": 2.75, "max": 2.0 });
    assert_eq!(
        lines,
        [json!({ "function": "p-dev-deliver", "priority": "high", "stage": "sent", "stream_stage_seconds": stage })]
    );
}

#[tokio::test(start_paused = true)]
async fn o1_a_long_invocation_tells_each_minute_and_at_its_end() {
    let (clock, emf) = (Clock::simulated(at()), Emf::new("StreamManager/p-dev", "p-dev-deliver"));
    let lines = Mutex::new(Vec::new());
    let began = Instant::now();
    let tell = |line: Value| lines.lock().push((began.elapsed().as_secs(), line["stream_batch_total"].clone()));
    let work = async {
        for seconds in [50, 30, 70, 10] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            with_local_recorder(&emf, || metrics::counter!("stream_batch_total").increment(seconds));
        }
        "done"
    };
    assert_eq!(emf.told(&clock, tell, work).await, "done");
    assert_eq!(*lines.lock(), [(60, json!(50)), (120, json!(30)), (160, json!(80))]);
}

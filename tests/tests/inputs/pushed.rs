//! Pushed readings through the stream function [S12, S9]: nothing that was acknowledged falls away, and a refused one says
//! who sent it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use streammanager::dead;
use streammanager::error::{Reason, Sender};
use streammanager_tests::simulated::Simulated;

/// A batch of the sensors stream: sequence number, device, payload.
fn batch<P: AsRef<[u8]>>(records: &[(u64, &str, P)]) -> Value {
    let records = records.iter().map(|(sequence, device, payload)| {
        let rule = json!({
            "payload": BASE64.encode(payload), "topic": format!("sensors/generic/{device}/state"), "principal": "cert-7",
            "client": "a-client", "received_at": 1_788_289_200_000_u64,
        });
        json!({
            "eventID": format!("shardId-000000000000:{sequence}"),
            "kinesis": { "partitionKey": device, "sequenceNumber": sequence.to_string(), "data": BASE64.encode(rule.to_string()) },
        })
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}

#[tokio::test(start_paused = true)]
async fn s12_of_a_burst_without_a_clock_every_reading_arrives_and_a_redelivery_adds_none() {
    let sim = Simulated::new(1);
    let same = (0..200).map(|n| (n, "dev-a", r#"{"temperature": 20.5}"#.to_owned()));
    let different = (200..400).map(|n| (n, "dev-b", format!(r#"{{"temperature": {}}}"#, 10.0 + n as f64 / 10.0)));
    let burst: Vec<_> = same.chain(different).collect();
    for part in burst.chunks(100).chain(burst.chunks(100)) {
        let answer = streammanager_functions::stream::handle(&sim.app, batch(part)).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [] }));
    }
    let delivering = sim.deliver();
    sim.drained(std::time::Duration::from_secs(60)).await;
    delivering.stop().await;
    let stored = sim.stored("wildfire-iot-sensors");
    let events: std::collections::BTreeSet<_> = stored.iter().map(|record| record.event).collect();
    assert_eq!((stored.len(), events.len()), (400, 400));
    assert!(stored.iter().all(|record| record.revision == 0));
}

#[tokio::test(start_paused = true)]
async fn s9_the_dead_letter_of_a_pushed_record_says_topic_client_principal_and_sensor() {
    let sim = Simulated::new(2);
    let bad = [(1, "dev-a", "{\"cut".to_owned()), (2, "dev-b", r#"{"time": "2036-01-01T00:00:00Z"}"#.to_owned())];
    streammanager_functions::stream::handle(&sim.app, batch(&bad)).await.unwrap();
    let letters = dead::list(&*sim.app.store, None, 10).await.unwrap().letters;
    for (number, device, reason) in [(1, "dev-a", Reason::BadJson), (2, "dev-b", Reason::FutureTime)] {
        let sender = Sender {
            topic: format!("sensors/generic/{device}/state"),
            client: Some("a-client".into()),
            principal: Some("cert-7".into()),
            sensor: Some(device.into()),
            // Where it lies in the stream: a redrive says it [R4].
            partition: Some("shardId-000000000000".into()),
            offset: Some(number.to_string()),
            received_at: letters[0].sender.as_ref().unwrap().received_at,
            ..Sender::default()
        };
        let letter = letters.iter().find(|letter| letter.reason == reason).unwrap();
        assert_eq!(letter.sender, Some(sender));
        assert!(letter.raw_bytes > 0);
    }
}

/// A gateway's topic names the gateway; the letter names the sensor whose reading it is.
#[tokio::test(start_paused = true)]
async fn r4_the_dead_letter_of_a_gateways_reading_names_its_own_sensor() {
    let sim = Simulated::new(3);
    let body =
        r#"[{"sensor_id": "s1", "time": "2036-01-01T00:00:00Z"}, {"sensor_id": "s2", "time": "2036-01-01T00:00:00Z"}]"#;
    streammanager_functions::stream::handle(&sim.app, batch(&[(1, "gateway", body.to_owned())])).await.unwrap();
    let letters = dead::list(&*sim.app.store, None, 10).await.unwrap().letters;
    let mut sensors: Vec<_> = letters.iter().map(|letter| letter.sender.clone().unwrap().sensor.unwrap()).collect();
    sensors.sort();
    assert_eq!(sensors, ["s1", "s2"]);
}

/// Q1: content never fails a batch. Names of 64 KB in the directory of what begins as an archive, and a client and a topic as
/// long as MQTT lets them be.
#[tokio::test(start_paused = true)]
async fn q1_an_archive_with_the_longest_names_is_one_dead_letter_and_fails_no_batch() {
    let sim = Simulated::new(4);
    let mut body = b"PK\x03\x04".to_vec();
    for _ in 0..5 {
        let mut header = vec![0; 46];
        header[..4].copy_from_slice(b"PK\x01\x02");
        header[28..30].copy_from_slice(&[0xff, 0xff]);
        body.extend(header);
    }
    body.resize(70 * 1024, 0);
    let mut event = batch(&[(1, "dev-a", body.clone())]);
    let rule = json!({
        "payload": BASE64.encode(&body), "topic": format!("sensors/generic/{}/state", "\u{1}".repeat(60_000)),
        "principal": "cert-7", "client": "\u{1}".repeat(60_000), "received_at": 1_788_289_200_000_u64,
    });
    event["Records"].as_array_mut().unwrap().push(json!({
        "eventID": "shardId-000000000000:2",
        "kinesis": { "partitionKey": "dev-b", "sequenceNumber": "2", "data": BASE64.encode(rule.to_string()) },
    }));
    let answer = streammanager_functions::stream::handle(&sim.app, event).await.unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    let letters = dead::list(&*sim.app.store, None, 10).await.unwrap().letters;
    assert_eq!(letters.iter().map(|letter| letter.attempts).sum::<u64>(), 2, "one letter, met twice: {letters:?}");
    assert_eq!(dead::raw(&*sim.app.blobs, &letters[0]).await.unwrap().unwrap(), body);
    assert!(letters[0].detail.len() < 1_000, "{}", letters[0].detail);
}

#[tokio::test(start_paused = true)]
async fn s9_an_archive_that_was_cut_off_names_no_files() {
    let sim = Simulated::new(5);
    let cut = b"PK\x03\x04\x14\0\0\0\0\0readings.json {".to_vec();
    streammanager_functions::stream::handle(&sim.app, batch(&[(1, "dev-a", cut)])).await.unwrap();
    let letters = dead::list(&*sim.app.store, None, 10).await.unwrap().letters;
    assert!(letters[0].detail.contains("its directory is missing"), "{}", letters[0].detail);
}

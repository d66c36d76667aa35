//! Every form in which inputs come, through every door: `decode` and `ingest` with files, a polled service's answer, and a
//! pushed message. Each is read, or told what it is; none falls away in silence [S9].

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};
use streammanager::connect::{Connector, Cursor, Single, SourceError};
use streammanager::dead;
use streammanager::decode::Context;
use streammanager::record::SourceId;
use streammanager::sources::firms::{Config, Firms, Product};
use streammanager::time::Timestamp;
use streammanager::upstream::Response;
use streammanager_tests::binary;
use streammanager_tests::generated::firms::files;
use streammanager_tests::generated::forms::{Becomes, Form, of_readings, of_table};
use streammanager_tests::simulated::Simulated;
use tempfile::tempdir;

/// A command that is given the form as its file; gives what it read, and all that it said.
fn command(folder: &Path, arguments: &[&str], form: &Form) -> (usize, String) {
    std::fs::write(folder.join("in"), &form.body).unwrap();
    let ended = Command::new(binary()).args(arguments).arg("in").current_dir(folder).output().unwrap();
    let out = String::from_utf8_lossy(&ended.stdout).into_owned();
    let said = format!("{out}{}", String::from_utf8_lossy(&ended.stderr));
    let read = if arguments[0] == "decode" {
        out.lines().count()
    } else {
        serde_json::from_str::<Value>(&out).unwrap_or_else(|e| panic!("{e}: {said}"))["accepted"].as_u64().unwrap()
            as usize
    };
    let expected = if form.file == Becomes::Read { Some(0) } else { Some(3) };
    assert_eq!(ended.status.code(), expected, "{}: {said}", form.name);
    (read, said)
}

/// The form is read whole, or nothing of it and the words stand there.
fn judge(door: &str, form: &Form, becomes: Becomes, records: usize, (read, said): (usize, String)) {
    match becomes {
        Becomes::Read => assert_eq!(read, records, "{door}, {}: {said}", form.name),
        Becomes::Told(words) => {
            assert!(read == 0 && said.contains(words), "{door}, {}: {read} read, {said}", form.name);
        }
    }
}

fn commands(source: &str, form: &Form, records: usize) {
    let folder = tempdir().unwrap();
    for arguments in [
        &["decode", "--source", source][..],
        &["ingest", "--json", "--source", source, "--data", "data", "--out", "out"],
    ] {
        judge(arguments[0], form, form.file, records, command(folder.path(), arguments, form));
    }
}

const TABLE: &str = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight
39.5,-121.5,331.2,0.4,0.4,2026-06-01,0930,N,VIIRS,n,2.0NRT,290.1,3.4,D
39.6,-121.4,331.2,0.4,0.4,2026-06-01,0930,N,VIIRS,n,2.0NRT,290.1,3.5,D
";

#[test]
fn s9_a_table_of_any_form_is_read_or_told_by_the_commands() {
    of_table(TABLE).iter().for_each(|form| commands("firms_viirs_snpp", form, 2));
}

#[test]
fn s9_readings_of_any_form_are_read_or_told_by_the_commands() {
    of_readings(&readings()).iter().for_each(|form| commands("iot_shelly", form, 3));
}

#[test]
fn s9_a_feed_of_any_dialect_and_form_is_read_or_told() {
    for file in files(40) {
        let source = SourceId::new(file.source).unwrap();
        let config = Config { product: Product::VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1], days: 1 };
        let firms = Firms { source: source.clone(), config, base_url: "http://x".into(), map_key: "5ecret".into() };
        for form in of_table(&file.text) {
            let response = Response {
                status: 200,
                headers: Vec::new(),
                body: Bytes::from(form.body.clone()),
                elapsed: Duration::ZERO,
            };
            let (read, said) = match firms.absorb(&Cursor::default(), response, Timestamp::UNIX_EPOCH) {
                Ok(fetched) => {
                    let received_at = Timestamp::UNIX_EPOCH;
                    let context = Context { source: &source, received_at, topic: None, message: None };
                    let body = fetched.body.unwrap();
                    let rows = firms.rows(&body, context).unwrap();
                    (rows.filter(Result::is_ok).count(), String::new())
                }
                Err(SourceError::Failed(said)) => (0, said),
                Err(other) => panic!("{}: {other:?}", form.name),
            };
            judge(file.name, &form, form.pushed, file.facts.valid, (read, said));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s9_a_pushed_message_of_any_form_is_read_or_a_dead_letter_that_says_what_it_is() {
    for (n, form) in of_readings(&readings()).iter().enumerate() {
        let sim = Simulated::new(n as u64);
        let rule = json!({
            "payload": BASE64.encode(&form.body), "topic": "sensors/shelly/roof/state", "principal": "", "client": "a-client",
            "received_at": 1_788_289_200_000_u64,
        });
        let record = json!({
            "eventID": "shardId-000000000000:1",
            "kinesis": { "partitionKey": "roof", "sequenceNumber": "1", "data": BASE64.encode(rule.to_string()) },
        });
        let answer = streammanager_functions::stream::handle(&sim.app, json!({ "Records": [record] })).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [] }), "{}", form.name);
        let letters = dead::list(&*sim.app.store, None, 10).await.unwrap().letters;
        let said = letters.iter().map(|letter| letter.detail.clone()).collect::<String>();
        judge("MQTT", form, form.pushed, 3, (sim.app.tally.totals().accepted as usize, said));
        if let [letter] = &letters[..] {
            assert_eq!(
                dead::raw(&*sim.app.blobs, letter).await.unwrap().unwrap(),
                form.body,
                "{}: its bytes are kept",
                form.name
            );
        }
    }
}

fn readings() -> Vec<Value> {
    (0..3).map(|n| json!({ "id": format!("s{n}"), "time": 1_788_289_000 + n, "temperature_c": 20 + n })).collect()
}

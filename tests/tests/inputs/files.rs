//! Files in other forms than expected, topics named on the command line, and readers that have seen enough.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use streammanager_tests::binary;
use streammanager_tests::generated::forms::zip;
use tempfile::tempdir;

/// Runs in `folder`; gives exit code, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let ended = Command::new(binary()).args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code().unwrap(), text(&ended.stdout), text(&ended.stderr))
}

const CSV: &str = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight
39.5,-121.5,331.2,0.4,0.4,2026-06-01,0930,N,VIIRS,n,2.0NRT,290.1,3.4,D
";

#[test]
fn a_file_in_another_form_is_read_or_told_what_it_is() {
    let folder = tempdir().unwrap();
    let wide = |text: &str| format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(CSV.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    std::fs::write(folder.path().join("in.csv"), wide(CSV)).unwrap();
    let (code, out, error) = run(folder.path(), &["decode", "--source", "firms_viirs_snpp", "in.csv"]);
    assert_eq!((code, out.lines().count()), (0, 1), "UTF-16: {error}");
    std::fs::write(folder.path().join("in.gz"), &gzip).unwrap();
    assert_eq!(run(folder.path(), &["decode", "--source", "firms_viirs_snpp", "in.gz"]).0, 0);
    for (content, says) in [
        (CSV.replace(',', ";").into_bytes(), "separated by semicolons"),
        (CSV.replace(',', "\t").into_bytes(), "separated by tabs"),
        (zip("fire_archive.csv", CSV.as_bytes()), "a zip archive of fire_archive.csv"),
        (zip("xl/workbook.xml", b"x"), "an Excel workbook"),
        (gzip[..gzip.len() / 2].to_vec(), "damaged gzip"),
    ] {
        std::fs::write(folder.path().join("in"), content).unwrap();
        let (code, _, error) = run(folder.path(), &["decode", "--source", "firms_viirs_snpp", "in"]);
        assert!(code == 3 && error.contains("in: ") && error.contains(says), "{code}: {error}");
    }
    let (code, _, error) = run(folder.path(), &["decode", "--source", "firms_viirs_snpp", "nowhere.csv"]);
    assert!(
        code == 1 && error.contains("nowhere.csv: there is no such file") && !error.contains("os error"),
        "{error}"
    );
}

/// A pattern of the shell may name what was moved meanwhile: the other files are decoded, and each problem is said.
#[test]
fn a_file_that_cannot_be_opened_costs_itself_alone() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("day.csv"), CSV).unwrap();
    std::fs::create_dir(folder.path().join("days")).unwrap();
    let files = ["gone.csv", "day.csv", "days", "lost.csv", "day.csv"];
    for named in [&["--source", "firms_viirs_snpp"][..], &[]] {
        let (code, out, error) = run(folder.path(), &[&["decode"], named, &files].concat());
        assert_eq!((code, out.lines().count()), (3, 2), "{error}");
        for says in ["gone.csv: not_data: there is no such file", "days: not_data: is a folder", "lost.csv: not_data"] {
            assert_eq!(error.matches(says).count(), 1, "{says}: {error}");
        }
    }
    let (code, out, error) = run(folder.path(), &[&["decode", "--json"], &files[..]].concat());
    let rejects = error.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["reject"]["path"].clone());
    assert_eq!((code, out.lines().count()), (3, 2));
    assert_eq!(rejects.collect::<Vec<_>>(), ["gone.csv", "days", "lost.csv"]);

    let (code, out, error) = run(folder.path(), &["decode", "gone.csv", "lost.csv"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("gone.csv: there is no such file; lost.csv: there is no such file"), "{error}");
}

#[test]
fn a_topic_stands_for_the_source_and_the_sensor() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("in.json"), r#"{"id": 0, "tC": 23.3}"#).unwrap();
    let topic = ["--topic", "sensors/shelly-ht/dev1/state"];
    let (code, out, error) = run(folder.path(), &[&["decode"], &topic[..], &["in.json"]].concat());
    let record: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {error}"));
    assert_eq!(
        (code, &record["source_id"], &record["data"]["sensor_id"]),
        (0, &"iot_shelly_ht".into(), &"dev1".into())
    );
    let other = run(folder.path(), &[&["decode", "--source", "iot_mine"], &topic[..], &["in.json"]].concat()).1;
    assert_eq!(serde_json::from_str::<Value>(&other).unwrap()["source_id"], "iot_mine");

    std::fs::write(folder.path().join("list.json"), r#"[{"tempf": 60}, {"tempf": 61}, {"tempf": 60}]"#).unwrap();
    let ingest = |sink: &str| {
        let (code, out, error) = run(
            folder.path(),
            &[&["ingest", "--json", "--data", "d", "--out", sink], &topic[..], &["list.json"]].concat(),
        );
        assert_eq!(code, 0, "{error}");
        let ledger: Value = serde_json::from_str(&out).unwrap();
        (ledger["new"].clone(), ledger["duplicates"].clone())
    };
    assert_eq!(ingest("sink"), (3.into(), 0.into()), "readings without a time are told apart by their place");
    assert_eq!(ingest("sink"), (0.into(), 3.into()), "the same file again is the same readings");

    let (code, _, error) = run(folder.path(), &["decode", "--topic", "kitchen/lamp", "in.json"]);
    assert!(code == 2 && error.contains("--topic kitchen/lamp") && error.contains("--source"), "{error}");
    let unnamed = run(folder.path(), &["decode", "in.json"]);
    assert_eq!(unnamed.0, 0, "a reading is known by its head: {}", unnamed.2);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = tempdir().unwrap();
    let readings: String =
        (0..20_000).map(|n| format!("{{\"id\": \"s{n}\", \"time\": 1755151620, \"tempf\": 60}}\n")).collect();
    std::fs::write(folder.path().join("in.ndjson"), readings + "broken\n").unwrap();
    for command in
        [&["decode", "--source", "iot_x"][..], &["ingest", "--source", "iot_x", "--data", "d", "--out", "sink"]]
    {
        let mut child = Command::new(binary())
            .args(command)
            .arg("in.ndjson")
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        if command[0] == "decode" {
            out.read_exact(&mut [0; 10]).unwrap();
        }
        drop(out);
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        let code = child.wait().unwrap().code();
        assert!(!error.contains("panic") && matches!(code, Some(0 | 3)), "{command:?}: {code:?} {error}");
    }
}

//! `streammanager buffer` on real data folders: of a running system, of none, damaged, and killed in the middle of a repair.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use streammanager::aws::Aws;
use streammanager::time::{Clock, Timestamp};
use streammanager_tests::system::{Start, System};
use streammanager_tests::{aws, binary, kinesis, published, skip};
use tempfile::{TempDir, tempdir};

/// Exit code, standard output, standard error.
fn buffer(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.arg("buffer").args(arguments).arg("--data").arg(data).env("XDG_STATE_HOME", data);
    let ended = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code().unwrap(), text(&ended.stdout), text(&ended.stderr))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A folder with detections that wait, because Kafka is away, and with rejects.
fn waiting(rows: usize) -> TempDir {
    let folder = tempdir().unwrap();
    let mut csv = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight\n".to_owned();
    for n in 0..=rows {
        // The last one is on no map.
        let latitude = if n == rows { 95.0 } else { 33.0 + n as f64 / 1_000.0 };
        csv.push_str(&format!(
            "{latitude:.5},-121.{n:05},331.2,0.4,0.4,2026-08-01,1012,N20,VIIRS,n,2.0NRT,290.1,5.5,D\n"
        ));
    }
    std::fs::write(folder.path().join("detections.csv"), csv).unwrap();
    let data = folder.path().join("data");
    let ingest = Command::new(binary())
        .args(["ingest", "--source", "firms_viirs_noaa20", "--kafka", "127.0.0.1:1", "--json"])
        .arg("--data")
        .arg(&data)
        .arg(folder.path().join("detections.csv"))
        .output()
        .unwrap();
    let report = json(&String::from_utf8_lossy(&ingest.stdout));
    assert!(report["queued"].as_u64().unwrap() >= rows as u64, "{report}");
    folder
}

/// Of the pages in which an envelope's body begins, as zstd marks it, every third: where they lie depends on what was written together.
fn damage(database: &Path) {
    const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let bytes = std::fs::read(database).unwrap();
    let begins = |page: &&[u8]| page.windows(ZSTD.len()).any(|four| four == ZSTD);
    let pages: Vec<u64> = (0..).zip(bytes.chunks(4096)).filter(|(_, page)| begins(page)).map(|(n, _)| n).collect();
    let file = std::fs::File::options().write(true).open(database).unwrap();
    for page in pages.iter().step_by(3) {
        file.write_all_at(&[0x5a; 4096], page * 4096).unwrap();
    }
}

fn queued(inspected: &Value) -> u64 {
    let queues = inspected["contents"]["queues"].as_object().unwrap().values();
    queues.map(|queue| queue["records"].as_u64().unwrap()).sum()
}

#[test]
fn r3_a_folder_is_inspected_proved_and_replayed_without_a_system() {
    let folder = waiting(1_200);
    let data = folder.path().join("data");
    let (code, said, error) = buffer(&data, &["inspect", "--json"]);
    assert_eq!(code, 0, "{error}");
    let inspected = json(&said);
    let records = queued(&inspected);
    assert!(records >= 1_200, "{inspected}");
    assert_eq!(inspected["contents"]["items"]["dead-letters"]["items"], 1);
    assert_eq!(inspected["read_by"], "command");
    let (code, said, _) = buffer(&data, &["verify"]);
    assert!(code == 0 && said.contains("everything is what was written"), "{said}");
    let (code, said, _) = buffer(&data, &["repair", "--yes"]);
    assert!(code == 0 && said.contains("nothing to repair"), "{said}");

    let out = folder.path().join("out.ndjson");
    let (code, said, error) = buffer(&data, &["replay", "--out", out.to_str().unwrap(), "--json"]);
    assert_eq!(code, 0, "{said}{error}");
    assert_eq!(json(&said)["records"], records);
    let lines = std::fs::read_to_string(&out).unwrap();
    let values: Vec<Value> = lines.lines().map(json).collect();
    assert_eq!(values.len() as u64, records);
    assert!(values.iter().all(|line| line["headers"]["ce_id"].is_string() && line["value"]["event_id"].is_string()));
    let tiers: Vec<&str> = values.iter().map(|line| line["headers"]["priority"].as_str().unwrap()).collect();
    let rank = |tier: &&str| ["CRITICAL", "HIGH", "NORMAL", "LOW"].iter().position(|one| one == tier);
    assert!(tiers.is_sorted_by_key(rank), "the tiers are not in their order");
    assert_eq!(queued(&json(&buffer(&data, &["inspect", "--json"]).1)), records, "nobody asked to forget anything");

    let (code, _, error) = buffer(&data, &["replay", "--out", out.to_str().unwrap()]);
    assert!(code == 1 && error.contains("name a new file"), "{error}");
    let again = folder.path().join("again.ndjson");
    let (code, said, error) = buffer(&data, &["replay", "--out", again.to_str().unwrap(), "--forget"]);
    assert!(code == 0 && said.contains("taken out of the folder"), "{said}{error}");
    assert_eq!(std::fs::read_to_string(&again).unwrap(), lines);
    assert_eq!(queued(&json(&buffer(&data, &["inspect", "--json"]).1)), 0);
    assert_eq!(buffer(&data, &["verify"]).0, 0);
}

/// K1: what waits in a folder, and what is read from files, goes to Kinesis as it goes to Kafka.
#[tokio::test(flavor = "multi_thread")]
async fn k1_files_and_a_folders_queues_go_to_kinesis_without_a_system() {
    const ROWS: usize = 700;
    let Some(url) = aws() else { return skip("ingest and replay to Kinesis", "STREAMMANAGER_TEST_AWS is not set") };
    let client = aws_sdk_kinesis::Client::new(Aws::connect(Some(&url), "us-west-2").await.config());
    let began = Clock::system().now();
    let folder = waiting(ROWS);
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    let (code, said, error) = buffer(&data, &["replay", "--kinesis", &url, "--forget", "--json"]);
    assert_eq!((code, json(&said)["stopped"].is_null()), (0, true), "{said}{error}");
    let replayed = json(&said)["records"].as_u64().unwrap() as usize;
    assert_eq!(queued(&json(&buffer(&data, &["inspect", "--json"]).1)), 0);

    let mut ingest = Command::new(binary());
    ingest.args(["ingest", "--source", "firms_viirs_noaa20", "--kinesis", &url, "--json", "--data"]).arg(&other);
    let ended = ingest.arg(folder.path().join("detections.csv")).output().unwrap();
    let report = json(&String::from_utf8_lossy(&ended.stdout));
    assert_eq!((&report["queued"], &report["delivered"]["wildfire-nasa-firms"]), (&0.into(), &ROWS.into()), "{report}");

    // Without a prefix the stream has the topic's name: other runs may have written to it.
    let found = kinesis::read(&client, "wildfire-nasa-firms").await.into_iter().map(|(_, found)| json(found.data()));
    let is_own = |value: &Value| value["ingested_at"].as_str().unwrap().parse::<Timestamp>().unwrap() >= began;
    let found: Vec<Value> = found.filter(is_own).collect();
    found.iter().for_each(|value| published::assert_valid("wildfire-nasa-firms", value));
    let ids: std::collections::BTreeSet<&str> = found.iter().map(|value| value["event_id"].as_str().unwrap()).collect();
    // The same file twice, in folders that know nothing of one another.
    assert_eq!((ids.len(), found.len()), (ROWS, 2 * ROWS), "{replayed} were replayed");

    let (code, _, error) = buffer(&data, &["replay", "--kinesis", "kinesis"]);
    assert!(code == 2 && error.contains("--kinesis") && error.contains("write it as http://"), "{error}");
    let (code, _, error) = buffer(&data, &["replay", "--kinesis", &url, "--kafka", "127.0.0.1:9"]);
    assert!(code == 2 && error.contains("--kafka"), "{error}");
}

#[test]
fn r3_a_damaged_folder_says_what_is_lost_and_a_repair_keeps_the_original_whenever_it_is_killed() {
    let folder = waiting(6_000);
    let data = folder.path().join("data");
    let database = data.join("state.redb");
    let records = queued(&json(&buffer(&data, &["inspect", "--json"]).1));
    damage(&database);
    let damaged = std::fs::read(&database).unwrap();
    let (code, said, error) = buffer(&data, &["verify"]);
    assert!(
        code == 3 && said.contains("NOT everything") && said.contains("lost: table bodies, bytes "),
        "{said}{error}"
    );
    let (code, _, error) = buffer(&data, &["repair"]);
    assert!(code == 3 && error.contains("--yes"), "{error}");
    assert_eq!(std::fs::read(&database).unwrap(), damaged, "it repaired without being told to");

    for wait in 0..12 {
        let mut repair = Command::new(binary());
        repair.args(["buffer", "repair", "--yes"]).arg("--data").arg(&data).stdout(Stdio::null());
        let mut repair = repair.spawn().unwrap();
        // No condition is waited for: wherever it is killed is right.
        std::thread::sleep(std::time::Duration::from_millis(wait * 7));
        repair.kill().unwrap();
        repair.wait().unwrap();
        let is_the_original = |path: &Path| std::fs::read(path).unwrap() == damaged;
        let kept = std::fs::read_dir(&data).unwrap().flatten().map(|entry| entry.path());
        let mut kept = kept.filter(|path| path.to_string_lossy().contains("state.redb.before-"));
        assert!(is_the_original(&database) || kept.any(|path| is_the_original(&path)), "the original is gone");
    }
    let (code, said, error) = buffer(&data, &["repair", "--yes", "--json"]);
    let outcome = json(&said);
    if code == 3 {
        let kept_as = outcome["kept_as"].as_str().unwrap();
        assert_eq!(std::fs::read(kept_as).unwrap(), damaged, "{error}");
    }
    let (code, said, _) = buffer(&data, &["verify"]);
    assert_eq!(code, 0, "{said}");
    let left = queued(&json(&buffer(&data, &["inspect", "--json"]).1));
    assert!(left > 0 && left < records, "{left} of {records}");
}

/// The mark that a failed fsync leaves, on a whole folder and on one whose disk lost a page.
#[test]
fn q1_a_start_proves_a_folder_in_which_an_fsync_failed() {
    let folder = waiting(6_000);
    let data = folder.path().join("data");
    let (database, mark) = (data.join("state.redb"), data.join("fsync-failed"));
    std::fs::write(&mark, "an fsync failed").unwrap();
    let (code, said, error) = buffer(&data, &["inspect"]);
    assert!(code == 0 && said.contains("an fsync failed in this folder"), "{said}{error}");
    assert!(mark.exists(), "a look proves nothing");
    let (code, said, error) = buffer(&data, &["repair", "--yes"]);
    assert!(code == 0 && said.contains("nothing to repair") && !mark.exists(), "{said}{error}");

    std::fs::write(&mark, "an fsync failed").unwrap();
    damage(&database);
    let damaged = std::fs::read(&database).unwrap();
    // Any command that opens the folder is a start.
    let out = folder.path().join("sink");
    let ingest = Command::new(binary())
        .args(["ingest", "--source", "firms_viirs_noaa20", "--out"])
        .arg(&out)
        .arg("--data")
        .arg(&data)
        .arg(folder.path().join("detections.csv"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&ingest.stderr).into_owned();
    assert!(error.contains("its disk is proved") && error.contains("the old file is kept"), "{error}");
    assert!(!mark.exists());
    let kept = std::fs::read_dir(&data).unwrap().flatten().map(|entry| entry.path());
    let mut kept = kept.filter(|path| path.to_string_lossy().contains("state.redb.before-"));
    assert!(kept.any(|path| std::fs::read(path).unwrap() == damaged), "the original is gone");
}

#[test]
fn r3_a_running_system_says_what_its_folder_holds_and_nobody_repairs_it_meanwhile() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let url = system.url("");
    let asked = |command: &str| buffer(&start.data, &[command, "--json", "--endpoint", &url]);
    for command in ["inspect", "verify"] {
        let (code, said, error) = asked(command);
        assert_eq!(code, 0, "{said}{error}");
        assert_eq!(json(&said)["read_by"], "running_system", "{said}");
    }
    let (code, _, error) = buffer(&start.data, &["repair", "--yes"]);
    assert!(code == 1 && error.contains("is in use by process"), "{error}");
    // Its system is not found: the files are read all the same.
    let (code, said, error) = buffer(&start.data, &["inspect", "--json", "--endpoint", "http://127.0.0.1:1"]);
    assert!(code == 0 && error.contains("without its lock"), "{error}");
    assert_eq!(json(&said)["read_by"], "command_without_lock");
}

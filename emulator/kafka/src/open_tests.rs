//! What opening a folder does with logs and names that do not fit each other: nothing anybody wrote is removed.

use std::collections::BTreeMap;

use kafka_protocol::messages::{ApiKey, RequestKind};

use super::meta::TopicRow;
use super::sample_requests::{produce, sample};
use super::*;

fn open(folder: &Path) -> Result<Broker, BrokerError> {
    Broker::open(folder, ([127, 0, 0, 1], 1).into())
}

/// Creates the topic of the sample requests and writes a record to it.
fn with_a_record(folder: &Path) -> TopicRow {
    let node = open(folder).unwrap().0;
    let RequestKind::Metadata(creating) = sample(ApiKey::Metadata, 4) else { unreachable!() };
    node.metadata(creating, 4);
    node.append(produce(-1)).expect("it owes an answer");
    node.meta.topics().unwrap().remove(0)
}

/// Every file below with its content.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            _ = found.insert(path.clone(), std::fs::read(path).unwrap())
        }
    }
    found
}

#[test]
fn names_that_are_lost_are_refused_and_no_log_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let row = with_a_record(folder.path());
    // What the first one left unsynced is synced.
    drop(open(folder.path()).unwrap());
    let (store, logs) = (folder.path().join("meta.redb"), folder.path().join("logs"));
    let (sound, before) = (std::fs::read(&store).unwrap(), files(&logs));
    assert!(before.values().any(|bytes| !bytes.is_empty()));
    for lose in [|store: &Path| std::fs::write(store, ""), |store: &Path| std::fs::remove_file(store)] {
        lose(&store).unwrap();
        let says = open(folder.path()).err().expect("refused").to_string();
        for part in [store.to_str().unwrap(), "missing or empty", "copy", "move", folder.path().to_str().unwrap()] {
            assert!(says.contains(part), "{part:?} is not in {says:?}");
        }
        assert_eq!(files(&logs), before);
    }
    std::fs::write(&store, sound).unwrap();
    assert_eq!(open(folder.path()).unwrap().0.meta.topics().unwrap(), [row]);
    assert_eq!(files(&logs), before);
}

#[test]
fn logs_that_are_lost_are_refused_by_the_names_of_their_topics() {
    let folder = tempfile::tempdir().unwrap();
    let row = with_a_record(folder.path());
    let logs = folder.path().join("logs");
    let partition = logs.join(row.id.simple().to_string()).join("0");
    for lost in [
        partition.join("00000000000000000000.log"),
        partition.clone(),
        partition.parent().unwrap().into(),
        logs.clone(),
    ] {
        if lost.is_dir() {
            std::fs::remove_dir_all(&lost).unwrap()
        } else {
            std::fs::remove_file(&lost).unwrap()
        }
        let says = open(folder.path()).err().expect("refused").to_string();
        for part in ["sample (partitions 0)", logs.to_str().unwrap(), "copy", "move"] {
            assert!(says.contains(part), "{part:?} is not in {says:?}");
        }
        assert!(!partition.exists() || lost.starts_with(&partition), "opening makes nothing in its place");
    }
}

#[test]
fn a_first_start_that_was_interrupted_is_begun_again() {
    for left in [&[][..], &["meta.redb.new"], &["meta.redb"]] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        left.iter().for_each(|name| std::fs::write(folder.path().join(name), "").unwrap());
        if left == ["meta.redb.new"] {
            std::fs::write(folder.path().join("meta.redb.new"), [0; 8192]).unwrap();
        }
        with_a_record(folder.path());
        assert_eq!(open(folder.path()).unwrap().0.meta.topics().unwrap().len(), 1, "after {left:?}");
    }
}

#[test]
fn only_the_rest_of_a_deletion_or_of_a_creation_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let row = with_a_record(folder.path());
    let logs = folder.path().join("logs");
    let at = |id: uuid::Uuid| logs.join(id.simple().to_string());
    let (unknown, created) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let copy = |to: uuid::Uuid, text: &str| {
        std::fs::create_dir_all(at(to).join("0")).unwrap();
        std::fs::write(at(to).join("0/00000000000000000000.log"), text).unwrap();
    };
    copy(unknown, "records");
    copy(created, "");
    std::fs::write(logs.join("notes"), "mine").unwrap();
    // The crash comes when the row is gone and the logs are not.
    let node = open(folder.path()).unwrap().0;
    assert!(at(row.id).is_dir() && at(unknown).is_dir() && logs.join("notes").is_file());
    assert!(!at(created).exists(), "nobody can have written to it");
    node.meta.delete_topic(&row.name, row.id).unwrap();
    drop(node);
    let node = open(folder.path()).unwrap().0;
    assert!(!at(row.id).exists(), "its deletion was answered");
    assert!(node.meta.deleted().unwrap().is_empty());
    assert!(at(unknown).is_dir() && logs.join("notes").is_file());
}

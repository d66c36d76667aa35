//! Laws of kept notes [O4, O7]: every step of an event is found, after restarts, over volumes, within the room; damage and a torn
//! end cost what they hit.

use std::fs::File;
use std::io::Write as _;

use tempfile::TempDir;

use super::*;
use crate::provenance::Outcome;
use crate::record::{Envelope, Outgoing, StreamId, TenantId, Tier, Traceparent};
use crate::sink::conformance::record;
use crate::sink::{Sent, Written};
use crate::time::{Rng, Timestamp};

/// Records of a note.
const RECORDS: usize = 5;

struct Noted {
    envelope: Envelope,
    records: Vec<Outgoing>,
}

/// The `n`th envelope; every event is another.
fn noted(rng: &Rng, n: usize) -> Noted {
    let at = Timestamp::from_second(1_790_000_000 + n as i64).unwrap();
    let records: Vec<Outgoing> = (0..RECORDS)
        .map(|_| Outgoing { event: EventId::from_bytes(rng.bytes()), published_at: Some(at), ..record("o7", n) })
        .collect();
    let (stream, tenant) = (StreamId::new("modis").unwrap(), TenantId::new("calfire").unwrap());
    let trace = Traceparent::new([1; 16], [2; 8]);
    let envelope = Envelope::pack(rng.ulid(at), stream, tenant, Tier::High, at, trace, &records, 1).unwrap();
    Noted { envelope, records }
}

impl Noted {
    fn queued(&self) -> Note {
        let ids = self.records.iter().map(|record| (record.event.short(), record.revision));
        Note::queued(&self.envelope, ids, self.envelope.accepted_at)
    }

    fn sent(&self) -> Note {
        let sent: Vec<Sent> =
            (0..).take(RECORDS).map(|offset| Sent::Acked(Some(Written { partition: 3, offset }))).collect();
        let at = self.envelope.accepted_at;
        Note::sent(&self.envelope, self.records.iter().zip(&sent), 1, at, at)
    }
}

async fn way(kept: &FolderProvenance, event: EventId) -> Vec<Step> {
    kept.way(event).await.unwrap().unwrap()
}

/// Waits while the thread is behind, so that nothing is dropped.
async fn note(kept: &FolderProvenance, note: Note) {
    kept.note(note);
    way(kept, EventId::from_bytes([0; 16])).await;
}

async fn assert_whole(kept: &FolderProvenance, noted: &Noted) {
    for (record, offset) in noted.records.iter().zip(0..) {
        let steps = way(kept, record.event).await;
        assert_eq!(steps.len(), 2, "{steps:?}");
        assert!(steps.iter().all(|step| step.envelope == noted.envelope.id && step.stream.as_str() == "modis"));
        assert_eq!(steps[0].sent, None);
        let sent = steps[1].sent.as_ref().unwrap();
        assert_eq!(sent.outcome, Outcome::Acknowledged(Some(Written { partition: 3, offset })));
        assert_eq!((sent.topic, sent.published_at), (record.topic.name(), record.published_at));
    }
}

#[tokio::test]
async fn o7_every_step_of_an_event_is_found_over_volumes_and_restarts() {
    let (folder, rng) = (TempDir::new().unwrap(), Rng::seeded(1));
    let all: Vec<Noted> = (0..300).map(|n| noted(&rng, n)).collect();
    // Volumes of some 20 notes; the restart falls into one.
    let open = || FolderProvenance::sized(folder.path(), 4_096, u64::MAX / 2).unwrap();
    for half in [&all[..155], &all[155..]] {
        let kept = open();
        for noted in half {
            note(&kept, noted.queued()).await;
            note(&kept, noted.sent()).await;
        }
    }
    let kept = open();
    for noted in &all {
        assert_whole(&kept, noted).await;
    }
    assert_eq!(way(&kept, EventId::from_bytes(rng.bytes())).await, []);
    let volumes = std::fs::read_dir(folder.path().join("provenance")).unwrap().count();
    assert!(volumes > 20, "{volumes}");
}

#[tokio::test]
async fn o7_the_oldest_notes_go_when_there_are_too_many() {
    let (folder, rng) = (TempDir::new().unwrap(), Rng::seeded(2));
    let all: Vec<Noted> = (0..300).map(|n| noted(&rng, n)).collect();
    let kept = FolderProvenance::sized(folder.path(), 4_096, 40_960).unwrap();
    for noted in &all {
        note(&kept, noted.queued()).await;
        note(&kept, noted.sent()).await;
    }
    assert_eq!(way(&kept, all[0].records[0].event).await, []);
    for noted in &all[280..] {
        assert_whole(&kept, noted).await;
    }
    let files = std::fs::read_dir(folder.path().join("provenance")).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!((20_480..=40_960).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn o7_a_torn_end_costs_the_last_note_alone() {
    let (folder, rng) = (TempDir::new().unwrap(), Rng::seeded(3));
    let [first, torn, next] = [0, 1, 2].map(|n| noted(&rng, n));
    let kept = FolderProvenance::open(folder.path()).unwrap();
    note(&kept, first.queued()).await;
    note(&kept, first.sent()).await;
    drop(kept);
    let path = folder.path().join("provenance/00000001.notes");
    let whole = std::fs::read(&path).unwrap();
    let kept = FolderProvenance::open(folder.path()).unwrap();
    note(&kept, torn.queued()).await;
    drop(kept);
    let longer = std::fs::read(&path).unwrap();
    for cut in whole.len()..longer.len() {
        std::fs::write(&path, &longer[..cut]).unwrap();
        // A page of the disk that was never written reads as zeros.
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(&[0; 100][..cut % 100]).unwrap();
        let kept = FolderProvenance::open(folder.path()).unwrap();
        assert_whole(&kept, &first).await;
        assert_eq!(way(&kept, torn.records[0].event).await, [], "{cut}");
        note(&kept, next.queued()).await;
        note(&kept, next.sent()).await;
        assert_whole(&kept, &next).await;
    }
}

#[tokio::test]
async fn o7_damage_in_a_closed_volume_is_said_and_the_others_are_read() {
    let (folder, rng) = (TempDir::new().unwrap(), Rng::seeded(4));
    let all: Vec<Noted> = (0..60).map(|n| noted(&rng, n)).collect();
    let kept = FolderProvenance::sized(folder.path(), 4_096, u64::MAX / 2).unwrap();
    for noted in &all {
        note(&kept, noted.queued()).await;
        note(&kept, noted.sent()).await;
    }
    let path = folder.path().join("provenance/00000001.notes");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let problem = kept.way(all[0].records[0].event).await.unwrap_err().to_string();
    assert!(problem.contains("00000001.notes is damaged at 0"), "{problem}");
    assert_whole(&kept, &all[59]).await;
}

/// Ids that are no hashes, and many steps of one event, are found all the same.
#[tokio::test]
async fn o7_events_side_by_side_and_events_with_many_steps_are_found() {
    let (folder, rng) = (TempDir::new().unwrap(), Rng::seeded(5));
    let id = |n: u64| EventId::from_bytes((u128::from(n) << 64).to_be_bytes());
    let kept = FolderProvenance::sized(folder.path(), 1 << 16, u64::MAX / 2).unwrap();
    for n in 0..2_000_u64 {
        let mut one = noted(&rng, n as usize);
        for (record, place) in one.records.iter_mut().zip(0..) {
            // Every fifth record tells of event 7.
            record.event = if place == 0 { id(7) } else { id(1_000 + n * 5 + place) };
        }
        note(&kept, one.queued()).await;
    }
    assert_eq!(way(&kept, id(7)).await.len(), 2_000);
    for n in [0, 1, 999, 1_777, 1_999] {
        for place in 1..5 {
            assert_eq!(way(&kept, id(1_000 + n * 5 + place)).await.len(), 1, "{n} {place}");
        }
    }
    for absent in [0, 8, 999, 1_000, 11_005, u64::MAX] {
        assert_eq!(way(&kept, id(absent)).await, [], "{absent}");
    }
}

/// A witness stops nobody.
#[tokio::test]
async fn o7_a_folder_that_cannot_be_used_is_said_to_whoever_asks_and_to_nobody_else() {
    let (folder, rng) = (TempDir::new().unwrap(), Rng::seeded(6));
    std::fs::write(folder.path().join("provenance"), "a file").unwrap();
    let kept = FolderProvenance::open(folder.path()).unwrap();
    let one = noted(&rng, 0);
    kept.note(one.queued());
    let problem = kept.way(one.records[0].event).await.unwrap_err().to_string();
    assert!(problem.contains("provenance: "), "{problem}");
}

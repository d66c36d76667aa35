//! The log's laws: what survives a crash, a full disk, a failed sync; what retention and time lookups answer.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::super::batch::{Head, intact, sound};
use super::super::limits::{INDEX_INTERVAL, LEAST_KEPT_MS};
use super::*;

const ALL: LogSettings = LogSettings {
    segment_bytes: 1 << 20,
    max_batch: 1 << 20,
    retention_ms: None,
    retention_bytes: None,
    append_time: false,
};

/// When the tests write: long before any time at which they look.
const NOW: i64 = 0;

fn appended(base: i64, next: i64) -> Appended {
    Appended { base, next, append_time: None }
}

struct Sender {
    producer: i64,
    epoch: i16,
    sequence: i32,
}

/// Not idempotent.
const ANYONE: Sender = Sender { producer: -1, epoch: -1, sequence: -1 };

fn batch(times: &[i64], sender: &Sender, compression: Compression) -> Bytes {
    let records: Vec<Record> = (0i32..)
        .zip(times)
        .map(|(nth, &timestamp)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: sender.producer,
            producer_epoch: sender.epoch,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(nth),
            sequence: sender.sequence + nth,
            timestamp,
            key: None,
            value: Some(Bytes::from(format!("record {nth} of {timestamp}"))),
            headers: IndexMap::default(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &RecordEncodeOptions { version: 2, compression }).unwrap();
    bytes.freeze()
}

fn plain(times: &[i64]) -> Bytes {
    batch(times, &ANYONE, Compression::None)
}

fn sync(log: &mut Log) {
    log.sync().unwrap();
}

/// Offsets and timestamps of the batches' first records, from `start` to the end of what is durable.
fn bases(log: &Log) -> Vec<i64> {
    let (mut offset, mut found) = (log.start(), Vec::new());
    loop {
        let bytes = log.read(offset, 1 << 20, true).unwrap();
        let base = Head::parse(&bytes).map_or(0, |head| head.base);
        assert_eq!(sound(&bytes, base), bytes.len(), "a read holds whole batches");
        let mut at = &bytes[..];
        while let Some(head) = Head::parse(at) {
            found.push(head.base);
            offset = head.next();
            at = &at[head.size..];
        }
        if bytes.is_empty() {
            return found;
        }
    }
}

fn reopened(folder: &Path) -> Log {
    Log::open(folder, 0).unwrap().0
}

fn active_file(folder: &Path) -> PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files.pop().unwrap()
}

#[test]
fn what_was_appended_is_read_only_once_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::create(folder.path()).unwrap();
    assert_eq!(log.append(&plain(&[10, 11, 12]), &ALL, NOW), Ok(appended(0, 3)));
    assert_eq!(log.read(0, 1 << 20, true).unwrap(), Bytes::new());
    let unsynced = log.unsynced().unwrap();
    log.append(&plain(&[13]), &ALL, NOW).unwrap();
    log.note_synced(&unsynced);
    assert_eq!((bases(&log), log.synced()), (vec![0], 3));
    sync(&mut log);
    assert_eq!((bases(&log), log.synced()), (vec![0, 3], 4));
}

#[test]
fn a_torn_or_damaged_tail_is_cut_off_and_the_rest_stays() {
    for damage in ["torn", "damaged", "zeros"] {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path()).unwrap();
        for time in 0..5 {
            log.append(&plain(&[time]), &ALL, NOW).unwrap();
        }
        sync(&mut log);
        let kept = log.active().len;
        log.append(&plain(&[5, 6]), &ALL, NOW).unwrap();
        let len = log.active().len;
        drop(log);
        let file = File::options().write(true).open(active_file(folder.path())).unwrap();
        match damage {
            "torn" => file.set_len(len - 1).unwrap(),
            "damaged" => file.write_all_at(b"?", len - 1).unwrap(),
            _ => file.write_all_at(&vec![0; (len - kept) as usize], kept).unwrap(),
        }
        let mut log = reopened(folder.path());
        assert_eq!(bases(&log), [0, 1, 2, 3, 4], "{damage}");
        assert_eq!(active_file(folder.path()).metadata().unwrap().len(), kept, "{damage}");
        assert_eq!(log.append(&plain(&[7]), &ALL, NOW).unwrap().base, 5, "{damage}");
    }
}

/// The files that opening kept of damaged ends, in the order they were made.
fn kept(folder: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().contains(".log.damaged."));
    files.sort();
    files.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn good_batches_behind_a_damaged_one_are_kept_beside_the_segment() {
    // Of the third batch: its offset, its size, its magic, a record.
    for damaged in [7, 11, 16, 70] {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path()).unwrap();
        let fill = |log: &mut Log| {
            (0..6).for_each(|time| _ = log.append(&plain(&[time]), &ALL, NOW).unwrap());
            sync(log);
        };
        fill(&mut log);
        drop(log);
        let path = folder.path().join("00000000000000000000.log");
        let third = 2 * path.metadata().unwrap().len() / 6;
        let damage = || {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[third as usize + damaged] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            bytes.split_off(third as usize)
        };
        let first = damage();
        // As if none of it had been acknowledged.
        let forget = || std::fs::remove_file(folder.path().join("bounds")).unwrap();
        forget();
        let mut log = reopened(folder.path());
        assert_eq!(kept(folder.path()), std::slice::from_ref(&first), "byte {damaged}");
        assert_eq!((bases(&log), path.metadata().unwrap().len()), (vec![0, 1], third), "byte {damaged}");
        fill(&mut log);
        drop(log);
        let second = damage();
        forget();
        drop(reopened(folder.path()));
        assert_eq!(kept(folder.path()), [first, second], "byte {damaged}");
    }
}

#[test]
fn good_batches_are_found_wherever_damage_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::create(folder.path()).unwrap();
    (0..2).for_each(|time| _ = log.append(&plain(&[time]), &ALL, NOW).unwrap());
    sync(&mut log);
    let good = std::fs::read(active_file(folder.path())).unwrap();
    let second = good[good.len() / 2..].to_vec();
    let path = folder.path().join("garbage");
    // Around the end of what is read at once.
    for garbage in [1, (1 << 20) - 62, (1 << 20) - 61, (1 << 20) - 1, 1 << 20, (1 << 20) + 1] {
        std::fs::write(&path, [&vec![2; garbage][..], &second].concat()).unwrap();
        let file = File::open(&path).unwrap();
        assert!(super::super::damage::has_batches(&file, 0, 1).unwrap(), "after {garbage} bytes");
        assert!(!super::super::damage::has_batches(&file, 0, 2).unwrap(), "of an earlier offset");
        std::fs::write(&path, [&vec![2; garbage][..], &second[..second.len() - 1]].concat()).unwrap();
        assert!(!super::super::damage::has_batches(&File::open(&path).unwrap(), 0, 1).unwrap(), "an unfinished one");
    }
}

#[test]
fn segments_roll_and_are_read_as_one_log_before_and_after_opening() {
    let folder = tempfile::tempdir().unwrap();
    let small = LogSettings { segment_bytes: 4 * INDEX_INTERVAL, ..ALL };
    let mut log = Log::create(folder.path()).unwrap();
    for time in 0..3_000 {
        log.append(&plain(&[time]), &small, NOW).unwrap();
    }
    sync(&mut log);
    assert!(log.segments.len() > 2, "{} segments", log.segments.len());
    assert_eq!(bases(&log), (0..3_000).collect::<Vec<_>>());
    let log = reopened(folder.path());
    assert_eq!(bases(&log), (0..3_000).collect::<Vec<_>>());
    for offset in [0, 1, 799, 1_500, 2_999] {
        let bytes = log.read(offset, 1, true).unwrap();
        assert_eq!(Head::parse(&bytes).unwrap().base, offset);
        assert_eq!(log.read(offset, 1, false).unwrap(), Bytes::new(), "a batch larger than asked for");
    }
    assert_eq!(log.read(3_000, 1 << 20, true).unwrap(), Bytes::new());
    assert_eq!(log.read(3_001, 1 << 20, true), Err(ResponseError::OffsetOutOfRange));
}

#[test]
fn a_producer_s_repeats_and_gaps_are_found_also_after_opening() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::create(folder.path()).unwrap();
    let send = |log: &mut Log, epoch, sequence| {
        log.append(&batch(&[1, 2], &Sender { producer: 7, epoch, sequence }, Compression::None), &ALL, NOW)
    };
    for sequence in [0, 2, 4, 6, 8, 10] {
        send(&mut log, 0, sequence).unwrap();
    }
    sync(&mut log);
    for mut log in [log, reopened(folder.path())] {
        assert_eq!(send(&mut log, 0, 10), Ok(appended(10, 12)), "the last batch again");
        assert_eq!(send(&mut log, 0, 2), Ok(appended(2, 4)), "the fifth last again");
        assert_eq!(send(&mut log, 0, 0), Err(ResponseError::OutOfOrderSequenceNumber), "longer ago than is known");
        assert_eq!(send(&mut log, 0, 14), Err(ResponseError::OutOfOrderSequenceNumber), "a gap");
        assert_eq!(log.next(), 12, "none of them is written");
    }
    let mut log = reopened(folder.path());
    assert_eq!(send(&mut log, 1, 3), Err(ResponseError::OutOfOrderSequenceNumber), "a new epoch begins with 0");
    assert_eq!(send(&mut log, 1, 0), Ok(appended(12, 14)));
    assert_eq!(send(&mut log, 0, 12), Err(ResponseError::InvalidProducerEpoch));
}

#[test]
fn sequences_begin_again_after_the_largest() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::create(folder.path()).unwrap();
    let mut send = |sequence| {
        log.append(&batch(&[1, 2], &Sender { producer: 7, epoch: 0, sequence }, Compression::None), &ALL, NOW)
    };
    send(i32::MAX - 1).unwrap();
    assert_eq!(send(1), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(0), Ok(appended(2, 4)));
}

#[test]
fn the_first_record_of_a_time_is_found_in_every_codec() {
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for codec in codecs {
        let folder = tempfile::tempdir().unwrap();
        let small = LogSettings { segment_bytes: 2_000, ..ALL };
        let mut log = Log::create(folder.path()).unwrap();
        for first in (0..1_000).step_by(10) {
            // Within a batch the times are not in order.
            log.append(&batch(&[first + 3, first + 1, first + 5], &ANYONE, codec), &small, NOW).unwrap();
        }
        sync(&mut log);
        let log = reopened(folder.path());
        let found = |time| log.by_time(time).unwrap().map(|found| (found.offset, found.time));
        assert_eq!(found(0), Some((0, 3)), "{codec:?}");
        assert_eq!(found(4), Some((2, 5)), "{codec:?}");
        assert_eq!(found(6), Some((3, 13)), "{codec:?}");
        assert_eq!(found(505), Some((152, 505)), "{codec:?}");
        assert_eq!(found(996), None, "{codec:?}");
        assert_eq!(log.latest_time().unwrap().map(|found| found.offset), Some(299), "{codec:?}");
    }
}

#[test]
fn a_batch_that_claims_too_much_is_not_unpacked() {
    let times = vec![5; 200_000];
    let record = batch(&times, &ANYONE, Compression::Zstd);
    let head = Head::parse(&record).unwrap();
    let full = first_not_before(&head, &record, 5, 100).unwrap();
    assert_eq!(full, Found { offset: 100, time: 5 });
    // The same head over a stream that would unpack to more than the bound.
    let mut bomb = record[..super::super::batch::HEAD].to_vec();
    zstd::stream::copy_encode(&vec![0; 65 << 20][..], &mut bomb, 1).unwrap();
    assert_eq!(first_not_before(&head, &bomb, 5, 0), Some(Found { offset: 0, time: head.max_time }));
    let garbage = [&record[..super::super::batch::HEAD], b"garbage"].concat();
    for codec in 0..5 {
        let head = Head { attributes: codec, ..head };
        assert_eq!(first_not_before(&head, &garbage, 5, 0), Some(Found { offset: 0, time: 5 }), "codec {codec}");
    }
}

/// A disk with room for 300 bytes a file: the write that does not fit is left half done.
fn small_disk(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let room = 300u64.saturating_sub(at).min(bytes.len() as u64) as usize;
    file.write_all_at(&bytes[..room], at)?;
    if room < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

#[test]
fn a_full_disk_refuses_for_now_and_leaves_no_half_batch() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::create(folder.path()).unwrap();
    log.write_at = small_disk;
    let send = |log: &mut Log, sequence| {
        log.append(&batch(&[1], &Sender { producer: 1, epoch: 0, sequence }, Compression::None), &ALL, NOW)
    };
    let taken = (0..9).take_while(|sequence| send(&mut log, *sequence).is_ok()).count() as i32;
    assert!((1..9).contains(&taken), "{taken} taken");
    assert_eq!(send(&mut log, taken), Err(ResponseError::KafkaStorageError));
    assert_eq!(active_file(folder.path()).metadata().unwrap().len(), log.active().len, "the half batch is gone");
    log.write_at = write_to_disk;
    assert_eq!(send(&mut log, taken).unwrap().base, i64::from(taken), "the same batch, once there is room");
    sync(&mut log);
    assert_eq!(bases(&reopened(folder.path())), (0..=i64::from(taken)).collect::<Vec<_>>());
}

#[test]
fn a_failed_sync_takes_back_what_was_not_durable_and_ends_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::create(folder.path()).unwrap();
    let send = |log: &mut Log, sequence| {
        log.append(&batch(&[1], &Sender { producer: 1, epoch: 0, sequence }, Compression::None), &ALL, NOW)
    };
    send(&mut log, 0).unwrap();
    sync(&mut log);
    send(&mut log, 1).unwrap();
    let failed = log.unsynced().unwrap();
    send(&mut log, 2).unwrap();
    log.end(&io::Error::other("the disk fails"));
    assert_eq!((log.next(), log.has_ended()), (1, true));
    log.note_synced(&failed);
    assert_eq!(log.synced(), 1, "a sync from before the loss says nothing any more");
    assert_eq!(send(&mut log, 1), Err(ResponseError::KafkaStorageError));
    assert_eq!(
        log.retain(NOW + 1_000_000_000, &LogSettings { retention_ms: Some(1), ..ALL }).map_err(|e| e.kind()),
        Err(io::ErrorKind::Other)
    );
    assert_eq!(bases(&log), [0], "what is durable is still read");
    drop(log);
    let mut log = reopened(folder.path());
    assert_eq!(send(&mut log, 2), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(&mut log, 1), Ok(appended(1, 2)));
}

#[test]
fn retention_removes_what_is_too_old_or_too_much_and_keeps_the_next_offset() {
    let folder = tempfile::tempdir().unwrap();
    let small = LogSettings { segment_bytes: 500, retention_ms: Some(100), ..ALL };
    let at = |ms: i64| LEAST_KEPT_MS + 1 + ms;
    let mut log = Log::create(folder.path()).unwrap();
    for time in 0..50 {
        log.append(&plain(&[at(time)]), &small, NOW).unwrap();
    }
    sync(&mut log);
    assert_eq!(log.retain(at(100), &small).unwrap(), Dropped::default());
    assert_eq!(log.start(), 0, "nothing is older than 100 ms");
    let before = log.size();
    let dropped = log.retain(at(120), &small).unwrap();
    assert!((1..=20).contains(&log.start()), "starts at {}", log.start());
    assert_eq!(dropped, Dropped { records: log.start(), bytes: before - log.size() });
    assert_eq!(bases(&log)[0], log.start());
    let by_size = LogSettings { retention_ms: None, retention_bytes: Some(1_000), ..small.clone() };
    log.retain(at(120), &by_size).unwrap();
    assert!((1_000..1_500).contains(&log.size()), "{} bytes kept", log.size());
    log.retain(at(10_000), &small).unwrap();
    assert_eq!((log.start(), bases(&log)), (50, vec![]), "all is too old, also in the active segment");
    let mut log = reopened(folder.path());
    assert_eq!((log.start(), log.append(&plain(&[1]), &small, NOW).unwrap().base), (50, 50));
}

#[test]
fn a_record_with_an_old_time_is_kept_a_while_after_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let week = LogSettings { retention_ms: Some(604_800_000), ..ALL };
    let now = 1_800_000_000_000;
    let mut log = Log::create(folder.path()).unwrap();
    log.append(&plain(&[1_700_000_000_000]), &week, now).unwrap();
    sync(&mut log);
    log.retain(now + LEAST_KEPT_MS, &week).unwrap();
    assert_eq!(bases(&log), [0], "its consumers have five minutes");
    assert_eq!(log.retain(now + LEAST_KEPT_MS + 1, &week).unwrap().records, 1);
    // After a start the file's own time counts, which is this test's.
    log.append(&plain(&[5]), &week, now).unwrap();
    sync(&mut log);
    drop(log);
    let mut log = reopened(folder.path());
    let written = std::fs::metadata(active_file(folder.path())).unwrap().modified().unwrap();
    let written = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    log.retain(written + LEAST_KEPT_MS, &week).unwrap();
    assert_eq!(bases(&log), [1]);
}

#[test]
fn records_get_the_time_of_their_appending_if_the_topic_says_so() {
    let codecs = [Compression::None, Compression::Zstd];
    for codec in codecs {
        let folder = tempfile::tempdir().unwrap();
        let stamped = LogSettings { append_time: true, ..ALL };
        let mut log = Log::create(folder.path()).unwrap();
        for now in [1_000, 2_000] {
            let appended = log.append(&batch(&[now - 9, now + 9], &ANYONE, codec), &stamped, now).unwrap();
            assert_eq!(appended.append_time, Some(now));
        }
        sync(&mut log);
        for log in [log, reopened(folder.path())] {
            let bytes = log.read(2, 1 << 20, true).unwrap();
            let head = Head::parse(&bytes).unwrap();
            assert_eq!((head.append_time(), head.max_time, intact(&bytes)), (Some(2_000), 2_000, true));
            let found = |time| log.by_time(time).unwrap().map(|found| (found.offset, found.time));
            assert_eq!(
                [found(1_000), found(1_001), found(2_001)],
                [Some((0, 1_000)), Some((2, 2_000)), None],
                "{codec:?}"
            );
        }
    }
}

/// What a consumer gets that goes on behind every error: the batches' offsets, and the offsets at which it was told of damage.
fn read_past_damage(log: &Log) -> (Vec<i64>, Vec<i64>) {
    let (mut read, mut told, mut offset) = (Vec::new(), Vec::new(), log.start());
    while offset < log.synced() {
        match log.read(offset, 1 << 20, true) {
            Ok(bytes) => {
                assert!(!bytes.is_empty(), "a consumer at {offset} would wait for ever");
                let mut at = &bytes[..];
                while let Some(head) = Head::parse(at) {
                    assert!(intact(&at[..head.size]), "a damaged batch was handed out");
                    assert_eq!(head.base, offset, "a batch was skipped in silence");
                    read.push(head.base);
                    offset = head.next();
                    at = &at[head.size..];
                }
            }
            Err(error) => {
                assert_eq!(error, ResponseError::CorruptMessage);
                told.push(offset);
                offset += 1;
            }
        }
    }
    (read, told)
}

#[test]
fn damage_anywhere_is_told_to_who_reads_it_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let two_a_segment = LogSettings { segment_bytes: 220, ..ALL };
    let mut log = Log::create(folder.path()).unwrap();
    (0..8).for_each(|time| _ = log.append(&plain(&[time]), &two_a_segment, NOW).unwrap());
    sync(&mut log);
    assert_eq!(log.segments.len(), 4);
    let path = folder.path().join("00000000000000000002.log");
    let sound = std::fs::read(&path).unwrap();
    let half = sound.len() / 2;
    for at in 0..sound.len() {
        for bit in [1, 0x80] {
            let mut damaged = sound.clone();
            damaged[at] ^= bit;
            std::fs::write(&path, &damaged).unwrap();
            // Found while running, and at the next start. The leader epoch is under no checksum and means nothing here.
            let harmless = (12..16).contains(&(at % half));
            let reopened = reopened(folder.path());
            for log in [&log, &reopened] {
                let (read, told) = read_past_damage(log);
                let all: BTreeSet<i64> = read.iter().chain(&told).copied().collect();
                assert_eq!(all, (0..8).collect(), "byte {at}");
                let expected = if at < half { told.starts_with(&[2]) } else { told == [3] };
                assert!(if harmless { told.is_empty() } else { expected && told.len() <= 2 }, "byte {at}: {told:?}");
            }
        }
    }
    std::fs::write(&path, &sound[..half + 3]).unwrap();
    assert_eq!(read_past_damage(&reopened(folder.path())), (vec![0, 1, 2, 4, 5, 6, 7], vec![3]), "a file cut short");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read_past_damage(&reopened(folder.path())), (vec![0, 1, 4, 5, 6, 7], vec![2, 3]), "a file that is gone");
}

/// Whatever became of the files of acknowledged records, it is told when the log is opened, once, and no other record is
/// given their offsets: the end never goes back.
#[test]
fn what_is_missing_is_told_at_the_start_and_its_offsets_stay_taken() {
    let two_a_segment = LogSettings { segment_bytes: 220, ..ALL };
    let size = plain(&[0]).len() as u64;
    // Bytes that are left of each of the four files; none is left of a file that is removed.
    let (whole, half) = (Some(2 * size), Some(size));
    for (left, missing, start, read) in [
        ([whole, whole, whole, whole], vec![], 0, vec![0, 1, 2, 3, 4, 5, 6, 7]),
        ([whole, whole, whole, half], vec![(7, 8)], 0, vec![0, 1, 2, 3, 4, 5, 6]),
        ([whole, whole, whole, Some(size + 3)], vec![(7, 8)], 0, vec![0, 1, 2, 3, 4, 5, 6]),
        ([whole, whole, whole, Some(0)], vec![(6, 8)], 0, vec![0, 1, 2, 3, 4, 5]),
        ([whole, whole, whole, None], vec![(6, 8)], 0, vec![0, 1, 2, 3, 4, 5]),
        ([whole, Some(0), half, whole], vec![(2, 4), (5, 6)], 0, vec![0, 1, 4, 6, 7]),
        ([Some(0), whole, whole, whole], vec![(0, 2)], 2, vec![2, 3, 4, 5, 6, 7]),
        ([None, whole, whole, whole], vec![(0, 2)], 2, vec![2, 3, 4, 5, 6, 7]),
        ([None, None, None, half], vec![(0, 6), (7, 8)], 6, vec![6]),
        ([Some(0), Some(0), Some(0), Some(0)], vec![(0, 8)], 8, vec![]),
        ([Some(0), None, None, None], vec![(0, 8)], 8, vec![]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path()).unwrap();
        (0..8).for_each(|time| _ = log.append(&plain(&[time]), &two_a_segment, NOW).unwrap());
        sync(&mut log);
        drop(log);
        for ((_, path), left) in segment_files(folder.path()).unwrap().into_iter().zip(left) {
            match left {
                Some(left) => File::options().write(true).open(&path).unwrap().set_len(left).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
        }
        let (mut log, told) = Log::open(folder.path(), 0).unwrap();
        let told: Vec<_> = told.into_iter().map(|gap| (gap.start, gap.end)).collect();
        assert_eq!((told, log.start(), log.synced()), (missing, start, 8), "{left:?}");
        assert_eq!(read_past_damage(&log).0, read, "{left:?}");
        assert_eq!(log.append(&plain(&[8]), &two_a_segment, NOW).unwrap().base, 8, "{left:?}");
        sync(&mut log);
        drop(log);
        let (log, _) = Log::open(folder.path(), 0).unwrap();
        assert_eq!((log.start(), log.synced()), (start, 9), "{left:?}");
    }
}

/// What was removed on purpose is not missed, also when a crash comes between.
#[test]
fn what_retention_or_a_request_removed_is_not_missing() {
    let two_a_segment = LogSettings { segment_bytes: 220, ..ALL };
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::create(folder.path()).unwrap();
    (0..8).for_each(|time| _ = log.append(&plain(&[time]), &two_a_segment, NOW).unwrap());
    sync(&mut log);
    let first = std::fs::read(folder.path().join("00000000000000000000.log")).unwrap();
    log.retain(NOW, &LogSettings { retention_bytes: Some(300), ..two_a_segment.clone() }).unwrap();
    assert_eq!(log.delete_before(5), Ok(5));
    drop(log);
    assert_eq!(Log::open(folder.path(), 5).map(|(log, missing)| (log.start(), missing)).unwrap(), (5, vec![]));
    // The file outlived the crash that its removal was under way in.
    std::fs::write(folder.path().join("00000000000000000000.log"), first).unwrap();
    let (log, missing) = Log::open(folder.path(), 0).unwrap();
    assert_eq!((log.start(), missing), (5, vec![]));
}

#[test]
fn a_log_without_a_segment_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    drop(Log::create(folder.path()).unwrap());
    std::fs::remove_file(active_file(folder.path())).unwrap();
    assert_eq!(Log::open(folder.path(), 0).map(|_| ()).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn records_deleted_on_request_do_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::create(folder.path()).unwrap();
    for time in 0..10 {
        log.append(&plain(&[time]), &ALL, NOW).unwrap();
    }
    sync(&mut log);
    assert_eq!(log.delete_before(11), Err(ResponseError::OffsetOutOfRange));
    assert_eq!(log.delete_before(4), Ok(4));
    assert_eq!(log.read(3, 1 << 20, true), Err(ResponseError::OffsetOutOfRange));
    assert_eq!(log.by_time(0).unwrap().map(|found| found.offset), Some(4));
    let (log, missing) = Log::open(folder.path(), 4).unwrap();
    assert_eq!((log.start(), bases(&log), missing), (4, (4..10).collect(), vec![]));
}

#[test]
fn only_whole_sound_batches_of_the_present_format_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::create(folder.path()).unwrap();
    let good = plain(&[1, 2]);
    let mut changed = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        log.append(&bytes, &ALL, NOW)
    };
    assert_eq!(changed(good.len() - 1, b'?'), Err(ResponseError::CorruptMessage));
    assert_eq!(changed(16, 1), Err(ResponseError::UnsupportedForMessageFormat));
    assert_eq!(changed(8, 0x7f), Err(ResponseError::CorruptMessage));
    let mut append = |bytes: &[u8], settings: &LogSettings| log.append(bytes, settings, NOW);
    assert_eq!(append(&good[..good.len() - 1], &ALL), Err(ResponseError::CorruptMessage));
    assert_eq!(append(&[&good[..], &good[..]].concat(), &ALL), Err(ResponseError::InvalidRecord));
    assert_eq!(append(b"", &ALL), Err(ResponseError::CorruptMessage));
    let tight = LogSettings { max_batch: good.len() - 1, ..ALL };
    assert_eq!(append(&good, &tight), Err(ResponseError::MessageTooLarge));
    assert!(append(&good, &LogSettings { max_batch: good.len(), ..ALL }).is_ok());
    assert_eq!(active_file(folder.path()).metadata().unwrap().len(), good.len() as u64);
}

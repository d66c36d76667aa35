//! What a folder's buffer holds, counted row by row, and whether each part of it can be used: envelopes are unpacked, and the
//! blobs of dead letters are looked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use serde::Serialize;

use super::{ItemRow, MessageRow, NAMED, Report, Row, read};
use crate::blobs::BlobRef;
use crate::embedded::blobs::{blob_file, blobs_folder};
use crate::embedded::{Embedded, Moment, database_file, let_go};
use crate::error::BackendError;
use crate::record::Envelope;
use crate::time::Timestamp;

/// One queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct QueueContents {
    /// Messages of every kind.
    pub messages: u64,
    /// Records in those that are envelopes.
    pub records: u64,
    /// Bytes of the bodies.
    pub bytes: u64,
    /// When the oldest was accepted, or sent where it is no envelope.
    pub oldest: Option<Timestamp>,
    /// When the newest was.
    pub newest: Option<Timestamp>,
    /// Messages that are not to be received yet.
    pub delayed: u64,
    /// Messages that a running system holds; `None`: none runs.
    pub in_flight: Option<u64>,
}

/// Items of the store that belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How many.
    pub items: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// Stored bytes that the store's items name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Blobs {
    /// Dead letters whose bytes are blobs.
    pub named: u64,
    /// Files that are there.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What the rows of a folder hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// By the queue's name.
    pub queues: BTreeMap<String, QueueContents>,
    /// What the store holds, by what it is for: the first part of a partition's name, whole for shards of Kinesis.
    pub items: BTreeMap<String, Group>,
    /// What was set aside as damaged before.
    pub set_aside: u64,
    /// Blobs of dead letters.
    pub blobs: Blobs,
    /// What cannot be used although its bytes are what was written, or is missing.
    pub unusable: Vec<String>,
    /// Further such rows.
    pub unusable_unnamed: u64,
}

/// Contents, and how they were read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Checked {
    /// What is there.
    pub contents: Contents,
    /// What was found of the database's file; `None` when a running system answered, which reads through its own database.
    pub database: Option<Report>,
}

impl Checked {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.contents.unusable.is_empty() && self.database.as_ref().is_none_or(Report::is_sound)
    }
}

/// Reads a folder's database and blobs. `thorough`: envelopes are unpacked, and blobs are read.
///
/// # Errors
/// When the database's file cannot be read at all.
pub fn contents(folder: &Path, now: Timestamp, thorough: bool) -> Result<Checked, BackendError> {
    let mut counting = Counting::new(folder, now, thorough);
    let report = read(&database_file(folder), &mut |row| counting.row(&row))?;
    Ok(Checked { contents: counting.end(), database: Some(report) })
}

impl Embedded {
    /// As [`contents`], of the folder that this process has open.
    ///
    /// # Errors
    /// When its database cannot be read.
    pub fn contents(&self, folder: &Path, thorough: bool) -> Result<Checked, BackendError> {
        let mut counting = Counting::new(folder, self.shared().clock().now(), thorough);
        self.each_row(&mut |row| counting.row(&row))?;
        let mut contents = counting.end();
        for (queue, counted) in &mut contents.queues {
            counted.in_flight = Some(self.shared().queues().in_flight(queue));
        }
        Ok(Checked { contents, database: None })
    }
}

struct Counting<'a> {
    folder: &'a Path,
    now: Moment,
    thorough: bool,
    found: Contents,
}

impl<'a> Counting<'a> {
    fn new(folder: &'a Path, now: Timestamp, thorough: bool) -> Counting<'a> {
        Counting { folder, now: now.as_millisecond(), thorough, found: Contents::default() }
    }

    fn row(&mut self, row: &Row<'_>) {
        match row {
            Row::Message(message) => self.message(message),
            Row::Item(item) if item.expires > self.now => self.item(item),
            Row::Item(_) => {}
            Row::BadMessage { queue, number, .. } => {
                self.unusable(format!("message {number} of the queue {queue}: its bytes are not what was sent"));
            }
            Row::BadItem { partition, sort, .. } => {
                self.unusable(format!("stored item {partition}/{sort}: its bytes are not what was written"));
            }
            Row::SetAside { .. } => self.found.set_aside += 1,
        }
    }

    fn message(&mut self, message: &MessageRow<'_>) {
        let now = self.now;
        let envelope =
            if message.binary { Some(Envelope::decode(&Bytes::copy_from_slice(message.body))) } else { None };
        let mut at = Timestamp::from_millisecond(message.sent_at).ok();
        let (mut records, mut problem) = (0, None);
        match envelope {
            Some(Ok(envelope)) => {
                at = Some(envelope.accepted_at);
                records = u64::from(envelope.count);
                if self.thorough {
                    problem = envelope.unpack().err().map(|e| e.to_string());
                }
            }
            Some(Err(e)) => problem = Some(e.to_string()),
            None => {}
        }
        let queue = self.found.queues.entry(message.queue.to_owned()).or_default();
        queue.messages += 1;
        queue.records += records;
        queue.bytes += message.body.len() as u64;
        queue.oldest = queue.oldest.into_iter().chain(at).min();
        queue.newest = queue.newest.into_iter().chain(at).max();
        queue.delayed += u64::from(message.visible_at > now);
        if let Some(problem) = problem {
            self.unusable(format!("message {} of the queue {}: {problem}", message.number, message.queue));
        }
    }

    fn item(&mut self, item: &ItemRow<'_>) {
        let group = match item.partition.split_once('/') {
            Some(("kinesis", _)) | None => item.partition,
            Some((first, _)) => first,
        };
        let group = self.found.items.entry(group.to_owned()).or_default();
        group.items += 1;
        group.bytes += item.value.len() as u64;
        match crate::dead::blob_of(item.partition, item.value) {
            None => {}
            Some(Err(problem)) => self.unusable(format!("dead letter {}: {problem}", item.sort)),
            Some(Ok(blob)) => {
                self.found.blobs.named += 1;
                if let Some(problem) = self.problem_of(&blob) {
                    self.unusable(format!("dead letter {}: {problem}", item.sort));
                }
            }
        }
    }

    fn problem_of(&self, blob: &BlobRef) -> Option<String> {
        let path = blob_file(&blobs_folder(self.folder), blob);
        if !self.thorough {
            return (!path.exists()).then(|| format!("its bytes are gone: {} is missing", path.display()));
        }
        match read_from_disk(&path) {
            Ok(bytes) if BlobRef::of(&bytes) == *blob => None,
            Ok(_) => Some(format!("{} was damaged: its content has another hash", path.display())),
            Err(e) => Some(format!("its bytes cannot be read: {}: {e}", path.display())),
        }
    }

    fn unusable(&mut self, what: String) {
        if self.found.unusable.len() < NAMED {
            self.found.unusable.push(what);
        } else {
            self.found.unusable_unnamed += 1;
        }
    }

    fn end(mut self) -> Contents {
        let folders = std::fs::read_dir(blobs_folder(self.folder)).into_iter().flatten().flatten();
        for folder in folders {
            for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                self.found.blobs.files += 1;
                self.found.blobs.bytes += file.metadata().map_or(0, |file| file.len());
            }
        }
        self.found
    }
}

fn read_from_disk(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let_go(&file);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

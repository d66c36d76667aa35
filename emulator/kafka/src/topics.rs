//! Topics and their partitions: the map, creating, deleting, growing, and deleting records on request.
//! What is in a log, and what a setting means, stands elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
    create_partitions_response::CreatePartitionsTopicResult, create_topics_request::CreatableTopic,
};
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::limits::{MAX_PARTITIONS, MAX_TOPIC_NAME};
use super::log::{Dropped, LogSettings, segment_files};
use super::meta::TopicRow;
use super::partition::Partition;
use super::segment::sync_folder;
use super::{Node, code, settings, store_failed, text};

/// One topic. A change of its row makes a new value; the partitions stay.
pub(super) struct Topic {
    pub(super) row: TopicRow,
    pub(super) log: LogSettings,
    partitions: Vec<Arc<Partition>>,
}

impl Topic {
    pub(super) fn partition(&self, index: i32) -> Result<&Arc<Partition>, ResponseError> {
        let index = usize::try_from(index).map_err(|_| ResponseError::UnknownTopicOrPartition)?;
        self.partitions.get(index).ok_or(ResponseError::UnknownTopicOrPartition)
    }
}

/// All topics.
pub(super) struct Topics {
    folder: PathBuf,
    by_name: RwLock<BTreeMap<String, Arc<Topic>>>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Topics {
    /// Opens the logs of all topics, which `rows` describe. What is left of the logs of `deleted` topics is not looked at.
    pub(super) fn open(
        folder: &Path,
        rows: Vec<TopicRow>,
        deleted: &[Uuid],
        log_start: impl Fn(Uuid, i32) -> io::Result<i64>,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let id = path.file_name().and_then(|name| Uuid::try_parse(name.to_str()?).ok());
            if rows.iter().any(|row| Some(row.id) == id) || deleted.iter().any(|deleted| Some(*deleted) == id) {
                continue;
            }
            // A crash may have come before a created topic had its row: nobody could write to it yet. Anything else is
            // somebody's, whatever became of its row.
            match id {
                Some(_) if !has_content(&path)? => std::fs::remove_dir_all(&path)?,
                _ => {
                    tracing::warn!(path = %path.display(), "this file or folder belongs to no topic and is left alone")
                }
            }
        }
        let topics = Self { folder: folder.to_owned(), by_name: RwLock::default(), changing: Mutex::default() };
        for row in rows {
            let partitions = (0..row.partitions).map(|nth| {
                let start = log_start(row.id, nth)?;
                let folder = topics.partition_folder(row.id, nth);
                let (partition, missing) = Partition::open(&folder, start)?;
                say_missing(&row.name, nth, &folder, &missing);
                Ok(Arc::new(partition))
            });
            let partitions = partitions.collect::<io::Result<Vec<_>>>()?;
            topics.put(row, partitions);
        }
        Ok(topics)
    }

    pub(super) fn get(&self, name: &str) -> Result<Arc<Topic>, ResponseError> {
        self.map().get(name).cloned().ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// Removes the records that their topics no longer keep, and says of each topic what went.
    pub(super) fn retain(&self, now_ms: i64) {
        for topic in self.all() {
            let mut dropped = Dropped::default();
            for partition in &topic.partitions {
                match partition.with(|log| log.retain(now_ms, &topic.log)) {
                    Ok(Dropped { records, bytes }) => {
                        dropped = Dropped { records: dropped.records + records, bytes: dropped.bytes + bytes };
                    }
                    Err(error) => tracing::error!(topic = topic.row.name, %error, "cannot remove old records"),
                }
            }
            if dropped.bytes > 0 {
                let Dropped { records, bytes } = dropped;
                let settings = &topic.log;
                tracing::info!(
                    topic = topic.row.name,
                    records,
                    bytes,
                    retention_ms = settings.retention_ms,
                    retention_bytes = settings.retention_bytes,
                    "retention removed the oldest records of the topic"
                );
            }
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        self.map().values().cloned().collect()
    }

    pub(super) fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.map().values().find(|topic| topic.row.id == id).cloned()
    }

    fn map(&self) -> parking_lot::RwLockReadGuard<'_, BTreeMap<String, Arc<Topic>>> {
        self.by_name.read()
    }

    fn put(&self, row: TopicRow, partitions: Vec<Arc<Partition>>) {
        let topic = Topic { log: settings::log_settings(&row.settings), row, partitions };
        let mut map = self.by_name.write();
        map.insert(topic.row.name.clone(), Arc::new(topic));
    }

    fn partition_folder(&self, id: Uuid, partition: i32) -> PathBuf {
        self.topic_folder(id).join(partition.to_string())
    }

    fn topic_folder(&self, id: Uuid) -> PathBuf {
        topic_folder(&self.folder, id)
    }

    /// The logs of a deleted topic: when this returns they stay away.
    fn remove_logs(&self, id: Uuid) -> io::Result<()> {
        match std::fs::remove_dir_all(self.topic_folder(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_folder(&self.folder),
        }
    }
}

/// The topics of which a partition has no log, each with those partitions. A topic's row is stored after its logs, and a log
/// always has a segment: where there is none, somebody has removed it.
pub(super) fn lost(folder: &Path, rows: &[TopicRow]) -> io::Result<Vec<String>> {
    let mut lost = Vec::new();
    for row in rows {
        let mut partitions = Vec::new();
        for index in 0..row.partitions {
            let log = topic_folder(folder, row.id).join(index.to_string());
            if segment_files(&log)?.is_empty() {
                partitions.push(index.to_string());
            }
        }
        if !partitions.is_empty() {
            lost.push(format!("{} (partitions {})", row.name, partitions.join(", ")));
        }
    }
    Ok(lost)
}

/// What was acknowledged and is gone is said at the start; who reads there is told as well, and the offsets stay taken.
fn say_missing(topic: &str, partition: i32, folder: &Path, missing: &[Range<i64>]) {
    for gap in missing {
        tracing::warn!(
            topic, partition, folder = %folder.display(), first_missing = gap.start, last_missing = gap.end - 1,
            records = gap.end - gap.start,
            "records that were acknowledged are missing: their file was cut or removed; bring the folder back from a copy, or \
             go on without them: their offsets are not given out again"
        );
    }
}

fn topic_folder(folder: &Path, id: Uuid) -> PathBuf {
    folder.join(id.simple().to_string())
}

/// Whether a byte is stored here or below.
fn has_content(path: &Path) -> io::Result<bool> {
    let found = std::fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Ok(found.len() > 0);
    }
    for entry in std::fs::read_dir(path)? {
        if has_content(&entry?.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An error for the client: its code, and a sentence where the answer has room for one.
pub(super) type Refusal = (ResponseError, String);

pub(super) fn refusal(error: ResponseError, why: impl Into<String>) -> Refusal {
    (error, why.into())
}

impl Node {
    pub(super) fn create_topics(&self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let topics = request.topics.into_iter().map(|asked| {
            let answer = CreatableTopicResult::default().with_name(asked.name.clone()).with_error_message(None);
            match self.create_asked(asked, request.validate_only) {
                Ok(row) => answer.with_topic_id(row.id).with_num_partitions(row.partitions).with_replication_factor(1),
                Err((error, why)) => answer.with_error_code(error.code()).with_error_message(Some(text(why))),
            }
        });
        CreateTopicsResponse::default().with_topics(topics.collect())
    }

    fn create_asked(&self, asked: CreatableTopic, only_check: bool) -> Result<TopicRow, Refusal> {
        if !matches!(asked.replication_factor, 1 | -1) {
            let why = "there is one broker: the replication factor can only be 1";
            return Err(refusal(ResponseError::InvalidReplicationFactor, why));
        }
        let partitions = match (asked.assignments.len(), asked.num_partitions) {
            (0, -1) => 1,
            (0, number) => number,
            (assigned, _) => assigned as i32,
        };
        let settings =
            asked.configs.into_iter().filter_map(|config| Some((config.name.to_string(), config.value?.to_string())));
        self.create_topic(&asked.name, partitions, settings.collect(), only_check)
    }

    pub(super) fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        settings: BTreeMap<String, String>,
        only_check: bool,
    ) -> Result<TopicRow, Refusal> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > MAX_TOPIC_NAME || name == "." || name == ".." || !name.chars().all(legal) {
            let why = format!("a topic name has 1 to {MAX_TOPIC_NAME} letters, digits, '.', '_' or '-'");
            return Err(refusal(ResponseError::InvalidTopicException, why));
        }
        settings::check(&settings).map_err(|why| refusal(ResponseError::InvalidConfig, why))?;
        let _alone = self.topics.changing.lock();
        if self.topics.get(name).is_ok() {
            return Err(refusal(ResponseError::TopicAlreadyExists, format!("topic {name} exists")));
        }
        self.check_room(partitions)?;
        let row = TopicRow { name: name.to_owned(), id: Uuid::new_v4(), partitions, settings };
        if !only_check {
            self.store_topic(row.clone(), Vec::new())?;
        }
        Ok(row)
    }

    fn check_room(&self, more: i32) -> Result<(), Refusal> {
        let taken: usize = self.topics.all().iter().map(|topic| topic.partitions.len()).sum();
        match usize::try_from(more) {
            Ok(more) if more > 0 && taken + more <= MAX_PARTITIONS => Ok(()),
            Ok(more) if more > 0 => {
                let why = format!("the embedded endpoint holds {MAX_PARTITIONS} partitions, {taken} are taken");
                Err(refusal(ResponseError::PolicyViolation, why))
            }
            _ => Err(refusal(ResponseError::InvalidPartitions, "a topic needs at least one partition")),
        }
    }

    /// The logs are made first and the row is stored then, so that a row always finds its logs.
    fn store_topic(&self, row: TopicRow, mut partitions: Vec<Arc<Partition>>) -> Result<(), Refusal> {
        let failed =
            |error: ResponseError| refusal(error, "it cannot be stored on the disk; the endpoint's log says why");
        for nth in partitions.len() as i32..row.partitions {
            let partition = Partition::create(&self.topics.partition_folder(row.id, nth)).map_err(|error| {
                tracing::error!(topic = row.name, %error, "cannot create a partition");
                failed(ResponseError::KafkaStorageError)
            })?;
            partitions.push(Arc::new(partition));
        }
        sync_folder(self.topics.folder()).map_err(|error| {
            tracing::error!(topic = row.name, %error, "cannot make a topic's folder durable");
            failed(ResponseError::KafkaStorageError)
        })?;
        self.meta.put_topic(&row).map_err(|error| failed(store_failed(error)))?;
        let without_effect = settings::without_effect(&row.settings);
        if !without_effect.is_empty() {
            tracing::info!(topic = row.name, settings = ?without_effect, "settings were accepted that change nothing here");
        }
        self.topics.put(row, partitions);
        Ok(())
    }

    pub(super) fn change_settings(
        &self,
        name: &str,
        only_check: bool,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let _alone = self.topics.changing.lock();
        let topic = self.topics.get(name).map_err(|error| refusal(error, format!("there is no topic {name}")))?;
        let mut row = topic.row.clone();
        change(&mut row.settings)?;
        settings::check(&row.settings).map_err(|why| refusal(ResponseError::InvalidConfig, why))?;
        if only_check { Ok(()) } else { self.store_topic(row, topic.partitions.clone()) }
    }

    pub(super) fn create_partitions(&self, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
        let results = request.topics.into_iter().map(|asked| {
            let grown = self.grow_topic(&asked.name, asked.count, request.validate_only);
            let answer = CreatePartitionsTopicResult::default().with_name(asked.name);
            match grown {
                Ok(()) => answer,
                Err((error, why)) => answer.with_error_code(error.code()).with_error_message(Some(text(why))),
            }
        });
        CreatePartitionsResponse::default().with_results(results.collect())
    }

    fn grow_topic(&self, name: &str, count: i32, only_check: bool) -> Result<(), Refusal> {
        let _alone = self.topics.changing.lock();
        let topic = self.topics.get(name).map_err(|error| refusal(error, format!("there is no topic {name}")))?;
        if count <= topic.row.partitions {
            let why = format!("topic {name} has {} partitions; they can only become more", topic.row.partitions);
            return Err(refusal(ResponseError::InvalidPartitions, why));
        }
        self.check_room(count - topic.row.partitions)?;
        let row = TopicRow { partitions: count, ..topic.row.clone() };
        if only_check { Ok(()) } else { self.store_topic(row, topic.partitions.clone()) }
    }

    pub(super) fn delete_topics(&self, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
        let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
        let by_state = request.topics.into_iter().map(|asked| (asked.name, asked.topic_id));
        let responses = by_name.chain(by_state).map(|(name, id)| {
            let answer = DeletableTopicResult::default().with_topic_id(id);
            let name = name.or_else(|| self.topics.by_id(id).map(|topic| TopicName(text(topic.row.name.clone()))));
            match name {
                None => answer.with_name(None).with_error_code(ResponseError::UnknownTopicId.code()),
                Some(name) => answer.with_error_code(code(self.delete_topic(&name))).with_name(Some(name)),
            }
        });
        DeleteTopicsResponse::default().with_responses(responses.collect())
    }

    fn delete_topic(&self, name: &str) -> Result<(), ResponseError> {
        let _alone = self.topics.changing.lock();
        let topic = self.topics.get(name)?;
        self.meta.delete_topic(name, topic.row.id).map_err(store_failed)?;
        self.topics.by_name.write().remove(name);
        topic.partitions.iter().for_each(|partition| partition.close());
        self.finish_deletion(topic.row.id);
        Ok(())
    }

    /// What cannot be removed now goes at the next start.
    pub(super) fn finish_deletion(&self, id: Uuid) {
        let removed = self.topics.remove_logs(id);
        if let Err(error) = removed.and_then(|()| self.meta.forget_deleted(id).map_err(io::Error::other)) {
            tracing::warn!(topic = %id, %error, "a deleted topic's files are not gone yet");
        }
    }

    pub(super) fn delete_records(&self, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
        let topics = request.topics.into_iter().map(|asked| {
            let partitions = asked.partitions.into_iter().map(|partition| {
                let index = partition.partition_index;
                let answer = DeleteRecordsPartitionResult::default().with_partition_index(index);
                match self.delete_before(&asked.name, index, partition.offset) {
                    Ok(start) => answer.with_low_watermark(start),
                    Err(error) => answer.with_low_watermark(-1).with_error_code(error.code()),
                }
            });
            let partitions = partitions.collect();
            DeleteRecordsTopicResult::default().with_name(asked.name).with_partitions(partitions)
        });
        DeleteRecordsResponse::default().with_topics(topics.collect())
    }

    /// The new start is stored before it is answered: deleted records do not come back after a crash.
    fn delete_before(&self, topic: &str, index: i32, offset: i64) -> Result<i64, ResponseError> {
        let topic = self.topics.get(topic)?;
        if !settings::deletes(&topic.row.settings) {
            // As in Apache Kafka: a topic that is only compacted has the last record of each key for ever.
            return Err(ResponseError::PolicyViolation);
        }
        let start = topic.partition(index)?.with(|log| {
            let offset = if offset == -1 { log.synced() } else { offset };
            log.delete_before(offset)
        })?;
        self.meta.set_log_start(topic.row.id, index, start).map_err(store_failed)?;
        Ok(start)
    }
}

//! Fetch: reads what is durable, or waits until something is. Sessions are not kept (session id 0), so that every request
//! names all its partitions.

use std::sync::Arc;

use futures::future::select_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Node;
use super::limits::{ANSWER_ROOM_KIB, MAX_FETCH, MAX_FETCH_WAIT};

/// One look at all partitions that were asked for.
struct Look {
    response: FetchResponse,
    bytes: usize,
    failed: bool,
}

impl Node {
    /// The permit stands for the answer's bytes and is held until they are written.
    pub(super) async fn fetch(&self, request: FetchRequest) -> (FetchResponse, Option<OwnedSemaphorePermit>) {
        let wait = std::time::Duration::from_millis(request.max_wait_ms.max(0) as u64);
        let until = Instant::now() + wait.min(MAX_FETCH_WAIT);
        loop {
            // Armed before reading: what becomes durable in between is noticed.
            let mut wakes = self.watch(&request);
            let room = self.answer_room(&request).await;
            let look = self.look(&request);
            let enough = look.bytes >= request.min_bytes.max(0) as usize;
            if enough || look.failed || Instant::now() >= until || self.stop.is_cancelled() {
                return (look.response, keep(room, look.bytes));
            }
            drop((look, room));
            let woken = async {
                if wakes.is_empty() {
                    std::future::pending().await
                } else {
                    drop(select_all(wakes.iter_mut().map(|wake| Box::pin(wake.changed()))).await)
                }
            };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(until) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn watch(&self, request: &FetchRequest) -> Vec<tokio::sync::watch::Receiver<super::partition::Progress>> {
        let asked = request.topics.iter().filter_map(|asked| Some((self.topics.get(&asked.topic).ok()?, asked)));
        let partitions = asked.flat_map(|(topic, asked)| {
            let partitions = asked.partitions.iter();
            partitions.filter_map(move |of| Some(topic.partition(of.partition).ok()?.watch())).collect::<Vec<_>>()
        });
        partitions.collect()
    }

    async fn answer_room(&self, request: &FetchRequest) -> Option<OwnedSemaphorePermit> {
        // One batch comes even if it is larger than asked for, so the whole bound is taken while reading.
        let bytes = (request.max_bytes.max(0) as usize).clamp(2 << 20, MAX_FETCH);
        let room = Arc::clone(&self.answer_room);
        room.acquire_many_owned(((bytes >> 10) as u32).min(ANSWER_ROOM_KIB)).await.ok()
    }

    fn look(&self, request: &FetchRequest) -> Look {
        let mut left = (request.max_bytes.max(1) as usize).min(MAX_FETCH);
        let (mut bytes, mut failed) = (0, false);
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let data = self.read_partition(&topic.topic, asked, left, bytes == 0);
                let size = data.records.as_ref().map_or(0, |records| records.len());
                left = left.saturating_sub(size);
                bytes += size;
                failed |= data.error_code != 0;
                data
            });
            let partitions = partitions.collect();
            FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_partitions(partitions)
        });
        let response = FetchResponse::default().with_responses(topics.collect());
        Look { response, bytes, failed }
    }

    fn read_partition(&self, topic: &str, asked: &FetchPartition, left: usize, first: bool) -> PartitionData {
        let data = PartitionData::default().with_partition_index(asked.partition).with_aborted_transactions(None);
        let max = left.min(asked.partition_max_bytes.max(0) as usize);
        let read = self.topics.get(topic).and_then(|topic| {
            topic.partition(asked.partition)?.with(|log| {
                let (start, synced) = (log.start(), log.synced());
                Ok((start, synced, log.read(asked.fetch_offset, max, first)))
            })
        });
        let failed = |data: PartitionData, error: ResponseError| data.with_error_code(error.code());
        match read {
            Err(error) => failed(data.with_high_watermark(-1), error),
            Ok((start, synced, records)) => {
                let data =
                    data.with_high_watermark(synced).with_last_stable_offset(synced).with_log_start_offset(start);
                match records {
                    Ok(records) => data.with_records(Some(records)),
                    Err(error) => failed(data, error),
                }
            }
        }
    }
}

/// Gives back what the read did not need.
fn keep(room: Option<OwnedSemaphorePermit>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let mut room = room?;
    let needed = (bytes >> 10) + 1;
    if needed < room.num_permits() { room.split(needed) } else { Some(room) }
}

//! Streams of Kinesis as its own client reads them.

use std::collections::BTreeMap;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::ShardIteratorType;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A record of a stream, as it is read there.
#[derive(Debug)]
pub struct Found {
    pub partition_key: String,
    pub event: String,
}

impl Found {
    /// The published JSON, byte for byte.
    pub fn data(&self) -> &str {
        #[derive(Deserialize)]
        struct Event<'a> {
            #[serde(borrow)]
            data: &'a RawValue,
        }
        serde_json::from_str::<Event<'_>>(&self.event).unwrap().data.get()
    }

    /// The attributes of the event, its data left out.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        let event: BTreeMap<String, Value> = serde_json::from_str(&self.event).unwrap();
        let texts = event.into_iter().filter(|(name, _)| name != "data");
        texts.map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect()
    }
}

/// Everything in a stream's shards, in order, by the shard's number.
pub async fn read(reader: &Client, stream: &str) -> Vec<(i32, Found)> {
    let mut all = Vec::new();
    for shard in reader.list_shards().stream_name(stream).send().await.unwrap().shards() {
        let number = shard.shard_id().rsplit('-').next().unwrap().parse().unwrap();
        let begin = reader.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
        let begin = begin.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
        let mut next = begin.shard_iterator;
        while let Some(at) = next {
            let read = reader.get_records().shard_iterator(at).send().await.unwrap();
            all.extend(read.records.iter().map(|record| {
                let event = String::from_utf8(record.data.as_ref().to_vec()).unwrap();
                (number, Found { partition_key: record.partition_key.clone(), event })
            }));
            next = read.next_shard_iterator.filter(|_| !read.records.is_empty());
        }
    }
    all
}

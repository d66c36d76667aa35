//! Where consumer groups are [Q4]: asked of the cluster as their members do, without becoming one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::login::LoginContext;
use super::question::Question;
use super::settings::KafkaSettings;
use crate::error::BackendError;
use crate::record::Topic;
use crate::settings::BadSetting;
use crate::sink::Position;

/// One answer of the cluster to the thread that asks; whoever waits for it gives up by a clock that nobody sets.
const ANSWER: Duration = Duration::from_secs(5);
/// All answers of one look.
const LOOK: Duration = Duration::from_secs(15);

/// Which groups are watched, each on the topics named or on all of K2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerGroups(BTreeMap<String, BTreeSet<Topic>>);

impl ConsumerGroups {
    /// From `GROUP` or `GROUP:TOPIC`, several separated by commas; a topic without a stage's prefix.
    ///
    /// # Errors
    /// When a topic is none of ours.
    pub fn parse(text: &str) -> Result<ConsumerGroups, BadSetting> {
        let mut groups: BTreeMap<String, BTreeSet<Topic>> = BTreeMap::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            // A group's id may hold a colon itself.
            let (group, topics) = match entry.rsplit_once(':').filter(|(_, topic)| topic.starts_with("wildfire-")) {
                None => (entry, Topic::ALL.to_vec()),
                Some((group, topic)) => {
                    let rule = || format!("{entry:?}: there is no topic {topic:?}");
                    let unknown = || BadSetting { name: "CONSUMER_GROUPS".into(), rule: rule() };
                    (group, vec![Topic::named(topic).ok_or_else(unknown)?])
                }
            };
            groups.entry(group.to_owned()).or_default().extend(topics);
        }
        Ok(ConsumerGroups(groups))
    }
}

/// Asks for the positions of the groups in the settings.
pub(super) struct Groups {
    settings: KafkaSettings,
    look: Question<Vec<Position>>,
}

impl Groups {
    pub(super) fn new(settings: &KafkaSettings) -> Groups {
        Groups { settings: settings.clone(), look: Question::new() }
    }

    pub(super) async fn positions(&self) -> Result<Vec<Position>, BackendError> {
        if self.settings.groups.0.is_empty() {
            return Ok(Vec::new());
        }
        let settings = self.settings.clone();
        let look = self.look.answer(LOOK, move || positions(&settings).map_err(|e| e.to_string()));
        look.await.map_err(|problem| BackendError::Retry(format!("consumer groups: {problem}")))
    }
}

fn positions(settings: &KafkaSettings) -> Result<Vec<Position>, KafkaError> {
    let mut all = Vec::new();
    for (group, topics) in &settings.groups.0 {
        // A client a look: one that idles keeps every word of an outage until somebody polls it.
        let client = settings.consumer(group)?;
        all.extend(of_group(&client, group, topics, &settings.topic_prefix)?);
    }
    Ok(all)
}

fn of_group(
    client: &BaseConsumer<LoginContext>,
    group: &str,
    topics: &BTreeSet<Topic>,
    prefix: &str,
) -> Result<Vec<Position>, KafkaError> {
    let names: BTreeMap<String, Topic> =
        topics.iter().map(|topic| (format!("{prefix}{}", topic.name()), *topic)).collect();
    let cluster = client.fetch_metadata(None, ANSWER)?;
    let mut partitions = TopicPartitionList::new();
    for topic in cluster.topics().iter().filter(|topic| names.contains_key(topic.name())) {
        for partition in topic.partitions() {
            partitions.add_partition(topic.name(), partition.id());
        }
    }
    if partitions.count() == 0 {
        return Ok(Vec::new());
    }
    let mut committed = BTreeMap::new();
    let mut read = TopicPartitionList::new();
    for found in client.committed_offsets(partitions, ANSWER)?.elements() {
        if let (Offset::Offset(offset), Ok(())) = (found.offset(), found.error()) {
            committed.insert((found.topic().to_owned(), found.partition()), offset);
            // Asked for by a time, the end is what comes after all times.
            read.add_partition_offset(found.topic(), found.partition(), Offset::End)?;
        }
    }
    if read.count() == 0 {
        return Ok(Vec::new());
    }
    let mut positions = Vec::new();
    for found in client.offsets_for_times(read, ANSWER)?.elements() {
        let place = (found.topic().to_owned(), found.partition());
        let known = names.get(&place.0).zip(committed.get(&place));
        if let (Some((topic, committed)), Offset::Offset(end), Ok(())) = (known, found.offset(), found.error()) {
            let (topic, committed) = (*topic, *committed);
            positions.push(Position { group: group.to_owned(), topic, partition: place.1, committed, end });
        }
    }
    // The cluster answers in any order.
    positions.sort_by_key(|position| (position.topic.name(), position.partition));
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q4_a_group_is_watched_on_every_topic_or_on_those_that_are_named() {
        let parse = |text| ConsumerGroups::parse(text).map(|groups| groups.0).map_err(|e| e.to_string());
        let of = |topics: &[Topic]| topics.iter().copied().collect::<BTreeSet<_>>();
        let desk = "desk:wildfire-nasa-firms, map:blue,desk:wildfire-weather,";
        let want =
            [("desk".to_owned(), of(&[Topic::NASA_FIRMS, Topic::WEATHER])), ("map:blue".to_owned(), of(Topic::ALL))];
        assert_eq!(parse(desk), Ok(want.into()));
        assert_eq!(parse(" "), Ok(BTreeMap::new()));
        let unknown = "CONSUMER_GROUPS: \"desk:wildfire-firms\": there is no topic \"wildfire-firms\"";
        assert_eq!(parse("desk:wildfire-firms"), Err(unknown.to_owned()));
    }
}

//! A streams file read entry by entry: what cannot be read of one is told, and the others are read all the same.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Interval, Mistakes, StreamSpec, StreamsFile, lines};
use crate::record::{SourceId, StreamId, TenantId};
use crate::sources::{self, ConnectorKind, Polled, Step, WrongField, WrongFields};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "version, streams, sensors and mqtt")]
struct UnreadFile {
    version: Option<u32>,
    #[serde(default)]
    streams: Vec<Value>,
    #[serde(default)]
    sensors: Vec<Value>,
    #[serde(default)]
    mqtt: Vec<Value>,
}

/// A stream before its `config` was read by its connector. All of it must be there; what is not is told with the rest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a stream with id, source_id, connector, tenant, interval and config")]
struct UnreadSpec {
    id: Option<StreamId>,
    source_id: Option<SourceId>,
    connector: Option<ConnectorKind>,
    tenant: Option<TenantId>,
    interval: Option<Interval>,
    config: Option<Value>,
}

impl StreamsFile {
    /// # Errors
    /// Everything that is wrong with it, each with its field, rule, line and column.
    pub fn parse(text: &str) -> Result<StreamsFile, Mistakes> {
        let value = lines::unique(text).map_err(|e| Mistakes::no_value(&e))?;
        StreamsFile::read(value).map_err(|wrong| Mistakes::placed(text, wrong))
    }

    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(value: Value) -> Result<StreamsFile, WrongFields> {
        if value.is_array() {
            return Err(WrongField::whole("it is a list, expected version, streams, sensors and mqtt").into());
        }
        let (unread, mut wrong) = sources::read_on::<UnreadFile>(value);
        let Some(UnreadFile { version, streams, sensors, mqtt }) = unread else { return Err(WrongFields(wrong)) };
        must_be_there(&mut wrong, [("version", version.is_some())]);
        let (streams, stream_places) = entries("streams", streams, StreamSpec::read, &mut wrong);
        let (sensors, sensor_places) = entries("sensors", sensors, sources::read, &mut wrong);
        let (mqtt, mqtt_places) = entries("mqtt", mqtt, sources::read, &mut wrong);
        // Without a version its own mistake says enough.
        let file = StreamsFile { version: version.unwrap_or(1), streams, sensors, mqtt };
        wrong.extend(file.check().into_iter().map(|wrong| {
            let wrong = wrong.renumbered("streams", &stream_places).renumbered("sensors", &sensor_places);
            wrong.renumbered("mqtt", &mqtt_places)
        }));
        WrongFields::none_or(wrong, file)
    }
}

/// Those entries of a list that can be read, and where each stands in it.
fn entries<T>(
    list: &str,
    unread: Vec<Value>,
    read: impl Fn(Value) -> Result<T, WrongFields>,
    wrong: &mut Vec<WrongField>,
) -> (Vec<T>, Vec<usize>) {
    let (mut entries, mut places) = (Vec::new(), Vec::new());
    for (at, value) in unread.into_iter().enumerate() {
        match read(value) {
            Ok(entry) => {
                entries.push(entry);
                places.push(at);
            }
            Err(problems) => wrong.extend(problems.within([Step::from(list), Step::Item(at)])),
        }
    }
    (entries, places)
}

/// A field that was there and cannot be read is no missing one.
fn must_be_there<const N: usize>(wrong: &mut Vec<WrongField>, fields: [(&str, bool); N]) {
    for (field, there) in fields {
        if !there && !wrong.iter().any(|wrong| wrong.path().first() == Some(&Step::from(field))) {
            wrong.push(WrongField::whole(format!("missing field `{field}`")));
        }
    }
}

impl StreamSpec {
    fn read(value: Value) -> Result<StreamSpec, WrongFields> {
        let (unread, mut wrong) = sources::read_on::<UnreadSpec>(value);
        let Some(unread) = unread else { return Err(WrongFields(wrong)) };
        let UnreadSpec { id, source_id, connector, tenant, interval, config } = unread;
        let (has_connector, has_config) = (connector.is_some(), config.is_some());
        let polled = connector.zip(config).map(|(connector, config)| connector.read(config)).transpose();
        let has_end = match &polled {
            Ok(polled) => polled.as_ref().is_some_and(Polled::is_bounded),
            // Where only the config could say it, nothing is told of an interval that may not be needed.
            Err(_) => connector.is_some_and(|connector| connector.has_end().unwrap_or(true)),
        };
        let interval = interval.or_else(|| has_end.then(Interval::minute));
        must_be_there(
            &mut wrong,
            [
                ("id", id.is_some()),
                ("source_id", source_id.is_some()),
                ("connector", has_connector),
                ("tenant", tenant.is_some()),
                ("interval", interval.is_some()),
                ("config", has_config),
            ],
        );
        let polled = polled.unwrap_or_else(|problems| {
            wrong.extend(problems.within([Step::from("config")]));
            None
        });
        match (id, source_id, polled, tenant, interval) {
            (Some(id), Some(source_id), Some(polled), Some(tenant), Some(interval)) if wrong.is_empty() => {
                Ok(StreamSpec { id, source_id, polled, tenant, interval })
            }
            _ => Err(WrongFields(wrong)),
        }
    }
}

impl<'de> Deserialize<'de> for StreamSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StreamSpec, D::Error> {
        StreamSpec::read(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

//! The envelopes in which networks and devices wrap one reading: where in each the measures, the device and the time stand.

use serde_json::{Map, Value};

use super::names::compact;
use super::{LATITUDES, find, measures, stamp};

/// JSON pointers (RFC 6901); of several the first that is there counts.
pub(super) struct Envelope {
    /// All of them are there in this envelope and together in no other.
    marks: &'static [&'static str],
    reading: &'static str,
    /// Where the bytes stand that the network did not decode.
    bytes: &'static [&'static str],
    ids: &'static [&'static str],
    times: &'static [&'static str],
    places: &'static [&'static str],
}

const ENVELOPES: [Envelope; 9] = [
    // The Things Stack, versions 3 and 2.
    Envelope {
        marks: &["/end_device_ids"],
        reading: "/uplink_message/decoded_payload",
        bytes: &["/uplink_message/frm_payload"],
        ids: &["/end_device_ids/device_id", "/end_device_ids/dev_eui"],
        times: &["/received_at", "/uplink_message/received_at"],
        places: &["/uplink_message/locations/frm-payload", "/uplink_message/locations/user"],
    },
    Envelope {
        marks: &["/payload_fields"],
        reading: "/payload_fields",
        bytes: &["/payload_raw"],
        ids: &["/dev_id", "/hardware_serial"],
        times: &["/metadata/time"],
        places: &["/metadata"],
    },
    // ChirpStack, versions 4 and 3.
    Envelope {
        marks: &["/deviceInfo"],
        reading: "/object",
        bytes: &["/data"],
        ids: &["/deviceInfo/devEui"],
        times: &["/time"],
        places: &[],
    },
    Envelope {
        marks: &["/devEUI"],
        reading: "/object",
        bytes: &["/data"],
        ids: &["/devEUI"],
        times: &["/time", "/rxInfo/0/time"],
        places: &[],
    },
    // Helium.
    Envelope {
        marks: &["/dev_eui", "/decoded"],
        reading: "/decoded/payload",
        bytes: &["/payload"],
        ids: &["/dev_eui"],
        times: &["/reported_at"],
        places: &[],
    },
    // Shelly's notifications, from its second generation on.
    Envelope {
        marks: &["/src", "/params"],
        reading: "/params",
        bytes: &[],
        ids: &["/src"],
        times: &["/params/ts"],
        places: &[],
    },
    // A device shadow of AWS IoT.
    Envelope {
        marks: &["/state/reported"],
        reading: "/state/reported",
        bytes: &[],
        ids: &[],
        times: &["/timestamp"],
        places: &[],
    },
    // PurpleAir's answer for one sensor.
    Envelope {
        marks: &["/api_version", "/sensor"],
        reading: "/sensor",
        bytes: &[],
        ids: &[],
        times: &["/data_time_stamp", "/time_stamp"],
        places: &[],
    },
    // GeoJSON.
    Envelope {
        marks: &["/properties", "/geometry/coordinates"],
        reading: "/properties",
        bytes: &[],
        ids: &["/id"],
        times: &[],
        places: &["/geometry"],
    },
];

/// How a message holds its reading.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// The message is the reading.
    Bare,
    Rtl433,
    In(&'static Envelope),
}

pub(super) fn form(message: &Value) -> Form {
    if message.as_object().is_some_and(is_rtl_433) {
        return Form::Rtl433;
    }
    let is_there = |envelope: &&Envelope| envelope.marks.iter().all(|mark| message.pointer(mark).is_some());
    ENVELOPES.iter().find(is_there).map_or(Form::Bare, Form::In)
}

impl Form {
    /// Where the reading stands in the message, as a JSON pointer.
    pub(super) fn reading(self) -> &'static str {
        if let Form::In(envelope) = self { envelope.reading } else { "" }
    }

    /// Bytes of the device that nobody decoded, where there is no reading: the pointer to them.
    pub(super) fn undecoded(self, message: &Value) -> Option<&'static str> {
        let Form::In(envelope) = self else { return None };
        let there = |pointer: &&&str| message.pointer(pointer).is_some_and(Value::is_string);
        let has_reading = message.pointer(envelope.reading).is_some_and(Value::is_object);
        envelope.bytes.iter().filter(|_| !has_reading).find(there).copied()
    }

    /// The reading out of its envelope, with the envelope's device, time and place where it has none of its own; `None` for a
    /// message that is the reading itself.
    pub(super) fn opened(self, message: &Value) -> Option<Map<String, Value>> {
        let envelope = match self {
            Form::Bare => return None,
            Form::Rtl433 => return message.as_object().map(rtl_433),
            Form::In(envelope) => envelope,
        };
        let mut reading: Map<String, Value> = match message.pointer(envelope.reading) {
            Some(Value::Object(fields)) => without_channels(fields),
            _ => Map::new(),
        };
        let first = |pointers: &[&str]| {
            pointers.iter().find_map(|pointer| message.pointer(pointer)).filter(|told| !told.is_null())
        };
        if let Some(id) = first(envelope.ids) {
            reading.insert("sensor_id".into(), id.clone());
        }
        if let (None, Some(time)) = (find(&reading, &stamp::NAMES), first(envelope.times)) {
            reading.insert("time".into(), time.clone());
        }
        if let (None, Some(place)) = (find(&reading, &LATITUDES), first(envelope.places)) {
            reading.insert("location".into(), place.clone());
        }
        Some(reading)
    }
}

/// Cayenne LPP and Shelly number their channels: `temperature_1`, `temperature:0`. The first of a kind is the reading's.
fn without_channels(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut plain = Map::new();
    for (name, value) in fields {
        let bare = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let kind = bare.strip_suffix(['_', ':']).filter(|kind| bare.len() < name.len() && !fields.contains_key(*kind));
        match kind.filter(|kind| measures::named(&compact(name)).is_none() && !plain.contains_key(*kind)) {
            Some(kind) => plain.insert(kind.to_owned(), value.clone()),
            None => plain.insert(name.clone(), value.clone()),
        };
    }
    plain
}

/// rtl_433 calls a station's own counter `rain_mm`, which others use for the rain since the last reading.
fn is_rtl_433(message: &Map<String, Value>) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| message.contains_key(*name));
    has(&["model"]) && has(&["mic", "mod", "battery_ok"]) && has(&["rain_mm", "rain_in"])
}

fn rtl_433(message: &Map<String, Value>) -> Map<String, Value> {
    let renamed = |name: &String| name.replacen("rain_", "rain_total_", 1);
    message.iter().map(|(name, value)| (renamed(name), value.clone())).collect()
}

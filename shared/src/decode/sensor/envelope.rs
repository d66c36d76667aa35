//! The envelopes in which networks and devices wrap one reading: where in each the measures, the device and the time stand.

use serde_json::{Map, Value};

use super::names::compact;
use super::{LATITUDES, find, measures, stamp};

/// JSON pointers (RFC 6901); of several the first that is there counts.
struct Envelope {
    /// All of them are there in this envelope and together in no other.
    marks: &'static [&'static str],
    reading: &'static str,
    ids: &'static [&'static str],
    times: &'static [&'static str],
    places: &'static [&'static str],
}

const ENVELOPES: [Envelope; 9] = [
    // The Things Stack, versions 3 and 2.
    Envelope {
        marks: &["/end_device_ids"],
        reading: "/uplink_message/decoded_payload",
        ids: &["/end_device_ids/device_id", "/end_device_ids/dev_eui"],
        times: &["/received_at", "/uplink_message/received_at"],
        places: &["/uplink_message/locations/frm-payload", "/uplink_message/locations/user"],
    },
    Envelope {
        marks: &["/payload_fields"],
        reading: "/payload_fields",
        ids: &["/dev_id", "/hardware_serial"],
        times: &["/metadata/time"],
        places: &["/metadata"],
    },
    // ChirpStack, versions 4 and 3.
    Envelope {
        marks: &["/deviceInfo"],
        reading: "/object",
        ids: &["/deviceInfo/devEui"],
        times: &["/time"],
        places: &[],
    },
    Envelope {
        marks: &["/devEUI"],
        reading: "/object",
        ids: &["/devEUI"],
        times: &["/time", "/rxInfo/0/time"],
        places: &[],
    },
    // Helium.
    Envelope {
        marks: &["/dev_eui", "/decoded"],
        reading: "/decoded/payload",
        ids: &["/dev_eui"],
        times: &["/reported_at"],
        places: &[],
    },
    // Shelly's notifications, from its second generation on.
    Envelope { marks: &["/src", "/params"], reading: "/params", ids: &["/src"], times: &["/params/ts"], places: &[] },
    // A device shadow of AWS IoT.
    Envelope { marks: &["/state/reported"], reading: "/state/reported", ids: &[], times: &["/timestamp"], places: &[] },
    // PurpleAir's answer for one sensor.
    Envelope {
        marks: &["/api_version", "/sensor"],
        reading: "/sensor",
        ids: &[],
        times: &["/data_time_stamp", "/time_stamp"],
        places: &[],
    },
    // GeoJSON.
    Envelope {
        marks: &["/properties", "/geometry/coordinates"],
        reading: "/properties",
        ids: &["/id"],
        times: &[],
        places: &["/geometry"],
    },
];

/// The reading in its envelope, with the envelope's device, time and place where it has none of its own; `None` for an
/// object that is the reading itself.
pub(super) fn opened(message: &Value) -> Option<Map<String, Value>> {
    if let Some(reading) = message.as_object().and_then(rtl_433) {
        return Some(reading);
    }
    let envelope =
        ENVELOPES.iter().find(|envelope| envelope.marks.iter().all(|mark| message.pointer(mark).is_some()))?;
    let mut reading: Map<String, Value> = match message.pointer(envelope.reading) {
        Some(Value::Object(fields)) => without_channels(fields),
        _ => Map::new(),
    };
    let first =
        |pointers: &[&str]| pointers.iter().find_map(|pointer| message.pointer(pointer)).filter(|told| !told.is_null());
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
fn rtl_433(message: &Map<String, Value>) -> Option<Map<String, Value>> {
    let is_rtl_433 =
        message.contains_key("model") && ["mic", "mod", "battery_ok"].iter().any(|name| message.contains_key(*name));
    let counted = ["rain_mm", "rain_in"].iter().any(|name| message.contains_key(*name));
    let renamed = |name: &String| name.replacen("rain_", "rain_total_", 1);
    (is_rtl_433 && counted).then(|| message.iter().map(|(name, value)| (renamed(name), value.clone())).collect())
}

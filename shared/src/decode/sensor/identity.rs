//! Which sensor a reading is of, and what tells its readings apart [S12].

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::measures::shown;
use super::topic::id_of;
use super::{IDS, find};
use crate::error::{Reason, Reject};
use crate::record::hex;

/// Names that a payload uses for the sensor itself; the later ones often number a part of a device, or the device's model.
const SURE_IDS: usize = 10;

/// What a device writes that has no id.
const PLACEHOLDERS: [&str; 9] = ["", "0", "-1", "-", "none", "null", "unknown", "undefined", "n/a"];

/// The message's own name, or that of its bytes: the same for every delivery of it.
pub(super) fn message(told: Option<&str>, body: &[u8]) -> String {
    told.map_or_else(|| hex(&Sha256::digest(body)[..16]), str::to_owned)
}

/// The payload's id where it is surely the sensor's, else the topic's. A bare number under `id` is unique only within the
/// device that the topic names, so it stands behind it.
///
/// # Errors
/// `missing_field` when neither names one.
pub(super) fn sensor_id(reading: &Map<String, Value>, topic: Option<&str>) -> Result<String, Reject> {
    let told = |names: &[&str]| {
        let ids = names.iter().filter_map(|name| find(reading, &[name]).map(|(_, value)| value));
        let texts =
            ids.filter(|value| !value.is_object() && !value.is_array()).map(|value| shown(value).trim().to_owned());
        let mut sure = texts.filter(|id| !PLACEHOLDERS.iter().any(|none| none.eq_ignore_ascii_case(id)));
        sure.next()
    };
    let (sure, other) = IDS.split_at(SURE_IDS);
    if let Some(id) = told(sure) {
        return Ok(id);
    }
    let id = find(reading, &["id"]).map(|(_, value)| value).filter(|_| told(&["id"]).is_some());
    match (id, topic.and_then(id_of)) {
        (Some(Value::Number(part)), Some(device)) if part.to_string() != device => Ok(format!("{device}/{part}")),
        (Some(Value::String(id)), _) => Ok(id.trim().to_owned()),
        (_, Some(device)) => Ok(device.to_owned()),
        (_, None) => told(other)
            // Nothing else names it: a zero is at least the same for all its readings.
            .or_else(|| find(reading, &IDS).map(|(_, value)| shown(value)).filter(|id| id == "0"))
            .ok_or_else(|| Reject::new(Reason::MissingField, "sensor_id is missing, and the topic names none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id(reading: Value, topic: Option<&str>) -> Option<String> {
        sensor_id(reading.as_object().unwrap(), topic).ok()
    }

    #[test]
    fn no_placeholder_and_no_part_number_stands_for_the_device_of_the_topic() {
        let topic = Some("sensors/shelly/dev1/state");
        for (reading, expected) in [
            (json!({"id": 0}), "dev1"),
            (json!({"id": "0"}), "dev1"),
            (json!({"id": null, "sensor_id": ""}), "dev1"),
            (json!({"sensor_id": "Unknown"}), "dev1"),
            (json!({"id": 100}), "dev1/100"),
            (json!({"id": "z1"}), "z1"),
            (json!({"id": 0, "device_id": "d"}), "d"),
            (json!({"sensor_index": 131075}), "131075"),
            (json!({"mac": "aa:bb"}), "dev1"),
        ] {
            assert_eq!(id(reading.clone(), topic).as_deref(), Some(expected), "{reading}");
        }
        assert_eq!(id(json!({"id": 7}), Some("sensors/x/7/state")).as_deref(), Some("7"));
    }

    #[test]
    fn without_a_topic_anything_that_names_it_is_better_than_nothing() {
        assert_eq!(id(json!({"id": 7}), None).as_deref(), Some("7"));
        assert_eq!(id(json!({"id": 0, "mac": "aa:bb"}), None).as_deref(), Some("aa:bb"));
        assert_eq!(id(json!({"id": 0}), None).as_deref(), Some("0"));
        assert_eq!(id(json!({"temp_c": 20}), None), None);
    }

    #[test]
    fn a_message_is_named_by_its_stream_or_by_its_bytes() {
        assert_eq!(message(Some("4951"), b"x"), "4951");
        // printf x | sha256sum
        assert_eq!(message(None, b"x"), "2d711642b726b04401627ca9fbac32f5");
    }
}

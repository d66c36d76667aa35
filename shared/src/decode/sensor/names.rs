//! Names as devices write them, brought to one form, so that `windSpeed_mph`, `windspeedmph` and `Wind Speed (mph)` are one
//! name. What a name stands for is not here.

use std::char::ToLowercase;

/// Lower case without separators. A separator between two digits stays as a point: PM1.0 is not PM10.
pub(super) fn compact(name: &str) -> String {
    letters(name).collect()
}

/// Whether `compact(name)` is `plain`. Every field of a reading is compared with all names that are looked for, and most differ
/// in their first letter: no text is made for it.
pub(super) fn reads_as(name: &str, plain: &str) -> bool {
    letters(name).eq(plain.chars())
}

fn letters(name: &str) -> impl Iterator<Item = char> {
    let (mut letters, mut after_a_digit) = (name.chars().peekable(), false);
    let mut foreign: Option<ToLowercase> = None;
    std::iter::from_fn(move || {
        loop {
            if let Some(letter) = foreign.as_mut().and_then(Iterator::next) {
                return Some(letter);
            }
            let plain = match letters.next()? {
                'µ' | 'μ' => 'u',
                '²' => '2',
                '³' => '3',
                // The sign of degrees, and the ordinal that is often written for it.
                '°' | 'º' => continue,
                '%' => '%',
                letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
                letter if letter.is_alphanumeric() => {
                    foreign = Some(letter.to_lowercase());
                    after_a_digit = false;
                    continue;
                }
                _ if after_a_digit && letters.peek().is_some_and(char::is_ascii_digit) => '.',
                _ => continue,
            };
            after_a_digit = plain.is_ascii_digit();
            return Some(plain);
        }
    })
}

/// Keys that gateways send along with what they measured, as they do to any server.
const KEYS: [&str; 6] = ["apikey", "passkey", "password", "secret", "stationkey", "token"];

/// Whether a field holds what opens something, and is nobody else's to read [A6].
pub(super) fn is_key(name: &str) -> bool {
    KEYS.iter().any(|key| reads_as(name, key))
}

/// What a device says of itself and of its message rather than of the air: understood, and kept with the source's object.
const DESCRIPTIONS: [&str; 68] = [
    "app",
    "apiversion",
    "batteryok",
    "channel",
    "class",
    "country",
    "counter",
    "datecreated",
    "description",
    "desc",
    "device",
    "devicetype",
    "did",
    "elevdem",
    "encoding",
    "fcnt",
    "firmware",
    "firmwareversion",
    "fport",
    "freq",
    "freq1",
    "freq2",
    "hardware",
    "hardwarediscovered",
    "hardwareversion",
    "hw",
    "id",
    "ieee",
    "interval",
    "isowner",
    "lastmodified",
    "linkquality",
    "locationtype",
    "lsid",
    "mac",
    "manufacturer",
    "method",
    "mic",
    "mnetid",
    "mod",
    "model",
    "network",
    "noise",
    "passkey",
    "place",
    "private",
    "protocol",
    "runtime",
    "seq",
    "sequence",
    "sequencenumber",
    "serial",
    "serialnumber",
    "snr",
    "state",
    "stationtype",
    "status",
    "subtype",
    "sw",
    "timezone",
    "txid",
    "type",
    "tzoffset",
    "uptime",
    "uptimesec",
    "vendor",
    "version",
    "wlan",
];

pub(super) fn is_description(compact: &str) -> bool {
    DESCRIPTIONS.contains(&compact)
}

/// Parts of a message that tell of another place or time than the air outside and now.
const ELSEWHERE: [&str; 25] = [
    "average",
    "averages",
    "chip",
    "cpu",
    "daily",
    "esp32",
    "forecast",
    "gateway",
    "gateways",
    "in",
    "indoor",
    "inside",
    "internal",
    "max",
    "maximum",
    "mcu",
    "min",
    "minimum",
    "rxinfo",
    "rxmetadata",
    "setpoint",
    "stats",
    "statsa",
    "statsb",
    "system",
];

pub(super) fn is_elsewhere(compact: &str) -> bool {
    ELSEWHERE.contains(&compact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_one() {
        let same =
            ["windSpeed_mph", "windspeedmph", "Wind Speed (mph)", "WIND-SPEED.MPH"].map(|name| (name, "windspeedmph"));
        let kept = [
            ("PM1.0", "pm1.0"),
            ("pm1_0_atm", "pm1.0atm"),
            ("pm1__0", "pm1.0"),
            ("pm10", "pm10"),
            ("µg/m³", "ugm3"),
            ("°F", "f"),
            ("Größe 1 0", "größe1.0"),
            ("2 İ 3", "2i\u{307}3"),
            ("", ""),
        ];
        for (name, plain) in same.into_iter().chain(kept) {
            assert_eq!(compact(name), plain);
            assert!(reads_as(name, plain));
            assert!(!reads_as(name, &format!("{plain}x")) && !reads_as(&format!("{name}x"), plain), "{name}");
        }
    }
}

//! Names as devices write them, brought to one form, so that `windSpeed_mph`, `windspeedmph` and `Wind Speed (mph)` are one
//! name. What a name stands for is not here.

/// Lower case without separators. A separator between two digits stays as a point: PM1.0 is not PM10.
pub(super) fn compact(name: &str) -> String {
    let mut compact = String::with_capacity(name.len());
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            'µ' | 'μ' => compact.push('u'),
            '²' => compact.push('2'),
            '³' => compact.push('3'),
            // The sign of degrees, and the ordinal that is often written for it.
            '°' | 'º' => {}
            '%' => compact.push('%'),
            _ if letter.is_alphanumeric() => compact.extend(letter.to_lowercase()),
            _ => {
                let after_a_digit = compact.ends_with(|last: char| last.is_ascii_digit());
                if after_a_digit && letters.peek().is_some_and(char::is_ascii_digit) {
                    compact.push('.')
                }
            }
        }
    }
    compact
}

/// What a device says of itself and of its message rather than of the air: understood, and kept with the source's object.
const DESCRIPTIONS: [&str; 69] = [
    "app",
    "apiversion",
    "battery_ok",
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
        for name in ["windSpeed_mph", "windspeedmph", "Wind Speed (mph)", "WIND-SPEED.MPH"] {
            assert_eq!(compact(name), "windspeedmph");
        }
        for (name, kept) in
            [("PM1.0", "pm1.0"), ("pm1_0_atm", "pm1.0atm"), ("pm10", "pm10"), ("µg/m³", "ugm3"), ("°F", "f")]
        {
            assert_eq!(compact(name), kept);
        }
    }
}

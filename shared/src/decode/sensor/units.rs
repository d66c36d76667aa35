//! Units as devices write them, and what they are in the unit that is published.

use super::names::compact;

/// What a quantity is measured in; a unit's text means something only within one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dimension {
    /// °C.
    Temperature,
    /// hPa.
    Pressure,
    /// m/s.
    Speed,
    /// mm of water.
    Rain,
    /// mm of water in an hour.
    RainRate,
    /// m.
    Height,
    /// Degrees.
    Direction,
    /// Percent.
    Share,
    /// Percent a metre.
    Obscuration,
    /// µg/m³.
    Particles,
    /// ppm.
    Gas,
    /// V.
    Voltage,
    /// dBm.
    Signal,
    /// W/m².
    Radiation,
    /// Lux.
    Light,
    /// A number without a unit.
    Index,
}

/// `(value + before) * factor` is the value in the published unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Unit {
    before: f64,
    factor: f64,
}

impl Unit {
    pub(crate) fn convert(self, value: f64) -> f64 {
        (value + self.before) * self.factor
    }

    /// The unit that is published.
    pub(super) const OWN: Unit = Unit { before: 0.0, factor: 1.0 };

    /// Steps of this size.
    pub(super) fn steps(size: f64) -> Unit {
        Unit { before: 0.0, factor: size }
    }

    /// The units of a dimension in their shortest spellings, for messages.
    pub(super) fn known(dimension: Dimension) -> String {
        let names = UNITS.iter().filter(|(of, ..)| *of == dimension).filter_map(|(_, names, ..)| names.first());
        names.copied().collect::<Vec<_>>().join(", ")
    }

    /// What `text` means for `dimension`, however it is spelled.
    pub(crate) fn read(dimension: Dimension, text: &str) -> Option<Unit> {
        let text = compact(text);
        let text = match dimension {
            Dimension::Temperature => {
                ["degrees", "degree", "deg"].iter().find_map(|word| text.strip_prefix(word)).unwrap_or(&text)
            }
            _ => &text,
        };
        UNITS
            .iter()
            .find(|(of, names, ..)| *of == dimension && names.contains(&text))
            .map(|&(_, _, before, factor)| Unit { before, factor })
    }
}

/// Dimension, spellings without blanks and signs, and the conversion: the summand first, then the factor.
#[rustfmt::skip]
const UNITS: [(Dimension, &[&str], f64, f64); 43] = [
    (Dimension::Temperature, &["c", "celsius", "cel", "centigrade"], 0.0, 1.0),
    (Dimension::Temperature, &["f", "fahrenheit"], -32.0, 1.0 / 1.8),
    (Dimension::Temperature, &["k", "kelvin"], -273.15, 1.0),
    (Dimension::Pressure, &["hpa", "hectopascal", "hectopascals", "mbar", "mb", "millibar", "millibars"], 0.0, 1.0),
    (Dimension::Pressure, &["pa", "pascal", "pascals"], 0.0, 0.01),
    (Dimension::Pressure, &["kpa", "kilopascal", "kilopascals"], 0.0, 10.0),
    (Dimension::Pressure, &["bar"], 0.0, 1_000.0),
    (Dimension::Pressure, &["inhg", "in", "inches", "inchesofmercury", "inchhg"], 0.0, 33.863_886),
    (Dimension::Pressure, &["mmhg", "torr"], 0.0, 1.333_224),
    (Dimension::Speed, &["ms", "mps", "msec", "meterspersecond", "metrespersecond", "ms1"], 0.0, 1.0),
    (Dimension::Speed, &["kmh", "kph", "kmph", "kmhr", "kilometersperhour", "kilometresperhour"], 0.0, 1.0 / 3.6),
    (Dimension::Speed, &["mph", "mih", "milesperhour", "milehour"], 0.0, 0.447_04),
    (Dimension::Speed, &["kt", "kts", "kn", "knot", "knots"], 0.0, 1_852.0 / 3_600.0),
    (Dimension::Speed, &["fts", "fps", "feetpersecond"], 0.0, 0.304_8),
    (Dimension::Rain, &["mm", "millimeter", "millimeters", "millimetre", "millimetres", "lm2"], 0.0, 1.0),
    (Dimension::Rain, &["cm", "centimeters", "centimetres"], 0.0, 10.0),
    (Dimension::Rain, &["in", "inch", "inches"], 0.0, 25.4),
    (Dimension::RainRate, &["mm", "mmh", "mmhr", "mmperhour"], 0.0, 1.0),
    (Dimension::RainRate, &["in", "inh", "inhr", "inchh", "inchesperhour", "inperhour"], 0.0, 25.4),
    (Dimension::Height, &["m", "meter", "meters", "metre", "metres"], 0.0, 1.0),
    (Dimension::Height, &["ft", "foot", "feet"], 0.0, 0.304_8),
    (Dimension::Height, &["km"], 0.0, 1_000.0),
    (Dimension::Direction, &["deg", "degree", "degrees", "degt", ""], 0.0, 1.0),
    (Dimension::Direction, &["rad", "radians"], 0.0, 57.295_779_513_082_32),
    (Dimension::Share, &["percent", "pct", "%", "%rh", "rh", "percentrh", "gm", "pc"], 0.0, 1.0),
    (Dimension::Obscuration, &["percentm", "%m", "percentpermeter"], 0.0, 1.0),
    (Dimension::Obscuration, &["percentft", "%ft", "percentperfoot"], 0.0, 1.0 / 0.304_8),
    (Dimension::Particles, &["ugm3", "ugm", "ugm.3", "microgramspercubicmeter"], 0.0, 1.0),
    (Dimension::Particles, &["mgm3"], 0.0, 1_000.0),
    (Dimension::Gas, &["ppm"], 0.0, 1.0),
    (Dimension::Gas, &["ppb"], 0.0, 0.001),
    (Dimension::Voltage, &["v", "volt", "volts"], 0.0, 1.0),
    (Dimension::Voltage, &["mv", "millivolt", "millivolts"], 0.0, 0.001),
    (Dimension::Signal, &["dbm", "db"], 0.0, 1.0),
    (Dimension::Radiation, &["wm2", "wattsm2", "wattspersquaremeter", "wm"], 0.0, 1.0),
    (Dimension::Radiation, &["kwm2"], 0.0, 1_000.0),
    (Dimension::Light, &["lux", "lx"], 0.0, 1.0),
    (Dimension::Light, &["klux", "klx"], 0.0, 1_000.0),
    (Dimension::Index, &["index"], 0.0, 1.0),
    (Dimension::Share, &["fraction", "ratio"], 0.0, 100.0),
    (Dimension::RainRate, &["ms"], 0.0, 3_600_000.0),
    (Dimension::RainRate, &["cmh", "cmhr"], 0.0, 10.0),
    (Dimension::Rain, &["m"], 0.0, 1_000.0),
];

/// The units that a whole message or source uses where it names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    /// The published units.
    Metric,
    /// °F, mph, inches and feet.
    Imperial,
    /// As PurpleAir documents its API: °F and feet, but hPa.
    PurpleAir,
}

impl System {
    /// A message's own word for it.
    pub(super) fn named(text: &str) -> Option<System> {
        match compact(text).as_str() {
            "imperial" | "us" | "english" | "uscs" | "usc" => Some(System::Imperial),
            "metric" | "si" | "metricwx" => Some(System::Metric),
            _ => None,
        }
    }

    pub(super) fn unit(self, dimension: Dimension) -> Unit {
        let text = match (self, dimension) {
            (System::Imperial | System::PurpleAir, Dimension::Temperature) => "f",
            (System::Imperial | System::PurpleAir, Dimension::Height) => "ft",
            (System::Imperial, Dimension::Speed) => "mph",
            (System::Imperial, Dimension::Pressure) => "inhg",
            (System::Imperial, Dimension::Rain | Dimension::RainRate) => "in",
            _ => return Unit::OWN,
        };
        Unit::read(dimension, text).unwrap_or(Unit::OWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(dimension: Dimension, text: &str, value: f64) -> f64 {
        (Unit::read(dimension, text).unwrap_or_else(|| panic!("{text}")).convert(value) * 1e4).round() / 1e4
    }

    #[test]
    fn units_are_read_however_they_are_written() {
        for text in ["°F", "ºF", "F", "degF", "deg F", "Fahrenheit", "degrees Fahrenheit"] {
            assert_eq!(converted(Dimension::Temperature, text, 60.8), 16.0, "{text}");
        }
        for (dimension, text, value, metric) in [
            (Dimension::Temperature, "Cel", 23.1, 23.1),
            (Dimension::Temperature, "K", 300.0, 26.85),
            (Dimension::Speed, "km/h", 36.0, 10.0),
            (Dimension::Speed, "mph", 10.0, 4.4704),
            (Dimension::Speed, "kts", 10.0, 5.1444),
            (Dimension::Speed, "m s-1", 3.0, 3.0),
            (Dimension::Pressure, "inHg", 29.92, 1013.2075),
            (Dimension::Pressure, "Pa", 101_325.0, 1013.25),
            (Dimension::Share, "%RH", 20.0, 20.0),
            (Dimension::Rain, "in", 1.0, 25.4),
            (Dimension::Particles, "µg/m³", 9.5, 9.5),
            (Dimension::Radiation, "W/m**2", 348.0, 348.0),
        ] {
            assert_eq!(converted(dimension, text, value), metric, "{text}");
        }
        assert_eq!(Unit::read(Dimension::Speed, "F"), None);
    }
}

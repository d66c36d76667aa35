//! Two generated seasons of which it is known what belongs to which fire: fires that grow with the wind, what satellites see of them
//! and of other heat, and what five sources tell, each late, with its own names, ids and places. Nothing here knows how records are
//! joined: errors of places are those of the instruments (a pixel of VIIRS is 0.375 km wide below the satellite and 0.8 km at the
//! swath's edge, one of MODIS 1 to 4.8 km by 1 to 2 km), those of reports what people do.

use std::collections::{BTreeMap, HashMap};
use std::f64::consts::{PI, TAU};
use std::fmt::Write;

use jiff::Timestamp;
use jiff::tz::Offset;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::bench::generate::VIIRS_HEADER;

/// What one source answers at one time.
pub(super) struct Arrival {
    pub at: Timestamp,
    pub source: &'static str,
    pub body: String,
}

/// In the order in which it arrives, with the fire of each record by [`key`]; `None` for other heat and idle zones.
pub(super) struct Season {
    pub arrivals: Vec<Arrival>,
    pub truth: HashMap<String, Option<usize>>,
}

/// What tells a published record from all others of its source, but for its revisions.
pub(super) fn key(record: &Value) -> String {
    let data = &record["data"];
    match record["source_id"].as_str().unwrap_or_default() {
        source if source.starts_with("firms") => {
            let (latitude, longitude) = (&record["latitude"], &record["longitude"]);
            format!("{source} {latitude} {longitude} {} {}", data["acq_date"], data["acq_time"])
        }
        "evacuation_zones" => format!("zone {}", data["zone_id"]),
        "calfire_incidents" => format!("calfire {}", data["incident_id"]),
        source => format!("{source} {}", data["id"]),
    }
}

/// Kilometres to the north and the east of a fire's origin.
type Offset2 = [f64; 2];

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const KM_OF_DEGREE: f64 = 111.2;
const KM2_OF_ACRE: f64 = 0.004_047;
/// Days of a season.
const DAYS: i64 = 30;
/// South, north, west, east.
const REGION: [f64; 4] = [36.0, 41.0, -122.5, -119.0];
const NAMES: [&str; 16] = [
    "Creek", "River", "Canyon", "Ridge", "Bear", "Lake", "Oak", "Pine", "Mill", "Spring", "Valley", "Rock", "Park",
    "Mine", "Meadow", "Eagle",
];
/// Source, satellite in its rows, and its passes over California in minutes of the UTC day.
const SATELLITES: [(&str, &str, [i64; 2]); 5] = [
    ("firms_viirs_snpp", "N", [590, 1_280]),
    ("firms_viirs_noaa20", "N20", [540, 1_230]),
    ("firms_viirs_noaa21", "N21", [620, 1_310]),
    ("firms_modis_terra", "Terra", [330, 1_110]),
    ("firms_modis_aqua", "Aqua", [570, 1_260]),
];

struct Fire {
    /// Which fire it is: all of a complex are one.
    truth: usize,
    name: String,
    at: [f64; 2],
    began: i64,
    burns: i64,
    acres: f64,
    heading: f64,
    aspect: f64,
    wobble: [(f64, f64); 4],
    irwin: String,
    unique: String,
    calfire: Option<String>,
    /// When CAL FIRE and WFIGS first tell of it.
    reported: [i64; 2],
    firis: bool,
    /// IRWIN's id and name of its complex, and since when it is part of one.
    complex: Option<(String, String, i64)>,
    zones: Vec<(String, Vec<[f64; 2]>)>,
}

impl Fire {
    fn share(&self, at: i64) -> f64 {
        let passed = ((at - self.began) as f64 / self.burns as f64).clamp(0.0, 1.0);
        (1.0 - (-4.0 * passed).exp()) / (1.0 - (-4.0f64).exp())
    }

    fn acres(&self, at: i64) -> f64 {
        (self.acres * self.share(at)).max(0.1)
    }

    /// A place at an angle, from the middle (0) to the edge (1), as it is then.
    fn spot(&self, at: i64, angle: f64, out: f64) -> Offset2 {
        let short = (self.acres(at) * KM2_OF_ACRE / PI / self.aspect).sqrt();
        let long = short * self.aspect;
        let wave = |(n, (size, phase)): (usize, &(f64, f64))| size * ((n + 2) as f64 * angle + phase).sin();
        let out = out * (1.0 + self.wobble.iter().enumerate().map(wave).sum::<f64>());
        // The origin is near one end: the wind drives the other one.
        let (along, across) = (0.75 * long + out * long * angle.cos(), out * short * angle.sin());
        let (sin, cos) = self.heading.sin_cos();
        [along * cos - across * sin, along * sin + across * cos]
    }

    fn outline(&self, at: i64) -> Vec<[f64; 2]> {
        let corner = |n: usize| self.place(self.spot(at, n as f64 / 120.0 * TAU, 1.0));
        (0..120).chain([0]).map(corner).collect()
    }

    /// Latitude and longitude.
    fn place(&self, [north, east]: Offset2) -> [f64; 2] {
        moved(self.at, [north, east])
    }

    fn county(&self) -> String {
        format!("Test {} {}", self.at[0].floor(), (-self.at[1]).floor())
    }

    fn is_large(&self, at: i64) -> bool {
        self.acres(at) > 300.0
    }
}

fn moved([latitude, longitude]: [f64; 2], [north, east]: Offset2) -> [f64; 2] {
    let shrink = latitude.to_radians().cos();
    let rounded = |degrees: f64| (degrees * 1e5).round() / 1e5;
    [rounded(latitude + north / KM_OF_DEGREE), rounded(longitude + east / KM_OF_DEGREE / shrink)]
}

struct Maker {
    rng: StdRng,
    fires: Vec<Fire>,
    truths: usize,
    numbers: u64,
    arrivals: BTreeMap<(i64, u64), Arrival>,
    truth: HashMap<String, Option<usize>>,
}

/// Two seasons, the second one a year after the first, which begins at `begin`.
pub(super) fn seasons(seed: u64, begin: Timestamp) -> Season {
    let mut maker = Maker {
        rng: StdRng::seed_from_u64(seed),
        fires: Vec::new(),
        truths: 0,
        numbers: 0,
        arrivals: BTreeMap::new(),
        truth: HashMap::new(),
    };
    for start in [begin.as_second(), begin.as_second() + 365 * DAY] {
        maker.fires.clear();
        maker.ignite(start);
        maker.observe(start);
    }
    Season { arrivals: maker.arrivals.into_values().collect(), truth: maker.truth }
}

impl Maker {
    fn normal(&mut self, deviation: f64) -> f64 {
        let (a, b): (f64, f64) = (self.rng.random_range(1e-9..1.0), self.rng.random_range(0.0..TAU));
        deviation * (-2.0 * a.ln()).sqrt() * b.cos()
    }

    fn uuid(&mut self) -> String {
        let random: u128 = self.rng.random();
        let hex = format!("{random:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    fn anywhere(&mut self) -> [f64; 2] {
        let [south, north, west, east] = REGION;
        moved([self.rng.random_range(south..north), self.rng.random_range(west..east)], [0.0, 0.0])
    }

    /// Where no other fire of the season will burn: one ground does not burn twice.
    fn unburned(&mut self, acres: f64) -> [f64; 2] {
        let long = |acres: f64| 1.75 * (acres * KM2_OF_ACRE / PI * 3.0).sqrt();
        loop {
            let at = self.anywhere();
            let apart = |fire: &Fire| {
                let [north, east] = [at[0] - fire.at[0], (at[1] - fire.at[1]) * at[0].to_radians().cos()];
                north.hypot(east) * KM_OF_DEGREE
            };
            if self.fires.iter().all(|fire| apart(fire) > long(fire.acres) + long(acres)) {
                return at;
            }
        }
    }

    fn fire(&mut self, at: [f64; 2], began: i64, acres: f64) -> &mut Fire {
        self.numbers += 1;
        self.truths += 1;
        let name = NAMES[self.rng.random_range(0..NAMES.len())].to_owned();
        let began = began + self.rng.random_range(0..12 * HOUR);
        let reported =
            [began + self.rng.random_range(30 * 60..4 * HOUR), began + self.rng.random_range(20 * 60..3 * HOUR)];
        let by_calfire = self.rng.random_bool(0.8);
        let year = Offset::UTC.to_datetime(Timestamp::from_second(began).unwrap_or_default()).year();
        let fire = Fire {
            truth: self.truths,
            name,
            at,
            began,
            burns: (DAY as f64 * (0.3 + acres.powf(0.25) * self.rng.random_range(0.5..1.2))) as i64,
            acres,
            heading: self.rng.random_range(0.0..TAU),
            aspect: self.rng.random_range(1.2..3.0),
            wobble: std::array::from_fn(|_| (self.rng.random_range(0.0..0.12), self.rng.random_range(0.0..TAU))),
            irwin: self.uuid().to_uppercase(),
            unique: format!("{year}-CATST-{:06}", self.numbers),
            calfire: Some(self.uuid()).filter(|_| by_calfire),
            reported,
            firis: acres > 1_000.0 && self.rng.random_bool(0.6),
            complex: None,
            zones: Vec::new(),
        };
        self.fires.push(fire);
        let last = self.fires.len() - 1;
        &mut self.fires[last]
    }

    /// A season's fires: large and small ones anywhere, some near another, some of one name, two complexes.
    fn ignite(&mut self, start: i64) {
        for _ in 0..18 {
            let day = self.rng.random_range(0..DAYS - 8);
            let acres = 100.0 * 1_000f64.powf(self.rng.random_range(0.0..1.0));
            let at = self.unburned(acres);
            self.fire(at, start + day * DAY, acres);
        }
        for _ in 0..40 {
            let day = self.rng.random_range(0..DAYS - 2);
            let acres = self.rng.random_range(0.1..40.0);
            let at = self.unburned(acres);
            self.fire(at, start + day * DAY, acres);
        }
        for _ in 0..4 {
            let (at, day) = (self.unburned(8_000.0), self.rng.random_range(0..DAYS - 8));
            let (apart, towards) = (self.rng.random_range(10.0..25.0), self.rng.random_range(0.0..TAU));
            for at in [at, moved(at, [apart * f64::cos(towards), apart * f64::sin(towards)])] {
                let acres = self.rng.random_range(500.0..8_000.0);
                self.fire(at, start + day * DAY, acres);
            }
        }
        // One name: in two counties on the same days, and in one county after some weeks.
        let [here, other] = [[38.5, -120.5], [38.5, -121.5]];
        for (at, day) in [(here, 2), (other, 2), (here, 24)] {
            let at = moved(at, [self.normal(5.0), self.normal(5.0)]);
            self.fire(at, start + day * DAY, 4_000.0).name = "Twin".into();
        }
        // Lightning: a complex from the first hours on, and one that was made of fires that had been told of.
        for (name, since) in [("Early", 0), ("Late", 2 * DAY)] {
            let (middle, day) = (self.unburned(18_000.0), self.rng.random_range(3..DAYS - 10));
            let (id, truth) = (self.uuid().to_uppercase(), self.truths + 1);
            for part in ["North", "South", "East"] {
                let at = moved(middle, [self.normal(9.0), self.normal(9.0)]);
                let fire = self.fire(at, start + day * DAY, 6_000.0);
                fire.name = format!("{name} {part}");
                (fire.truth, fire.calfire) = (truth, None);
                fire.complex = Some((id.clone(), format!("{name} Complex"), fire.began + since));
            }
            let complex = self.fire(middle, start + day * DAY + since, 18_000.0);
            complex.name = format!("{name} Complex");
            (complex.truth, complex.irwin, complex.firis) = (truth, id, false);
        }
        for number in 0..self.fires.len() {
            self.zones(number);
        }
    }

    /// Zones ahead of a large fire: each is ordered when the fire has come near.
    fn zones(&mut self, number: usize) {
        if self.fires[number].acres < 3_000.0 {
            return;
        }
        for zone in 0..self.rng.random_range(3..9) {
            let (angle, beyond) = (self.rng.random_range(-1.2..1.2f64), self.rng.random_range(0.3..5.0f64));
            let wide = self.rng.random_range(1.0..2.5);
            let fire = &mut self.fires[number];
            let edge = fire.spot(fire.began + 2 * DAY, angle, 1.0);
            let away = edge[0].hypot(edge[1]).max(0.1);
            let middle = edge.map(|km| km * (1.0 + (beyond + wide) / away));
            let corners = [[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]];
            let ring = corners.map(|[y, x]| fire.place([middle[0] + wide * y, middle[1] + wide * x]));
            fire.zones.push((format!("US-CA-XT{}-E{number:03}{zone}", fire.began / DAY), ring.to_vec()));
        }
    }

    fn arrive(&mut self, at: i64, source: &'static str, body: String) {
        self.numbers += 1;
        let number = self.numbers;
        let time = Timestamp::from_second(at).unwrap_or_default();
        self.arrivals.insert((at, number), Arrival { at: time, source, body });
    }

    /// Whatever is seen and told from the first day on, until nothing burns any more.
    fn observe(&mut self, start: i64) {
        for day in 0..DAYS + 5 {
            for (source, satellite, passes) in SATELLITES {
                for pass in passes {
                    self.pass(source, satellite, start + day * DAY + pass * 60);
                }
            }
            for hour in 0..24 {
                self.tell(start + day * DAY + hour * HOUR);
            }
        }
    }

    fn pass(&mut self, source: &'static str, satellite: &str, at: i64) {
        let is_viirs = source.contains("viirs");
        let pixel = if is_viirs { 0.375 } else { 1.0 };
        let mut seen: Vec<([f64; 2], Option<usize>)> = Vec::new();
        for number in 0..self.fires.len() {
            let fire = &self.fires[number];
            let (since, is_complex) = (at - fire.began, fire.name.ends_with("Complex"));
            // What has burned out glows for some days.
            if is_complex || since < 0 || since > fire.burns + 4 * DAY {
                continue;
            }
            let grown = (fire.acres(at) - fire.acres(at - DAY / 2)).max(0.0) * KM2_OF_ACRE;
            let glowing = fire.acres(at) * KM2_OF_ACRE * 0.02;
            let expected = (grown / pixel / pixel * 0.4 + glowing).min(60.0);
            let count = expected.floor() as usize + usize::from(self.rng.random_bool(expected.fract()));
            let inner = (self.fires[number].acres(at - DAY / 2) / self.fires[number].acres(at)).sqrt();
            for _ in 0..count {
                let angle = self.rng.random_range(0.0..TAU);
                let out = match self.rng.random_range(0..100) {
                    0..2 => self.rng.random_range(1.0..1.3),
                    2..75 => self.rng.random_range(inner..1.0001),
                    _ => self.rng.random_range(0.0..1.0f64).sqrt(),
                };
                let spot = self.fires[number].spot(at, angle, out);
                seen.push((self.fires[number].place(spot), Some(self.fires[number].truth)));
            }
        }
        // Burned fields, plants, sun on roofs: anywhere, and sometimes between fires that are near each other.
        for _ in 0..self.rng.random_range(1..6) {
            seen.push((self.anywhere(), None));
        }
        if self.rng.random_bool(0.2) {
            let pair = 58 + 2 * self.rng.random_range(0..4);
            let (a, b) = (self.fires[pair].at, self.fires[pair + 1].at);
            seen.push((moved([(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0], [self.normal(3.0), self.normal(3.0)]), None));
        }
        let edge = self.rng.random_range(0.0..1.0f64);
        let (scan, track) =
            if is_viirs { (0.375 + 0.425 * edge, 0.375 + 0.4 * edge) } else { (1.0 + 3.8 * edge, 1.0 + edge) };
        let time = Offset::UTC.to_datetime(Timestamp::from_second(at).unwrap_or_default());
        let (date, minute) = (time.date(), i32::from(time.hour()) * 100 + i32::from(time.minute()));
        let header = if is_viirs { VIIRS_HEADER } else { MODIS_HEADER };
        let mut body = format!("{header}\n");
        for (place, truth) in seen {
            let error = [
                self.rng.random_range(-0.5..0.5) * track + self.normal(0.07),
                self.rng.random_range(-0.5..0.5) * scan + self.normal(0.07),
            ];
            let [latitude, longitude] = moved(place, error);
            let known = format!("{source} {latitude} {longitude} \"{date}\" \"{minute:04}\"");
            if self.truth.insert(known, truth).is_some() {
                continue;
            }
            let _ = if is_viirs {
                writeln!(
                    body,
                    "{latitude},{longitude},340,{scan:.2},{track:.2},{date},{minute},{satellite},VIIRS,n,2.0NRT,300,5.1,D"
                )
            } else {
                writeln!(
                    body,
                    "{latitude},{longitude},320,{scan:.2},{track:.2},{date},{minute},{satellite},MODIS,80,6.1NRT,300,25.1,D"
                )
            };
        }
        let arrives = at + self.rng.random_range(HOUR..3 * HOUR);
        self.arrive(arrives, source, body);
    }

    /// What the lists show that has changed in the last hour.
    fn tell(&mut self, now: i64) {
        let (mut wfigs, mut calfire, mut perimeters, mut firis, mut zones) = (vec![], vec![], vec![], vec![], vec![]);
        for number in 0..self.fires.len() {
            let fire = &self.fires[number];
            let ended = fire.began + fire.burns + 2 * DAY;
            // Every fire is told of anew twice a day, at an hour of its own.
            let turn = |first: i64| {
                now >= first && (now - first < HOUR || (now - first) / HOUR % 12 == 0) && now - HOUR < ended
            };
            let truth = Some(fire.truth);
            if turn(fire.reported[1]) {
                self.truth.insert(format!("wfigs_incidents \"{{{}}}\"", self.fires[number].irwin), truth);
                wfigs.push(self.wfigs_incident(number, now, now >= ended));
            }
            let fire = &self.fires[number];
            if turn(fire.reported[0]) && fire.calfire.is_some() {
                self.truth.insert(format!("calfire \"{}\"", fire.calfire.as_deref().unwrap_or_default()), truth);
                calfire.push(self.calfire_incident(number, now, now >= ended));
            }
            let fire = &self.fires[number];
            let is_complex = fire.name.ends_with("Complex");
            if turn(fire.reported[1] + 10 * HOUR) && (now / HOUR) % 24 < 12 && fire.is_large(now) && !is_complex {
                perimeters.push(self.perimeter(number, now));
            }
            let fire = &self.fires[number];
            if fire.firis && now > fire.began + 2 * HOUR && now < ended && (now - fire.began) / HOUR % 9 == 4 {
                firis.push(self.flight(number, now));
            }
            let fire = &self.fires[number];
            let since = (now - fire.began) / HOUR;
            let status = match since {
                6 => "Evacuation Warning",
                18 => "Evacuation Order",
                90 => "Lifted",
                _ => continue,
            };
            for (id, ring) in &fire.zones {
                self.truth.insert(format!("zone \"{id}\""), truth);
                zones.push(zone(id, status, ring, now));
            }
        }
        if (now / HOUR) % 24 == 20 {
            let (id, at) = (format!("US-CA-XXX-I{}", now / DAY), self.anywhere());
            let ring = [[0.0, 0.0], [0.0, 3.0], [3.0, 3.0], [0.0, 0.0]].map(|corner| moved(at, corner));
            self.truth.insert(format!("zone \"{id}\""), None);
            zones.push(zone(&id, "Normal", &ring, now));
        }
        for (source, features) in [
            ("wfigs_incidents", wfigs),
            ("calfire_incidents", calfire),
            ("wfigs_perimeters", perimeters),
            ("firis_perimeters", firis),
            ("evacuation_zones", zones),
        ] {
            if !features.is_empty() {
                let body = json!({"type": "FeatureCollection", "features": features}).to_string();
                let late = self.rng.random_range(0..600);
                self.arrive(now + late, source, body);
            }
        }
    }

    fn wfigs_incident(&mut self, number: usize, now: i64, out: bool) -> Value {
        let error = [self.normal(0.5), self.normal(0.5)];
        let fire = &self.fires[number];
        let [latitude, longitude] = fire.place(error);
        let complex = fire.complex.as_ref().filter(|(_, _, since)| now >= *since);
        json!({"type": "Feature", "geometry": {"type": "Point", "coordinates": [longitude, latitude]}, "properties": {
            "IrwinID": format!("{{{}}}", fire.irwin), "UniqueFireIdentifier": fire.unique,
            "IncidentName": fire.name.to_uppercase(), "IncidentTypeCategory": if fire.name.ends_with("Complex") { "CX" } else { "WF" },
            "IncidentSize": fire.acres(now), "FireDiscoveryDateTime": (fire.began + 600) * 1000,
            "ModifiedOnDateTime_dt": now * 1000, "FireOutDateTime": out.then_some(now * 1000),
            "POOState": "US-CA", "POOCounty": fire.county(),
            "CpxID": complex.map(|(id, _, _)| id), "CpxName": complex.map(|(_, name, _)| name)}})
    }

    fn calfire_incident(&mut self, number: usize, now: i64, out: bool) -> Value {
        // One in twenty five marks a town, and one in five tells local time as UTC.
        let far = number.is_multiple_of(25);
        let error = [self.normal(if far { 9.0 } else { 1.5 }), self.normal(1.5)];
        let fire = &self.fires[number];
        let local = if number % 5 == 3 { 7 * HOUR } else { 0 };
        let text = |at: i64| Timestamp::from_second(at).unwrap_or_default().to_string();
        let [latitude, longitude] = fire.place(error);
        let county = if number % 7 == 2 { format!("{}, Test Neighbour", fire.county()) } else { fire.county() };
        json!({"type": "Feature", "geometry": {"type": "Point", "coordinates": [longitude, latitude]}, "properties": {
            "UniqueId": fire.calfire, "Name": if number.is_multiple_of(3) { fire.name.clone() } else { format!("{} Fire ", fire.name) },
            "Type": "Wildfire", "County": county, "Started": text(fire.began + 900 - local), "Updated": text(now),
            "AcresBurned": fire.acres(now).round(), "IsActive": !out, "Latitude": latitude, "Longitude": longitude,
            "ExtinguishedDate": out.then(|| text(now))}})
    }

    fn perimeter(&mut self, number: usize, now: i64) -> Value {
        // One in twenty comes before anybody has said whose it is; each has an id of its own for its fire's life.
        let (nameless, mapped) = (number % 20 == 7, now - self.rng.random_range(HOUR..7 * HOUR));
        let fire = &self.fires[number];
        let id = format!("{}{}", &fire.irwin[..24], "0123456789AB");
        self.truth.insert(format!("wfigs_perimeters \"{{{id}}}\""), Some(fire.truth));
        let complex = fire.complex.as_ref().filter(|(_, _, since)| now >= *since);
        let mut properties = json!({
            "poly_SourceGlobalID": format!("{{{id}}}"), "poly_IncidentName": fire.name, "poly_PolygonDateTime": mapped * 1000,
            "poly_DateCurrent": now * 1000, "poly_GISAcres": fire.acres(mapped)});
        if !nameless {
            properties["poly_IRWINID"] = format!("{{{}}}", fire.irwin.to_lowercase()).into();
            properties["attr_UniqueFireIdentifier"] = fire.unique.as_str().into();
            properties["attr_IncidentName"] = fire.name.as_str().into();
            properties["attr_FireDiscoveryDateTime"] = ((fire.began + 600) * 1000).into();
            properties["attr_POOState"] = "US-CA".into();
            properties["attr_POOCounty"] = fire.county().into();
            properties["attr_CpxID"] = complex.map(|(id, _, _)| id.as_str()).into();
        }
        json!({"type": "Feature", "geometry": polygon(&fire.outline(mapped)), "properties": properties})
    }

    fn flight(&mut self, number: usize, now: i64) -> Value {
        let id = self.uuid().to_uppercase();
        let fire = &self.fires[number];
        self.truth.insert(format!("firis_perimeters \"{{{id}}}\""), Some(fire.truth));
        let name = (now / HOUR % 3 != 0).then(|| fire.name.to_uppercase());
        json!({"type": "Feature", "geometry": polygon(&fire.outline(now - HOUR)), "properties": {
            "GlobalID": id, "incident_name": name, "mission": format!("CA-TST-{}-N57B", fire.name), "source": "FIRIS",
            "type": "Heat Perimeter", "displayStatus": "Active", "area_acres": fire.acres(now - HOUR),
            "poly_DateCurrent": (now - HOUR) * 1000, "EditDate": now * 1000}})
    }
}

const MODIS_HEADER: &str = "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,instrument,\
                            confidence,version,bright_t31,frp,daynight";

fn polygon(outline: &[[f64; 2]]) -> Value {
    let corners: Vec<[f64; 2]> = outline.iter().map(|[latitude, longitude]| [*longitude, *latitude]).collect();
    json!({"type": "Polygon", "coordinates": [corners]})
}

fn zone(id: &str, status: &str, ring: &[[f64; 2]], now: i64) -> Value {
    json!({"type": "Feature", "geometry": polygon(ring),
        "properties": {"ZONE_ID": id, "COUNTY": "Testland", "STATUS": status, "EditDate": now * 1000}})
}

//! FIRMS files of every product and door: area API, daily text, archive; Unix and Windows line ends, a byte order mark,
//! leading zeros and none, and rows that are wrong in one place.

use std::collections::BTreeMap;

/// What a file holds, known from how it was made.
#[derive(Debug, Default)]
pub struct Facts {
    pub valid: usize,
    /// 1-based numbers of the rows that can never be accepted.
    pub rejected: Vec<u64>,
    /// Readable fire radiative powers, and their sum in megawatts.
    pub frp_values: usize,
    pub frp_sum: f64,
    /// Valid rows by the source that the row's satellite stands for.
    pub sources: BTreeMap<&'static str, usize>,
    pub earliest: String,
    pub latest: String,
}

pub struct File {
    pub name: &'static str,
    /// The stream's source id.
    pub source: &'static str,
    pub text: String,
    pub facts: Facts,
}

/// A product as one door writes it.
struct Dialect {
    name: &'static str,
    source: &'static str,
    header: &'static str,
    /// The satellites' texts with the sources that they stand for.
    satellites: &'static [(&'static str, &'static str)],
    /// `{lat}`, `{lon}`, `{date}`, `{time}`, `{satellite}`, `{frp}` are filled in.
    row: &'static str,
    /// `0930` or `930`.
    leading_zero: bool,
    line_end: &'static str,
    mark: bool,
}

const VIIRS: &str = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight";
const MODIS: &str = "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_t31,frp,daynight";
const VIIRS_ROW: &str = "{lat},{lon},331.2,0.4,0.4,{date},{time},{satellite},VIIRS,n,2.0NRT,290.1,{frp},D";
const MODIS_ROW: &str = "{lat},{lon},312.6,1.1,1.0,{date},{time},{satellite},MODIS,71,6.1NRT,288.3,{frp},D";

const DIALECTS: [Dialect; 9] = [
    Dialect {
        name: "area S-NPP",
        source: "firms_viirs_snpp",
        header: VIIRS,
        satellites: &[("N", "firms_viirs_snpp")],
        row: VIIRS_ROW,
        leading_zero: false,
        line_end: "\n",
        mark: false,
    },
    Dialect {
        name: "area NOAA-20",
        source: "firms_viirs_noaa20",
        header: VIIRS,
        satellites: &[("N20", "firms_viirs_noaa20")],
        row: VIIRS_ROW,
        leading_zero: false,
        line_end: "\n",
        mark: false,
    },
    Dialect {
        name: "area NOAA-21",
        source: "firms_viirs_noaa21",
        header: VIIRS,
        satellites: &[("N21", "firms_viirs_noaa21")],
        row: VIIRS_ROW,
        leading_zero: true,
        line_end: "\r\n",
        mark: true,
    },
    Dialect {
        name: "area MODIS",
        source: "firms_modis",
        header: MODIS,
        satellites: &[("Terra", "firms_modis_terra"), ("Aqua", "firms_modis_aqua")],
        row: MODIS_ROW,
        leading_zero: false,
        line_end: "\n",
        mark: false,
    },
    Dialect {
        name: "daily text NOAA-20",
        source: "firms_viirs_noaa20",
        header: VIIRS,
        satellites: &[("1", "firms_viirs_noaa20")],
        row: VIIRS_ROW,
        leading_zero: true,
        line_end: "\n",
        mark: false,
    },
    Dialect {
        name: "daily text MODIS",
        source: "firms_modis",
        header: "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,confidence,version,bright_t31,frp,daynight",
        satellites: &[("T", "firms_modis_terra"), ("A", "firms_modis_aqua")],
        row: "{lat},{lon},312.6,1.1,1.0,{date},{time},{satellite},71,6.1NRT,288.3,{frp},N",
        leading_zero: true,
        line_end: "\n",
        mark: false,
    },
    Dialect {
        name: "quoted by a spreadsheet",
        source: "firms_viirs_snpp",
        header: VIIRS,
        satellites: &[("N", "firms_viirs_snpp")],
        row: "\"{lat}\",\"{lon}\",331.2,0.4,0.4,{date},\"{time}\",\"{satellite}\",VIIRS,n,2.0NRT,290.1,{frp},D",
        leading_zero: true,
        line_end: "\r\n",
        mark: false,
    },
    Dialect {
        name: "archive of S-NPP",
        source: "historical_firms",
        header: "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_t31,frp,daynight,type",
        satellites: &[("N", "historical_firms")],
        row: "{lat},{lon},331.2,0.4,0.4,{date},{time},{satellite},VIIRS,n,2,290.1,{frp},D,0",
        leading_zero: true,
        line_end: "\n",
        mark: false,
    },
    Dialect {
        name: "area Landsat",
        source: "landsat_nrt",
        header: "latitude,longitude,path,row,scan,track,acq_date,acq_time,satellite,confidence,daynight",
        satellites: &[("L8", "landsat_nrt"), ("L9", "landsat_nrt")],
        row: "{lat},{lon},44,33,1200,3300,{date},{time},{satellite},H,D",
        leading_zero: false,
        line_end: "\n",
        mark: false,
    },
];

/// Row numbers with one fault each: what is wrong, and the text that stands there.
const FAULTS: [(usize, &str, &str); 6] = [
    (3, "{lat}", "91.5"),
    (5, "{lon}", "east"),
    (7, "{date}", "2026-02-30"),
    (9, "{time}", "2460"),
    (11, "{frp}", "nan"),
    (13, "{frp}", ""),
];

/// One file a dialect, of `rows` rows each, and a header alone.
pub fn files(rows: usize) -> Vec<File> {
    DIALECTS.iter().map(|dialect| file(dialect, rows)).chain([empty()]).collect()
}

fn empty() -> File {
    File { name: "a header alone", source: "firms_viirs_snpp", text: format!("{VIIRS}\n"), facts: Facts::default() }
}

fn file(dialect: &Dialect, rows: usize) -> File {
    let mut text = String::from(if dialect.mark { "\u{feff}" } else { "" }) + dialect.header + dialect.line_end;
    let mut facts = Facts::default();
    for n in 1..=rows {
        let (satellite, source) = dialect.satellites[n % dialect.satellites.len()];
        let (hour, minute) = (n % 24, n * 7 % 60);
        let tenths = n % 400;
        let time = format!("{:02}{minute:02}", hour);
        let mut row = dialect.row.to_owned();
        let fault = FAULTS.iter().find(|(at, place, _)| *at == n && dialect.row.contains(place));
        if let Some((_, place, wrong)) = fault {
            row = row.replace(place, wrong);
        }
        let written = if dialect.leading_zero { time.clone() } else { time.trim_start_matches('0').to_owned() };
        for (place, value) in [
            ("{lat}", format!("{:.5}", 32.6 + (n % 900) as f64 * 0.01)),
            ("{lon}", format!("{:.5}", -124.0 + (n / 900) as f64 * 0.01 + (n % 7) as f64 * 0.001)),
            ("{date}", format!("2026-06-{:02}", 1 + n % 28)),
            ("{time}", if written.is_empty() { "0".to_owned() } else { written }),
            ("{satellite}", satellite.to_owned()),
            ("{frp}", format!("{}.{}", tenths / 10, tenths % 10)),
        ] {
            row = row.replace(place, &value);
        }
        text += &row;
        text += dialect.line_end;
        match fault {
            Some((_, place, _)) if *place != "{frp}" => facts.rejected.push(n as u64),
            fault => {
                facts.valid += 1;
                *facts.sources.entry(source).or_default() += 1;
                if fault.is_none() && dialect.row.contains("{frp}") {
                    facts.frp_values += 1;
                    facts.frp_sum += tenths as f64 / 10.0;
                }
                let at = format!("2026-06-{:02}T{hour:02}:{minute:02}:00.000Z", 1 + n % 28);
                if facts.earliest.is_empty() || at < facts.earliest {
                    facts.earliest.clone_from(&at)
                }
                facts.latest = at.max(std::mem::take(&mut facts.latest));
            }
        }
    }
    File { name: dialect.name, source: dialect.source, text, facts }
}

/// What the service answers instead of data.
pub const NO_DATA: [&str; 5] = [
    "",
    "Invalid MAP_KEY.",
    "Exceeding allowed transaction limit.",
    "Invalid day range. Expects [1..5].",
    "<!DOCTYPE html><html><body>The service is being maintained.</body></html>",
];

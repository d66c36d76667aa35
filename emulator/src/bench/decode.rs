//! [F6]: FIRMS rows from bytes to typed values with their times, on one thread, in turns with a bare pass of the csv crate, which makes
//! nothing of its cells, and with pandas, where a Python has it.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use csv::{ByteRecord, ReaderBuilder};
use serde::{Deserialize, Serialize};
use streammanager::sources::firms::{moments, rows::Readings};
use streammanager::time::Clock;
use streammanager_host::exit::Failure;
use tokio::time::Instant;

use crate::bench::generate::firms_viirs_noaa20;
use crate::bench::{Scratch, stream};

/// Nanoseconds a row, medians.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub rows: usize,
    pub decoded_ns: f64,
    pub times_ns: f64,
    pub csv_ns: f64,
    /// Or why there is none.
    pub pandas: Result<Pandas, String>,
    csv: Option<&'static str>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Pandas {
    /// The table without its times.
    pub read_ns: f64,
    /// The times of texts: date and time joined, then read by a format.
    pub joined_ns: f64,
    /// The times of dates that are read by a format, with the minutes of the day added.
    pub added_ns: f64,
    python: String,
    pandas: String,
}

/// Both ways to the times are vectorised; the second one is the fastest that is known to us.
const SCRIPT: &str = r#"
import json, platform, sys
from time import perf_counter as now
import pandas as pd
file, begun = sys.argv[1], now()
table = pd.read_csv(file)
read = now()
joined = pd.to_datetime(table.acq_date + " " + table.acq_time.astype(str).str.zfill(4), format="%Y-%m-%d %H%M", utc=True)
first = now()
minutes = table.acq_time // 100 * 60 + table.acq_time % 100
added = pd.to_datetime(table.acq_date, format="%Y-%m-%d", utc=True) + pd.to_timedelta(minutes, unit="min")
second = now()
assert (joined == added).all()
each = 1e9 / len(table)
print(json.dumps({"read_ns": (read - begun) * each, "joined_ns": (first - read) * each, "added_ns": (second - first) * each,
    "python": platform.python_version(), "pandas": pd.__version__}))
"#;

impl Found {
    /// Of what was measured.
    pub(crate) fn versions(&self) -> String {
        let csv = format!("csv {}", self.csv.unwrap_or("of an unknown version"));
        match &self.pandas {
            Ok(Pandas { python, pandas, .. }) => format!("{csv}, pandas {pandas}, Python {python}"),
            Err(_) => csv,
        }
    }
}

/// # Errors
/// When a generated row is not read: the run is worthless then.
pub(crate) fn decode(rows: usize, runs: usize, python: &Path) -> Result<Found, Failure> {
    let source = stream().map_err(Failure::new)?.source;
    let body = Bytes::from(firms_viirs_noaa20(6, rows, Clock::system().now()));
    let folder = Scratch::new("decode").map_err(Failure::new)?;
    let file = folder.path().join("rows.csv");
    std::fs::write(&file, &body).map_err(Failure::new)?;
    let cells = cells(&body).map_err(Failure::new)?;
    let each = |began: Instant| began.elapsed().as_nanos() as f64 / rows.max(1) as f64;
    let (mut decoded, mut times, mut csv, mut pandas) = (Vec::new(), Vec::new(), Vec::new(), Ok(Vec::new()));
    for _ in 0..runs {
        let began = Instant::now();
        let read = Readings::new(&body, &source).map_err(Failure::new)?;
        // Each reading is seen where it lies, as each record of the bare pass is.
        let read = read.filter(|row| black_box(row).is_ok()).count();
        decoded.push(each(began));
        let began = Instant::now();
        let read_csv = bare(&body).map_err(Failure::new)?;
        csv.push(each(began));
        let began = Instant::now();
        let told = moments(cells.iter().map(|(date, time)| (&date[..], &time[..]))).filter_map(black_box).count();
        times.push(each(began));
        if [read, read_csv, told] != [rows; 3] {
            return Err(Failure::new(format!(
                "of {rows} rows {read} were decoded, {read_csv} seen and {told} told a time"
            )));
        }
        if let Ok(turns) = &mut pandas {
            match by_pandas(python, &file) {
                Ok(turn) => turns.push(turn),
                Err(why) => pandas = Err(why),
            }
        }
    }
    let pandas = pandas.and_then(|turns| {
        let of = |ns: fn(&Pandas) -> f64| median(turns.iter().map(ns).collect());
        let last = turns.last().cloned().ok_or("there was no turn")?;
        Ok(Pandas {
            read_ns: of(|turn| turn.read_ns),
            joined_ns: of(|turn| turn.joined_ns),
            added_ns: of(|turn| turn.added_ns),
            ..last
        })
    });
    let found = Found {
        rows,
        decoded_ns: median(decoded),
        times_ns: median(times),
        csv_ns: median(csv),
        pandas,
        csv: csv_version(),
    };
    Ok(found)
}

/// Each record is seen, and nothing is made of its cells.
fn bare(body: &[u8]) -> csv::Result<usize> {
    let (mut reader, mut record, mut seen) = (ReaderBuilder::new().from_reader(body), ByteRecord::new(), 0);
    while reader.read_byte_record(&mut record)? {
        seen += usize::from(!black_box(&record).is_empty());
    }
    Ok(seen)
}

/// Each row's date and time of day, as they are written.
fn cells(body: &[u8]) -> csv::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut reader = ReaderBuilder::new().from_reader(body);
    let names = reader.byte_headers()?.clone();
    let at = |name: &[u8]| names.iter().position(|cell| cell == name).unwrap_or_default();
    let (date, time) = (at(b"acq_date"), at(b"acq_time"));
    reader.byte_records().map(|record| record.map(|record| (record[date].to_vec(), record[time].to_vec()))).collect()
}

fn by_pandas(python: &Path, file: &Path) -> Result<Pandas, String> {
    let ended = Command::new(python).args(["-c", SCRIPT]).arg(file).env("OMP_NUM_THREADS", "1").output();
    let ended = ended.map_err(|e| format!("{}: {e}", python.display()))?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        let last = said.lines().last().unwrap_or("it ended without a word");
        return Err(format!("{}: {last}; name a Python that has pandas with --python", python.display()));
    }
    serde_json::from_slice(&ended.stdout).map_err(|e| format!("{}: {e}", python.display()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// As the lock file has it.
fn csv_version() -> Option<&'static str> {
    let lock = include_str!("../../../Cargo.lock");
    lock.split_once("name = \"csv\"\nversion = \"")?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f6_every_row_is_decoded_seen_and_told_a_time_and_a_missing_pandas_is_named() {
        let found = decode(500, 1, Path::new("no-such-python")).unwrap();
        assert!(found.decoded_ns > 0.0 && found.csv_ns > 0.0 && found.times_ns > 0.0);
        assert!(found.pandas.unwrap_err().contains("no-such-python"));
        assert!(found.csv.is_some_and(|version| version.starts_with("1.")), "{:?}", found.csv);
    }
}

//! The inputs that a run begins with: every generated dialect and form. A decoder gets those of the others as well, for what it
//! refuses is to be kept as well as what it reads.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;
use streammanager::decode::specimens::{self, Specimen};

use crate::generated::{cap, firms, forms};

/// Rows of a table: all of its faults stand in the first ones.
const ROWS: usize = 14;

/// Every generated input, each once.
pub fn generated() -> Vec<Vec<u8>> {
    let readings: Vec<_> = (0..3)
        .map(|n| json!({ "id": format!("s{n}"), "time": 1_788_289_000 + n, "temperature_c": 20 + n, "latitude": 38.5, "longitude": -121.5 }))
        .collect();
    let mut made: Vec<Vec<u8>> = cap::chain().into_iter().map(String::into_bytes).collect();
    made.extend(cap::feeds().into_iter().map(|(_, text, _)| text.into_bytes()));
    made.extend(forms::of_readings(&readings).into_iter().map(|form| form.body));
    let files = firms::files(ROWS);
    made.extend(forms::of_table(&files[0].text).into_iter().map(|form| form.body));
    made.extend(files.into_iter().map(|file| file.text.into_bytes()));
    made.sort();
    made.dedup();
    made
}

/// Writes what a run begins with below `folder`, one file each: `seeds` for all decoders, `specimens/FORMAT` for one.
///
/// # Errors
/// As the file system.
pub fn write(folder: &Path) -> io::Result<()> {
    let write = |folder: &Path, name: String, body: &[u8]| {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(name), body)
    };
    for (n, body) in generated().iter().enumerate() {
        write(&folder.join("seeds"), format!("generated-{n:03}"), body)?;
    }
    for (n, Specimen { format, source, bodies }) in specimens::all().iter().enumerate() {
        let folder = folder.join("specimens").join(format.name);
        for (m, body) in bodies.iter().enumerate() {
            write(&folder, format!("{source}-{n}-{m}"), body.as_bytes())?;
        }
    }
    Ok(())
}

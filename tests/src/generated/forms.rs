//! The forms in which people and services send what they have: separators of other countries, other encodings, archives, a
//! record a line.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// What becomes of a body in this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Becomes {
    /// Every record is read.
    Read,
    /// Nothing is read, and these words say what it is.
    Told(&'static str),
}

pub struct Form {
    pub name: &'static str,
    pub body: Vec<u8>,
    /// In a file that a command is given.
    pub file: Becomes,
    /// In the answer of a service, or in a message.
    pub pushed: Becomes,
}

/// A table with commas, in every other form.
pub fn of_table(csv: &str) -> Vec<Form> {
    use Becomes::{Read, Told};
    let form = |name, body, file, pushed| Form { name, body, file, pushed };
    let same = |name, body, says| form(name, body, Told(says), Told(says));
    let wide = |unit: fn(u16) -> [u8; 2]| format!("\u{feff}{csv}").encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let gzip = gzip(csv.as_bytes());
    vec![
        form("as it is", csv.into(), Read, Read),
        form("with a mark", format!("\u{feff}{}", csv.trim_start_matches('\u{feff}')).into(), Read, Read),
        same("semicolons", csv.replace(',', ";").into(), "separated by semicolons"),
        // As a spreadsheet of a country writes it that has the comma in numbers.
        same("decimal commas", csv.replace(',', ";").replace('.', ",").into(), "separated by semicolons"),
        same("tabs", csv.replace(',', "\t").into(), "separated by tabs"),
        same("bars", csv.replace(',', "|").into(), "separated by bars"),
        same("zip", zip("fire_archive.csv", csv.as_bytes()), "a zip archive of fire_archive.csv"),
        same("workbook", zip("xl/workbook.xml", b"x"), "an Excel workbook"),
        same("bzip2", b"BZh91AY&SY".to_vec(), "packed by bzip2"),
        same("web page", b"\n<!DOCTYPE html>\n<title>Log in</title>".to_vec(), "a web page"),
        form("UTF-16, little end first", wide(u16::to_le_bytes), Read, Told("UTF-16")),
        form("UTF-16, big end first", wide(u16::to_be_bytes), Read, Told("UTF-16")),
        form("half a gzip", gzip[..gzip.len() / 2].to_vec(), Told("damaged gzip"), Told("packed by gzip")),
        form("gzip", gzip, Read, Told("packed by gzip")),
    ]
}

/// Readings of JSON, a list of them, in the forms that are read and in those of tables.
pub fn of_readings(readings: &[serde_json::Value]) -> Vec<Form> {
    use Becomes::{Read, Told};
    let lines = |end: &str| readings.iter().map(|reading| format!("{reading}{end}")).collect::<String>();
    let table: String =
        readings.iter().map(|reading| format!("{},{}\n", reading["id"], reading["temperature_c"])).collect();
    let table = format!("id,temperature_c,humidity\n{table}");
    let form = |name, body: Vec<u8>, file, pushed| Form { name, body, file, pushed };
    let both = |name, body: String, becomes| form(name, body.into(), becomes, becomes);
    let gzip = gzip(lines("\n").as_bytes());
    vec![
        both("a list", serde_json::json!(readings).to_string(), Read),
        both("one a line", lines("\n"), Read),
        both("one a line, as Windows writes it", lines("\r\n"), Read),
        both("one a line, with blank lines", lines("\n\n"), Read),
        both("one a line, with a mark", format!("\u{feff}{}", lines("\n")), Read),
        both("commas", table.clone(), Told("separated by commas")),
        both("semicolons", table.replace(',', ";"), Told("separated by semicolons")),
        both("tabs", table.replace(',', "\t"), Told("separated by tabs")),
        form("zip", zip("readings.json", lines("\n").as_bytes()), Told("a zip archive"), Told("a zip archive")),
        form("gzip", gzip, Read, Told("packed by gzip")),
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).and_then(|()| gzip.finish()).unwrap_or_default()
}

/// One entry without packing, and the archive's directory.
pub fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let length = |n: usize| (n as u32).to_le_bytes();
    let mut zip = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    zip.extend([length(content.len()), length(content.len())].concat());
    zip.extend([(name.len() as u16).to_le_bytes(), [0, 0]].concat());
    zip.extend([name.as_bytes(), content].concat());
    zip.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0");
    zip.extend([length(content.len()), length(content.len())].concat());
    zip.extend((name.len() as u16).to_le_bytes());
    zip.extend([0; 16]);
    zip.extend(name.as_bytes());
    zip
}

//! `decode`: bytes → records on standard output, without queue or sink.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};
use std::path::Path;

use streammanager::decode::sensor::{Mapping, Mappings};
use streammanager::decode::{Context, Format};
use streammanager::error::{Reason, Reject};
use streammanager::ingest::{self, validate};
use streammanager::record::ids::BadId;
use streammanager::record::{SourceId, Stream, StreamId, TenantId, WhenFull, value};
use streammanager::schedule::file::StreamsFile;
use streammanager::settings::Settings;
use streammanager::time::{Clock, Timestamp};
use streammanager_host::exit::{Exit, Failure};

use crate::cli::DecodeArgs;
use crate::commands::{named, say};
use crate::files;
use crate::map::Drawing;

/// Prints every record's value; a critical id may be decoded by anyone, since nothing is published.
pub(crate) fn run(args: DecodeArgs) -> Result<Exit, Failure> {
    let named = named(&args.input)?;
    let mappings = mappings(&args)?;
    let mapping = args.input.topic.as_deref().and_then(|topic| mappings.of(topic));
    let its_source = mapping.and_then(Mapping::source).filter(|_| args.input.source.is_none());
    let named = named.map(|(source, format)| (its_source.cloned().unwrap_or(source), format));
    if let (Some(file), Some(topic), None) = (&args.mapping, &args.input.topic, mapping) {
        say(format_args!("{}: no mapping fits the topic {topic}: its messages are read without one", file.display()))
    }
    let maps = args.map.iter().map(|path| Drawing::new(path)).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    files::some_there(&args.input.files)?;
    let mut decoding = Decoding {
        args: &args,
        now: Clock::system().now(),
        settings: Settings::local(),
        out: BufWriter::new(io::stdout().lock()),
        maps,
        mapping,
        exit: Exit::Done,
    };
    for path in &args.input.files {
        if !decoding.file(named.as_ref(), path)? {
            break;
        }
    }
    let Decoding { mut out, maps, exit, .. } = decoding;
    match out.flush() {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => return Err(Failure::new(format!("standard output: {e}"))),
        _ => {}
    }
    for (map, path) in maps.into_iter().zip(&args.map) {
        say(map.write().map_err(|e| Failure::new(format!("--map {}: {e}", path.display())))?);
    }
    Ok(exit)
}

/// One run over all files.
struct Decoding<'a> {
    args: &'a DecodeArgs,
    now: Timestamp,
    settings: Settings,
    out: BufWriter<StdoutLock<'static>>,
    maps: Vec<Drawing>,
    mapping: Option<&'a Mapping>,
    exit: Exit,
}

impl Decoding<'_> {
    /// Decodes one file; `false` when nobody reads the records any more.
    fn file(&mut self, named: Option<&(SourceId, Format)>, path: &Path) -> Result<bool, Failure> {
        let read = match named {
            Some((source, format)) => files::read_as(*format, path).map(|body| (source.clone(), *format, body)),
            None => files::recognised(path).inspect(|(source, format, _)| {
                let told =
                    format!("{}: read as {}, as source {source}; --source names another", path.display(), format.name);
                if !self.args.json {
                    say(told);
                }
            }),
        };
        // What cannot be opened, unpacked or recognised costs that file alone.
        let (source, format, body) = match read {
            Ok(read) => read,
            Err(problem) => {
                self.refused(path, &Reject::new(Reason::NotData, problem));
                return Ok(true);
            }
        };
        let failed = |e: BadId| Failure::new(e);
        let stream = Stream {
            id: StreamId::new(source.as_str()).map_err(failed)?,
            source: source.clone(),
            tenant: TenantId::new("local").map_err(failed)?,
            granted: true,
            when_full: WhenFull::Wait,
        };
        let topic = self.args.input.topic.as_deref();
        let context = Context { source: &source, received_at: self.now, topic, message: None };
        let rows = match self.mapping {
            Some(mapping) => mapping.rows(&body, context),
            None => format.rows(&body, context),
        };
        let rows = match rows {
            Ok(rows) => rows,
            Err(reject) => {
                self.refused(path, &reject);
                return Ok(true);
            }
        };
        for row in rows {
            let json = row
                .and_then(|draft| validate::check(draft, self.now))
                .and_then(|draft| ingest::enrich(draft, 0, &stream, self.now))
                .and_then(|record| value::json(&record, &self.settings.producer_id));
            match json {
                Ok(json) => {
                    self.maps.iter_mut().for_each(|map| map.add(&json));
                    match writeln!(self.out, "{json}") {
                        Ok(()) => {}
                        // Nobody reads on; a map still wants the rest.
                        Err(e) if e.kind() == ErrorKind::BrokenPipe && self.maps.is_empty() => return Ok(false),
                        Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
                        Err(e) => return Err(Failure::new(format!("standard output: {e}"))),
                    }
                }
                Err(reject) => self.refused(path, &reject),
            }
        }
        Ok(true)
    }

    fn refused(&mut self, path: &Path, reject: &Reject) {
        report(path, reject, self.args.json);
        self.exit = Exit::Partly;
    }
}

/// The mappings of `--mapping`.
fn mappings(args: &DecodeArgs) -> Result<Mappings, Failure> {
    let Some(path) = &args.mapping else { return Ok(Mappings::default()) };
    Mappings::new(&mappings_file(path)?.sensors).map_err(|e| Failure::new(format!("{}: sensors: {e}", path.display())))
}

/// A streams file, read for its mappings.
pub(super) fn mappings_file(path: &Path) -> Result<StreamsFile, Failure> {
    let text = String::from_utf8_lossy(&files::read(path).map_err(files::unreadable(path))?).into_owned();
    StreamsFile::parse(&text).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// A line of a terminal or a log; what is longer is seen in the file.
const SHOWN_BYTES: usize = 16 * 1024;

fn report(path: &Path, reject: &Reject, json: bool) {
    let raw = &reject.raw[..reject.raw.len().min(SHOWN_BYTES)];
    if json {
        let reject = serde_json::json!({
            "path": path.display().to_string(), "row": reject.row, "reason": reject.reason,
            "detail": reject.detail, "raw": String::from_utf8_lossy(raw), "raw_bytes": reject.raw.len(),
        });
        say(serde_json::json!({ "reject": reject }))
    } else {
        say(format_args!("{}: {reject}", path.display()))
    }
}

//! `decode`: bytes → records on standard output, without queue or sink.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use streammanager::decode::Context;
use streammanager::error::{Reason, Reject};
use streammanager::ingest::{self, validate};
use streammanager::record::{Stream, StreamId, TenantId, WhenFull, value};
use streammanager::settings::Settings;
use streammanager::time::Clock;
use streammanager_host::exit::{Exit, Failure};

use crate::cli::DecodeArgs;
use crate::commands::{say, source_and_format};
use crate::files;

/// Prints every record's value; a critical id may be decoded by anyone, since nothing is published.
pub(crate) fn run(args: DecodeArgs) -> Result<Exit, Failure> {
    let (source, format) = source_and_format(&args.input)?;
    let failed = |e: streammanager::record::ids::BadId| Failure::new(e);
    let stream = Stream {
        id: StreamId::new(source.as_str()).map_err(failed)?,
        source: source.clone(),
        tenant: TenantId::new("local").map_err(failed)?,
        granted: true,
        when_full: WhenFull::Wait,
    };
    files::all_there(&args.input.files)?;
    let (now, settings) = (Clock::system().now(), Settings::local());
    let mut out = BufWriter::new(io::stdout().lock());
    let mut exit = Exit::Done;
    for path in &args.input.files {
        let body = files::read_as(format, path).map_err(|problem| Reject::new(Reason::NotData, problem));
        let context = Context { source: &source, received_at: now, topic: args.input.topic.as_deref(), message: None };
        // What cannot be unpacked costs that file alone.
        let rows = match body.as_ref().map_err(Reject::clone).and_then(|body| format.rows(body, context)) {
            Ok(rows) => rows,
            Err(reject) => {
                report(path, &reject, args.json);
                exit = Exit::Partly;
                continue;
            }
        };
        for row in rows {
            let json = row
                .and_then(|draft| validate::check(draft, now))
                .and_then(|draft| ingest::enrich(draft, 0, &stream, now))
                .and_then(|record| value::json(&record, &settings.producer_id));
            match json {
                Ok(json) => match writeln!(out, "{json}") {
                    Ok(()) => {}
                    Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(exit),
                    Err(e) => return Err(Failure::new(format!("standard output: {e}"))),
                },
                Err(reject) => {
                    report(path, &reject, args.json);
                    exit = Exit::Partly;
                }
            }
        }
    }
    match out.flush() {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::new(format!("standard output: {e}"))),
        _ => Ok(exit),
    }
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

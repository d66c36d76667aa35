//! What the tests share: where the program, the samples and the real services are, and how a test says that it was skipped.
//! No test logic and no client of the system lives here.

pub mod arcgis;
pub mod archives;
pub mod bodies;
pub mod chaos;
pub mod disk;
pub mod endpoints;
pub mod feeds;
pub mod fleet;
pub mod generated;
pub mod kafka_clients;
pub mod kinesis;
pub mod lambda_runtime;
pub mod pages;
pub mod polled;
pub mod published;
pub mod roads;
pub mod simulated;
pub mod stations;
pub mod system;
pub mod upstream;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use endpoints::Endpoint;

/// Says that a whole test did not run, and why. `tests/run` counts these lines, and with `--strict` fails on them.
/// Use as `return skip("kafka conformance", "STREAMMANAGER_TEST_KAFKA is not set")`.
pub fn skip(what: &str, why: &str) {
    note("STREAMMANAGER_TEST_SKIPS", &format!("SKIPPED {what}: {why}\n"));
}

/// A line on standard error, and in the file that the variable names.
fn note(variable: &str, line: &str) {
    eprint!("{line}");
    if let Some(file) = std::env::var_os(variable) {
        // One write in append mode: tests of several processes share the file.
        let written =
            OpenOptions::new().create(true).append(true).open(&file).and_then(|mut f| f.write_all(line.as_bytes()));
        written.unwrap_or_else(|e| panic!("cannot write to {}: {e}", Path::new(&file).display()));
    }
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the package lies in the workspace").to_path_buf()
}

/// The folder of recorded input, one folder a source: `STREAMMANAGER_SAMPLES`, else `shared/samples` beside the workspace.
/// What a test proves with it is proved in every clone on [`generated`] input as well, so that a test without the folder is
/// an extra that did not run, not a skipped one; it says so, and `tests/run` lists it.
pub fn samples(what: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("STREAMMANAGER_SAMPLES") {
        Some(folder) => PathBuf::from(folder),
        None => workspace().join("../shared/samples"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    note("STREAMMANAGER_TEST_EXTRAS", &format!("EXTRA {what}: there is no folder of recorded input\n"));
    None
}

/// A recorded file's bytes, unpacked where they are packed.
pub fn unpacked(path: &Path) -> Bytes {
    let mut bytes = std::fs::read(path).expect("a recorded file can be read");
    if path.extension().is_some_and(|extension| extension == "gz") {
        let packed = std::mem::take(&mut bytes);
        flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("it is packed by gzip");
    }
    bytes.into()
}

/// A real Apache Kafka, as `HOST:PORT`.
pub fn kafka() -> Option<String> {
    set("STREAMMANAGER_TEST_KAFKA")
}

/// The folder with the authorities of that Kafka's certificates, when it was started by `tests/services/kafka secure`.
pub fn kafka_authorities() -> Option<PathBuf> {
    set("STREAMMANAGER_TEST_KAFKA_AUTHORITIES").map(PathBuf::from)
}

/// The folder with Apache Kafka's jars, for its own command-line tools (`java -cp 'DIR/*' …`).
pub fn kafka_libs() -> Option<PathBuf> {
    set("STREAMMANAGER_TEST_KAFKA_LIBS").map(PathBuf::from)
}

/// The program of a Go service with franz-go, built from `tests/services/franz-go`.
pub fn franz_go() -> Option<PathBuf> {
    set("STREAMMANAGER_TEST_FRANZ_GO").map(PathBuf::from)
}

/// AWS's own runtime interface emulator, the program that stands for Lambda inside of the SAM CLI.
pub fn rie() -> Option<PathBuf> {
    set("STREAMMANAGER_TEST_RIE").map(PathBuf::from)
}

/// The AWS endpoint of tests that need only one, as a URL. Any credentials will do.
pub fn aws() -> Option<String> {
    Endpoint::Ministack.url()
}

/// The built `streammanager`: `STREAMMANAGER_BIN`, else the one beside this test's own binary.
///
/// # Panics
/// When it is not built: `cargo test -p streammanager-tests` alone does not build another package's binary.
pub fn binary() -> PathBuf {
    match std::env::var_os("STREAMMANAGER_BIN").map(PathBuf::from) {
        Some(program) => built(program),
        None => beside("streammanager"),
    }
}

/// The built binary of one Lambda function, by its name in the template.
///
/// # Panics
/// When it is not built, as `binary`.
pub fn lambda_binary(name: &str) -> PathBuf {
    beside(name)
}

fn beside(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/debug/deps/end_to_end-0123456789abcdef → target/debug/streammanager
    let profile = test.parent().and_then(Path::parent).expect("cargo puts test binaries into deps/");
    built(profile.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

fn built(program: PathBuf) -> PathBuf {
    assert!(program.is_file(), "{} is not built: cargo build --workspace --all-features --bins", program.display());
    program
}

/// A TCP port of 127.0.0.1 that nobody holds at this moment, and that no outgoing connection takes before it is used: it lies
/// below the range from which the system gives those theirs.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 10_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test programs run at the same time: each begins elsewhere.
    let begin = std::process::id().wrapping_mul(7_919);
    let ports = std::iter::repeat_with(|| {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        (PORTS.start + offset) as u16
    });
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.take(PORTS.len()).find(free).expect("127.0.0.1 has a free port")
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

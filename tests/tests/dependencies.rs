//! What each package may link, from `cargo tree`: Lambda binaries carry nothing of the emulator, the thin command nothing
//! of a whole system. And what the library's lower rooms may import. No test of behaviour belongs here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What only a running emulator or its durable folder needs.
const EMULATOR: [&str; 6] =
    ["streammanager-host", "redb", "axum", "mqtt-protocol-core", "streammanager-kafka-endpoint", "clap"];

/// The names of the crates that `arguments` link on this host, themselves included.
fn linked(arguments: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .current_dir(streammanager_tests::workspace())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "cargo tree {arguments:?}: {}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).expect("crate names are text");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn among(crates: &BTreeSet<String>, forbidden: impl Fn(&str) -> bool) -> Vec<&String> {
    crates.iter().filter(|name| forbidden(name)).collect()
}

#[test]
fn lambda_functions_link_nothing_of_the_emulator() {
    let functions = linked(&["-p", "streammanager-functions", "--features", "lambda"]);
    for needed in ["lambda_runtime", "rdkafka", "openssl-sys", "aws-sdk-sqs", "aws-sdk-dynamodb"] {
        assert!(functions.contains(needed), "{needed} is missing: {functions:?}");
    }
    let emulator = among(&functions, |name| EMULATOR.contains(&name));
    assert!(emulator.is_empty(), "{emulator:?}");
}

#[test]
fn the_thin_command_links_no_broker_no_cloud_and_no_server() {
    let thin = linked(&["-p", "streammanager-emulator", "--no-default-features"]);
    assert!(thin.contains("streammanager") && thin.contains("clap"), "{thin:?}");
    let heavy = |name: &str| {
        ["rdkafka", "axum", "reqwest", "mqtt-protocol-core", "kafka-protocol"].contains(&name)
            || name.starts_with("aws-")
    };
    let found = among(&thin, heavy);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_whole_command_links_what_a_running_system_needs_and_aws_or_openssl_only_when_asked() {
    let whole = linked(&["-p", "streammanager-emulator"]);
    let needed = EMULATOR.into_iter().chain(["rdkafka", "streammanager-functions"]);
    let missing: Vec<_> = needed.filter(|name| !whole.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let cloud = among(&whole, |name| name.starts_with("aws-sdk-"));
    assert!(cloud.is_empty(), "{cloud:?}");
    let openssl = among(&whole, |name| name.starts_with("openssl-s"));
    assert!(openssl.is_empty(), "only --features kafka-tls may build OpenSSL: {openssl:?}");
    let with_tls = linked(&["-p", "streammanager-emulator", "--features", "kafka-tls"]);
    assert!(with_tls.contains("openssl-sys"), "{with_tls:?}");
    let with_aws = linked(&["-p", "streammanager-emulator", "--features", "aws"]);
    assert!(with_aws.contains("aws-sdk-sqs"), "{with_aws:?}");
}

#[test]
fn the_library_alone_links_no_backend() {
    let library = linked(&["-p", "streammanager"]);
    let backend = |name: &str| ["redb", "rdkafka", "reqwest"].contains(&name) || name.starts_with("aws-");
    let found = among(&library, backend);
    assert!(found.is_empty(), "{found:?}");
}

/// Rooms and files of the library below `App`: the seams, what is known without them, and what a process remembers.
const BELOW_APP: [&str; 47] = [
    "authorities",
    "aws",
    "blobs",
    "breaker",
    "connect",
    "control/admission",
    "control/connector",
    "control/pace",
    "dead/advice",
    "dead/bounds",
    "dead/patterns",
    "decode",
    "deliver/age",
    "deliver/pace",
    "deliver/report",
    "deliver/scheduler",
    "deliver/tally",
    "deliver/urgency",
    "embedded",
    "error",
    "express/known",
    "express/marks",
    "express/reply",
    "express/thread",
    "express/tries",
    "faults",
    "fires",
    "ingest/dedup",
    "ingest/label",
    "ingest/place",
    "ingest/room",
    "ingest/validate",
    "limits",
    "provenance",
    "queue",
    "record",
    "schedule/file",
    "schedule/lease",
    "schedule/mappings",
    "schedule/mode",
    "settings",
    "sink",
    "sources",
    "store",
    "time",
    "tls",
    "upstream",
];

fn is_below_app(module: &str) -> bool {
    BELOW_APP
        .iter()
        .any(|below| module.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The modules that a file imports from its own crate, as `ingest/dedup`.
fn imports(text: &str) -> impl Iterator<Item = String> {
    let paths =
        text.lines().filter_map(|line| line.trim_start().trim_start_matches("pub ").strip_prefix("use crate::"));
    paths.map(|path| {
        let modules = path.trim_end_matches(';').split("::").take_while(|part| part.starts_with(char::is_lowercase));
        modules.collect::<Vec<_>>().join("/")
    })
}

/// Every file of the library with its module's name, but for tests.
fn modules(folder: &Path, root: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("the library is there") {
        let path = entry.expect("its folder can be read").path();
        let module = path.strip_prefix(root).expect("it is below").with_extension("").to_string_lossy().into_owned();
        if path.is_dir() {
            modules(&path, root, found);
        } else if !module.ends_with("tests") {
            let text = fs::read_to_string(&path).expect("sources are text");
            found.push((module.trim_end_matches("/mod").to_owned(), text));
        }
    }
}

#[test]
fn app_imports_only_what_stands_below_it_and_nothing_below_imports_what_stands_above() {
    let (root, mut all) = (streammanager_tests::workspace().join("shared/src"), Vec::new());
    modules(&root, &root, &mut all);
    let below = all.iter().filter(|(module, _)| module == "app" || is_below_app(module));
    let above: Vec<String> = below
        .flat_map(|(module, text)| imports(text).map(move |import| (module, import)))
        .filter(|(_, import)| !is_below_app(import))
        .map(|(module, import)| format!("{module} imports {import}"))
        .collect();
    assert!(above.is_empty(), "{above:#?}");
    for room in BELOW_APP {
        assert!(all.iter().any(|(module, _)| module == room), "{room} is not there");
    }
}

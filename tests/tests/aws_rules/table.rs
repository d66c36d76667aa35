//! docs/aws-rules.md: who is right, from what was seen of services that are not ours.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use streammanager_tests::workspace;

use super::case::{Meta, Outcome, Unmet};

/// The services beside this emulator, as columns and as environment variables name their endpoints.
pub const SERVICES: [(&str, &str); 3] = [
    ("ministack", "STREAMMANAGER_TEST_AWS"),
    ("LocalStack", "STREAMMANAGER_TEST_LOCALSTACK"),
    ("ElasticMQ", "STREAMMANAGER_TEST_ELASTICMQ"),
];

/// By service and case.
pub type Seen = BTreeMap<String, BTreeMap<String, String>>;

const HEAD: &str = "# Documented rules of AWS, and who keeps them

Made by `UPDATE_SCHEMAS=1 tests/run -- --test aws_rules` from the cases of `tests/tests/aws_rules` and from
`tests/tests/aws_rules/seen.json`, which says what was seen of services that are not ours. A test run asks this emulator every
case, and the other services those of their subjects where they run.

✓ the rule is kept, ✗ it is not (what was seen stands below the table), · the service does not offer it, – not asked: of event
sources, schedules, topic rules and the HTTP API this suite asks this emulator alone, since a case plays the function itself.
The pages are AWS's; the sentences are ours.

## Where this emulator differs from AWS on purpose

- The HTTP API takes bodies of 256 KiB, which is the largest alert, and answers 413 beyond; AWS takes 10 MB.
- The control key stands for a request that IAM signed.
- A wait between the tries of an asynchronous invocation is a sixtieth as long; events grow older as on AWS.
- A schedule fires once at the start as well.
- A publisher on a full shard waits, where Kinesis would refuse it.
- A topic rule's statement that is not understood is refused at the start, by name, as are functions of AWS IoT's SQL that no
  template of ours needs.
- An alert over MQTT is examined before its PUBACK.
- A queue keeps what was accepted however long it takes, except for ticks, which have their retention.
";

pub fn words(outcome: &Outcome) -> String {
    match outcome {
        Ok(()) => "holds".to_owned(),
        Err(Unmet::NotOffered) => "not offered".to_owned(),
        Err(Unmet::Broken(why)) => format!("broken: {why}"),
    }
}

/// Whether both say the same of the rule; what was seen instead may be said otherwise.
pub fn agree(one: &str, other: &str) -> bool {
    one.split(':').next() == other.split(':').next()
}

pub fn seen_file() -> PathBuf {
    workspace().join("tests/tests/aws_rules/seen.json")
}

fn mark(seen: Option<&String>) -> &'static str {
    match seen.map(String::as_str) {
        Some("holds") => "✓",
        Some("not offered") => "·",
        Some(_) => "✗",
        None => "–",
    }
}

/// The page; this emulator keeps every rule of `ours`, which the tests assert, and has nothing that `others` are about.
pub fn page(ours: &[Meta], others: &[Meta], seen: &Seen) -> String {
    let metas: Vec<Meta> = ours.iter().chain(others).copied().collect();
    let is_ours = |meta: &Meta| ours.iter().any(|own| own.id == meta.id);
    let mut page = HEAD.to_owned();
    let mut subjects: Vec<&str> = Vec::new();
    for meta in &metas {
        if subjects.last() != Some(&meta.subject) {
            subjects.push(meta.subject);
        }
    }
    let of = |service: &str, meta: &Meta| seen.get(service).and_then(|of| of.get(meta.id));
    page.push_str("\n## Rules kept\n\n| subject | rules | this emulator |");
    SERVICES.iter().for_each(|(service, _)| _ = write!(page, " {service} |"));
    page.push_str("\n|---|---|---|---|---|---|\n");
    for subject in &subjects {
        let rules: Vec<&Meta> = metas.iter().filter(|meta| meta.subject == *subject).collect();
        let kept = if rules.iter().copied().all(is_ours) { rules.len().to_string() } else { "·".into() };
        let _ = write!(page, "| {subject} | {} | {kept} |", rules.len());
        for (service, _) in SERVICES {
            let asked: Vec<&String> = rules.iter().filter_map(|meta| of(service, meta)).collect();
            let held = asked.iter().filter(|words| **words == "holds").count();
            let _ = match asked.len() {
                0 => write!(page, " – |"),
                _ if asked.iter().all(|words| *words == "not offered") => write!(page, " · |"),
                asked => write!(page, " {held} of {asked} |"),
            };
        }
        page.push('\n');
    }
    for subject in subjects {
        let _ = write!(page, "\n## {subject}\n\n| case | rule | this emulator |");
        SERVICES.iter().for_each(|(service, _)| _ = write!(page, " {service} |"));
        page.push_str("\n|---|---|---|---|---|---|\n");
        let mut broken = Vec::new();
        for meta in metas.iter().filter(|meta| meta.subject == subject) {
            let own = if is_ours(meta) { "✓" } else { "·" };
            let _ = write!(page, "| `{}` | [{}]({}) | {own} |", meta.id, meta.rule, meta.page);
            for (service, _) in SERVICES {
                let seen = of(service, meta);
                let _ = write!(page, " {} |", mark(seen));
                if let Some(why) = seen.and_then(|seen| seen.strip_prefix("broken: ")) {
                    broken.push(format!("- {service}, `{}`: {why}\n", meta.id));
                }
            }
            page.push('\n');
        }
        if !broken.is_empty() {
            page.push('\n');
            page.extend(broken);
        }
    }
    page
}

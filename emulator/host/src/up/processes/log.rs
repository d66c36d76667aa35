//! What a function's process prints, among this process's own log lines: with the function's name, and at the level that the
//! line itself has. On AWS it goes to the function's log group.

use std::sync::Arc;

use serde_json::Value;

use crate::runtime::Output;

pub(super) fn forwarded(function: &str) -> Output {
    let function = function.to_owned();
    Output::Lines(Arc::new(move |line| match level(line) {
        Level::Error => tracing::error!(function, "{line}"),
        Level::Warn => tracing::warn!(function, "{line}"),
        Level::Info => tracing::info!(function, "{line}"),
        Level::Debug => tracing::debug!(function, "{line}"),
    }))
}

#[derive(Debug, PartialEq, Eq)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// What is no line of the log, such as a panic, is a warning.
fn level(line: &str) -> Level {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return Level::Warn };
    match line["level"].as_str() {
        Some("ERROR") => Level::Error,
        Some("INFO") => Level::Info,
        Some("DEBUG" | "TRACE") => Level::Debug,
        // Metrics in CloudWatch's embedded format, and figures that are logged alone.
        None if line["function"].is_string() => Level::Debug,
        _ => Level::Warn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o5_a_functions_line_keeps_its_level() {
        for (line, wanted) in [
            (r#"{"level":"ERROR","fields":{"message":"the function ends"}}"#, Level::Error),
            (r#"{"level":"WARN"}"#, Level::Warn),
            (r#"{"level":"INFO"}"#, Level::Info),
            (r#"{"_aws":{"CloudWatchMetrics":[]},"function":"redrive","stream_dlq_size":1.0}"#, Level::Debug),
            (r#"{"function":"deliver","stage":"sent","stream_stage_seconds":{"count":1}}"#, Level::Debug),
            ("thread 'main' panicked at functions/src/lambda.rs:1:1:", Level::Warn),
        ] {
            assert_eq!(level(line), wanted, "{line}");
        }
    }
}

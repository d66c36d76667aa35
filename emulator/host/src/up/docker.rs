//! `up --docker` [L4]: Kafka and LocalStack as `infra/compose.yaml` has them, started beside this host's system, which then uses
//! them as it uses any brokers and endpoint. They go on when it ends: what waits in them is there at the next start.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::options::{Destination, Options};
use crate::exit::Failure;

/// Where `infra/compose.yaml` has them on this host.
const BROKERS: &str = "127.0.0.1:29092";
const LOCALSTACK: &str = "http://127.0.0.1:14566";

/// `infra/compose.yaml` and what it mounts, by path beside it.
const FILES: [(&str, &str); 8] = [
    ("compose.yaml", include_str!("../../../../infra/compose.yaml")),
    ("compose/prometheus.yml", include_str!("../../../../infra/compose/prometheus.yml")),
    ("compose/alerts.yml", include_str!("../../../../infra/compose/alerts.yml")),
    (
        "compose/grafana/provisioning/datasources/prometheus.yml",
        include_str!("../../../../infra/compose/grafana/provisioning/datasources/prometheus.yml"),
    ),
    (
        "compose/grafana/provisioning/dashboards/files.yml",
        include_str!("../../../../infra/compose/grafana/provisioning/dashboards/files.yml"),
    ),
    (
        "compose/grafana/dashboards/sources.json",
        include_str!("../../../../infra/compose/grafana/dashboards/sources.json"),
    ),
    (
        "compose/grafana/dashboards/health.json",
        include_str!("../../../../infra/compose/grafana/dashboards/health.json"),
    ),
    (
        "compose/grafana/dashboards/connector.json",
        include_str!("../../../../infra/compose/grafana/dashboards/connector.json"),
    ),
];

/// Starts them if `options` says so, and gives the options with them in it. What Docker says of its progress goes to stderr.
///
/// # Errors
/// When Docker, its compose plugin or its engine is missing, or a container does not get ready; in Docker's words.
pub(super) async fn with_containers(options: Options) -> Result<Options, Failure> {
    if !options.docker {
        return Ok(options);
    }
    let file = written(&options.data).map_err(|e| Failure::new(format!("{}: {e}", options.data.display())))?;
    needs(&["compose", "version"], "Docker has no compose plugin, of version 2.20 or newer").await?;
    needs(&["info"], "Docker's engine cannot be used").await?;
    eprintln!("starting Kafka and LocalStack: docker compose -f {} up -d --wait", file.display());
    let started =
        docker().arg("compose").arg("-f").arg(&file).args(["up", "-d", "--wait"]).stderr(Stdio::piped()).spawn();
    let mut started = started.map_err(not_run)?;
    let said = match started.stderr.take() {
        Some(stderr) => passed_on(stderr).await,
        None => String::new(),
    };
    if !started.wait().await.map_err(not_run)?.success() {
        return Err(Failure::new(format!("docker compose did not get Kafka and LocalStack ready: {said}")));
    }
    eprintln!(
        "they go on when this ends; their end: docker compose -f {} down (LocalStack forgets what waits in it)",
        file.display()
    );
    Ok(Options { destination: Destination::Brokers(BROKERS.to_owned()), aws: LOCALSTACK.to_owned(), ..options })
}

/// The files of this program, where compose reads them.
fn written(data: &Path) -> io::Result<PathBuf> {
    let folder = data.join("docker");
    for (name, text) in FILES {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(folder.join("compose.yaml"))
}

fn docker() -> Command {
    let mut docker = Command::new("docker");
    docker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    docker
}

fn not_run(e: io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::NotFound => Failure::new(
            "--docker: there is no program docker; install Docker, or name brokers with --kafka and an endpoint with --aws",
        ),
        _ => Failure::new(format!("docker cannot be run: {e}")),
    }
}

async fn needs(arguments: &[&str], otherwise: &str) -> Result<(), Failure> {
    let output = docker().args(arguments).stderr(Stdio::piped()).output().await.map_err(not_run)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
    Err(Failure::new(format!("--docker: {otherwise}: {}", last.trim())))
}

/// Shows it, and gives its last line.
async fn passed_on(stderr: impl tokio::io::AsyncRead + Unpin) -> String {
    let (mut lines, mut last) = (BufReader::new(stderr).lines(), String::new());
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("  {line}");
        if !line.trim().is_empty() {
            last = line.trim().to_owned();
        }
    }
    last
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn l4_the_compose_file_has_what_up_uses_and_its_files_are_all_in_this_program() {
        let data = tempfile::tempdir().unwrap();
        let compose = std::fs::read_to_string(written(data.path()).unwrap()).unwrap();
        assert!(compose.contains(&format!("ports: [\"{BROKERS}:29092\"]")));
        assert!(compose.contains(&format!("ports: [\"{}:4566\"]", LOCALSTACK.trim_start_matches("http://"))));
        let infra = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra");
        let (mut folders, mut files) = (vec![infra.join("compose")], 1);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    folders.push(entry);
                    continue;
                }
                files += 1;
                let written = data.path().join("docker").join(entry.strip_prefix(&infra).unwrap());
                assert_eq!(std::fs::read(&written).unwrap(), std::fs::read(&entry).unwrap(), "{}", entry.display());
            }
        }
        assert_eq!(files, FILES.len());
    }

    /// Every text file below `folder`.
    fn read_all(folder: &Path, ends: &str, all: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                read_all(&entry, ends, all);
            } else if entry.to_string_lossy().ends_with(ends) {
                all.push_str(&std::fs::read_to_string(&entry).unwrap());
            }
        }
    }

    #[test]
    fn o3_dashboards_and_alerts_ask_for_metrics_that_are_told() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut sources = String::new();
        for folder in ["shared/src", "functions/src", "emulator/host/src", "emulator/mqtt/src"] {
            read_all(&workspace.join(folder), ".rs", &mut sources);
        }
        let asked = FILES.iter().filter(|(name, _)| name.ends_with(".json") || name.ends_with("alerts.yml"));
        let mut names = BTreeSet::new();
        for (_, text) in asked {
            let words = text.split(|char: char| !char.is_ascii_lowercase() && char != '_');
            let metrics = words.filter(|word| word.starts_with("stream_") && *word != "stream_id");
            names.extend(metrics.map(|name| name.trim_end_matches("_bucket").to_owned()));
        }
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            let ways = ["counter!", "gauge!", "histogram!", "Gauge::of", "Gauge::new"];
            assert!(ways.iter().any(|way| sources.contains(&format!("{way}(\"{name}\""))), "nothing tells {name}");
        }
    }
}

//! `up` as a process of its own, as the benchmarks measure it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use streammanager_host::exit::Failure;
use streammanager_host::host::http_client;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::bench::PREFIX;

/// Ends when it is dropped.
pub(crate) struct System {
    _process: Child,
    pub(crate) http: SocketAddr,
    pub(crate) mqtt: SocketAddr,
    data: PathBuf,
}

impl System {
    /// Without streams to poll, its data below `folder`; returns once it has started.
    ///
    /// # Errors
    /// When it ends before that.
    pub(crate) async fn start(brokers: &str, folder: &Path) -> Result<System, Failure> {
        let streams = folder.join("no-streams.yaml");
        std::fs::write(&streams, "version: 1\nstreams: []\n").map_err(Failure::new)?;
        let data = folder.join("data");
        let mut process = Command::new(std::env::current_exe().map_err(Failure::new)?)
            .args(["up", "--json", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--kafka", brokers])
            .args(["--topic-prefix", PREFIX])
            .arg("--streams")
            .arg(&streams)
            .arg("--data")
            .arg(&data)
            .env("XDG_STATE_HOME", folder)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Failure::new)?;
        let ended = || Failure::new("`up` ended before it had started");
        let output = process.stdout.take().ok_or_else(ended)?;
        let line = BufReader::new(output).lines().next_line().await.map_err(Failure::new)?.ok_or_else(ended)?;
        let started: Value = serde_json::from_str(&line).map_err(Failure::new)?;
        let address = |door: &str| {
            started["started"][door].as_str().unwrap_or_default().parse::<SocketAddr>().map_err(Failure::new)
        };
        Ok(System { http: address("http")?, mqtt: address("mqtt")?, _process: process, data })
    }

    /// The key of a new sender that holds a critical grant.
    pub(crate) async fn register_sender(&self) -> Result<String, Failure> {
        let control_key = std::fs::read_to_string(self.data.join("control.key")).map_err(Failure::new)?;
        let registration =
            json!({ "id": "bench", "tenant": "bench", "sources": ["evacuation_alert_bench"], "critical": true });
        let url = format!("http://{}/connectors", self.http);
        let request = http_client().post(url).bearer_auth(control_key.trim()).json(&registration);
        let answer: Value = request.send().await.map_err(Failure::new)?.json().await.map_err(Failure::new)?;
        match answer["key"].as_str() {
            Some(key) => Ok(key.to_owned()),
            None => Err(Failure::new(format!("the benchmark's sender was not registered: {answer}"))),
        }
    }

    /// The value of a metric without labels, or the sum over its labels; 0 when there is none yet.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64, Failure> {
        let answer = http_client().get(format!("http://{}/metrics", self.http)).send().await.map_err(Failure::new)?;
        let text = answer.text().await.map_err(Failure::new)?;
        let ours = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{')));
        Ok(ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

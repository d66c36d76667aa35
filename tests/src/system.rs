//! A running `streammanager up`, as outside clients see it: HTTP, MQTT and Kafka addresses of its own, and a kill switch.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{binary, free_port, published, workspace};

/// How one system is started.
#[derive(Clone)]
pub struct Start {
    pub data: PathBuf,
    pub template: PathBuf,
    pub streams: PathBuf,
    /// Brokers that run already, or the embedded endpoint on a port that stays the same over restarts.
    pub kafka: String,
    /// Instead of Kafka: the URL of a Kinesis endpoint.
    pub kinesis: Option<String>,
    /// `embedded`, or the URL of an AWS endpoint.
    pub aws: String,
    /// Instead of both: the containers of infra/compose.yaml.
    pub docker: bool,
    pub upstream: Option<String>,
    pub consumer_groups: Option<String>,
    pub demo: bool,
    /// Beside this process's own variables.
    pub variables: Vec<(String, String)>,
}

impl Start {
    /// The real template, no streams, the embedded endpoint.
    pub fn quiet(data: &Path) -> Start {
        let streams = data.join("no-streams.yaml");
        std::fs::create_dir_all(data).unwrap();
        std::fs::write(&streams, "version: 1\nstreams: []\n").unwrap();
        Start {
            data: data.join("data"),
            template: workspace().join("infra/template.yaml"),
            streams,
            kafka: format!("embedded:{}", free_port()),
            kinesis: None,
            aws: "embedded".into(),
            docker: false,
            upstream: None,
            consumer_groups: None,
            demo: false,
            variables: Vec::new(),
        }
    }

    pub fn command(&self, http: u16, mqtt: u16) -> Command {
        let mut command = Command::new(binary());
        command.arg("up").arg("--json").arg("--data").arg(&self.data);
        command.arg("--template").arg(&self.template).arg("--streams").arg(&self.streams);
        command.arg("--http").arg(format!("127.0.0.1:{http}")).arg("--mqtt").arg(format!("127.0.0.1:{mqtt}"));
        match &self.kinesis {
            _ if self.docker => command.arg("--docker"),
            Some(url) => command.arg("--aws").arg(&self.aws).arg("--kinesis").arg(url),
            None => command.arg("--aws").arg(&self.aws).arg("--kafka").arg(&self.kafka),
        };
        if let Some(url) = &self.upstream {
            command.arg("--upstream").arg(url).env("FIRMS_MAP_KEY", "test-key");
        }
        if let Some(groups) = &self.consumer_groups {
            command.arg("--consumer-groups").arg(groups);
        }
        if self.demo {
            command.arg("--demo");
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        // The user of these tests has other systems: they are not to be found by what is started here.
        command.env("XDG_STATE_HOME", self.data.parent().unwrap());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

pub struct System {
    child: Child,
    pub http: u16,
    pub mqtt: u16,
    pub kafka: String,
    pub started: Value,
    /// What it says, line by line; read as it comes, so that it never waits for a reader.
    output: Receiver<String>,
    control_key: PathBuf,
}

impl System {
    /// Waits until it says that it has started.
    pub fn up(start: &Start) -> System {
        System::up_on(start, free_port(), free_port())
    }

    /// The same on these ports, which a client can keep over restarts.
    pub fn up_on(start: &Start, http: u16, mqtt: u16) -> System {
        let mut child = start.command(http, mqtt).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (say, output) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        let first = output.recv().expect("`up` ended before it started");
        let started: Value = serde_json::from_str(&first).unwrap();
        let kafka = started["started"]["kafka"].as_str().unwrap_or_default().to_owned();
        let control_key = start.data.join("control.key");
        System { child, http, mqtt, kafka, started, output, control_key }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    pub fn control_key(&self) -> String {
        std::fs::read_to_string(&self.control_key).unwrap().trim().to_owned()
    }

    /// An operator's request.
    pub async fn control(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = client().request(method, self.url(path)).bearer_auth(self.control_key());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Registers a granted sender of evacuation alerts and gives its key.
    pub async fn sender(&self, id: &str) -> String {
        let registration = serde_json::json!({
            "id": id, "tenant": "test", "sources": [format!("evacuation_alert_{id}")], "critical": true,
        });
        let (status, answer) = self.control(reqwest::Method::POST, "/connectors", Some(registration)).await;
        assert_eq!(status, 201, "{answer}");
        answer["key"].as_str().unwrap().to_owned()
    }

    /// `POST /alerts`.
    pub async fn alert(&self, key: &str, body: impl Into<reqwest::Body>) -> reqwest::Result<(u16, Value)> {
        post_alert(&client(), &self.url("/alerts"), key, body).await
    }

    /// The messages of a topic as `topics tail --json` shows them, once at least `want` are there; each is as published.
    pub fn messages(&self, topic: &str, want: usize) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let have = self.count(topic);
            if have >= want || Instant::now() > deadline {
                assert!(have >= want, "{topic} holds {have} messages, {want} were expected");
                let messages = self.tail(topic, have);
                messages.iter().for_each(|message| published::assert_valid(topic, &message["value"]));
                return messages;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn count(&self, topic: &str) -> usize {
        let listed =
            Command::new(binary()).args(["topics", "list", "--json", "--kafka", &self.kafka]).output().unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["topic"] == topic).map(|line| line["messages"].as_u64().unwrap() as usize).sum()
    }

    fn tail(&self, topic: &str, max: usize) -> Vec<Value> {
        if max == 0 {
            return Vec::new();
        }
        let arguments =
            ["topics", "tail", topic, "--from-beginning", "--json", "--kafka", &self.kafka, "--max", &max.to_string()];
        let tailed = Command::new(binary()).args(arguments).output().unwrap();
        let text = String::from_utf8(tailed.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A page that is not JSON or needs no key, such as `/metrics`; the control key goes along.
    pub async fn page(&self, path: &str) -> reqwest::Result<String> {
        client().get(self.url(path)).bearer_auth(self.control_key()).send().await?.error_for_status()?.text().await
    }

    /// Sends the process a signal: `-STOP` and `-CONT` make it a backend that stands still for a while.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// SIGTERM; gives the exit code and the ledger.
    pub fn stop(self) -> (i32, Value) {
        let (code, mut said) = self.stop_saying();
        (code, said.pop().expect("no ledger was printed"))
    }

    /// SIGTERM; gives the exit code and all that was said since the start, the ledger last.
    pub fn stop_saying(mut self) -> (i32, Vec<Value>) {
        signal(&self.child, "-TERM");
        let said = self.output.iter().map(|line| serde_json::from_str(&line).unwrap()).collect();
        (self.child.wait().unwrap().code().unwrap_or(-1), said)
    }

    /// `GET /health/ready`: the status, and what it says of intake and delivery.
    pub async fn readiness(&self) -> (u16, Value) {
        let response = client().get(self.url("/health/ready")).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `POST /alerts` with a client of one's own.
pub async fn post_alert(
    client: &reqwest::Client,
    url: &str,
    key: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::Result<(u16, Value)> {
    let response = client.post(url).bearer_auth(key).body(body).send().await?;
    let status = response.status().as_u16();
    Ok((status, response.json().await?))
}

pub fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
}

pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

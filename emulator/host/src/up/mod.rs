//! `up`: reads the template that is deployed and runs what it says with the functions' own handlers [L1, L2, L3]. What the
//! template does not say does not run.

mod agencies;
mod asynchronous;
mod backends;
mod brokers;
mod changes;
mod connections;
mod demo;
mod docker;
mod failures;
mod floor;
mod functions;
mod gathering;
mod http;
mod invoke;
mod kinesis;
#[cfg(feature = "testing")]
pub mod laboratory;
mod ledger;
mod limits;
mod lookout;
mod options;
mod processes;
mod readers;
mod readiness;
mod reports;
mod routes;
mod rules;
mod schedules;
mod sources;
mod triggers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use serde_json::json;
use streammanager::app::{App, Seams};
use streammanager::embedded::FolderProvenance;
use streammanager::express::known::Recent;
use streammanager::record::hex;
use streammanager::schedule::file::StreamsFile;
use streammanager::schedule::seed::{self, Seeded};
use streammanager::settings::Settings;
use streammanager::sink::kafka::{ConsumerGroups, KafkaSettings, KafkaSink};
use streammanager::sink::{Sink, TopicState};
use streammanager::sources as source_table;
use streammanager::time::{Clock, Rng};
use streammanager::upstream::http::HttpUpstream;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exit::{Exit, Failure};
use crate::folder;
use crate::host;
use crate::running::{self, Running};
use crate::template::{self, Template};
use backends::Backends;
pub use backends::OnAws;
use brokers::{Brokers, Heard};
use floor::Floor;
use functions::Functions;
use http::{Api, Rooms};
use invoke::Invoke;
use kinesis::{KinesisStream, Stores};
use ledger::{Ledger, Queued};
use lookout::{Lookout, say};
pub use options::{Destination, Options, Runtime};
pub use processes::{Surroundings, described};
use readers::Readers;
use readiness::Readiness;
use reports::Reports;
use rules::Rules;
use streammanager_kafka_endpoint::Broker;
use streammanager_mqtt_endpoint::Endpoint;
use triggers::Triggers;

/// What is still queued when the system is told to stop may take this long; the rest waits durably for the next start.
const DRAIN: Duration = Duration::from_secs(10);
/// The tries of one send are over by then [R1]: what is in work is settled, and counted once.
const WORK_ENDS: Duration = Duration::from_secs(15);
/// The endpoints' connections are bounded below this.
const DESCRIPTORS: u64 = 65_536;

/// Runs the system until it is told to stop.
pub async fn run(args: Options) -> Result<Exit, Failure> {
    let json = args.json;
    demo::keep_apart(&args)?;
    let args = docker::with_containers(args).await?;
    processes::check(&args)?;
    // Clients' connections and the topics' files; as many as the system lets us have.
    let _ = rlimit::increase_nofile_limit(DESCRIPTORS);
    let system = System::start(&args).await?;
    // Before anybody hears that it is up: whoever then ends it at once is owed a ledger.
    let told = Told::listen()?;
    // Before the first screen, which waits for Kafka: commands find what is up already.
    let noted = running::note(system.running(&args.data)?);
    if let Err(problem) = &noted {
        tracing::warn!(%problem, "operator's commands must name this system: it could not be noted as running");
    }
    system.announce(args.demo, json).await;
    system.watch(json);
    let story = args.demo.then(|| demo::start(&system.demo_targets(), json));
    told.first(args.duration).await;
    if let Some(story) = story {
        story.stop().await;
    }
    system.stop(json).await
}

/// Everything that runs.
struct System {
    app: App,
    backends: Backends,
    queued_at_start: Queued,
    template: Template,
    functions: Functions,
    runtime: Runtime,
    readiness: Readiness,
    reports: Reports,
    http: SocketAddr,
    mqtt: SocketAddr,
    destination: Destination,
    /// Of Kafka, HOST:PORT with commas between.
    kafka: Option<String>,
    brokers: Brokers,
    /// The streams file, and what became of it.
    streams_file: Option<PathBuf>,
    streams: Seeded,
    /// Streams that cannot be polled for want of their service's key, by the setting that is missing.
    keyless: BTreeMap<&'static str, usize>,
    /// Takes in nothing new: HTTP, MQTT, schedules.
    intake: CancellationToken,
    /// Ends event sources and delivery.
    work: CancellationToken,
    /// Ends the Kafka endpoint.
    broker: CancellationToken,
    intake_tasks: TaskTracker,
    work_tasks: TaskTracker,
    broker_tasks: TaskTracker,
}

impl System {
    async fn start(args: &Options) -> Result<System, Failure> {
        let http = listen(&args.http, "--http HOST:PORT").await?;
        let mqtt = listen(&args.mqtt, "--mqtt HOST:PORT").await?;
        let (broker, broker_tasks) = (CancellationToken::new(), TaskTracker::new());
        let clock = Clock::system();
        // The parameters decide nothing that opening the folder needs: queues have the same names with any broker.
        let services: Vec<(String, String)> = match (&args.upstream, args.demo) {
            (Some(url), _) => {
                source_table::services().map(|service| (service.address_parameter.to_owned(), url.clone())).collect()
            }
            (None, true) => demo::serve_upstream(clock.clone()).await?,
            (None, false) => Vec::new(),
        };
        let mut parameters = args.parameters();
        parameters.extend(services);
        let mut template = match &args.template {
            Some(path) => template::load(path, &parameters),
            None => template::built_in(&parameters),
        }
        .map_err(Failure::new)?;
        let mut streams_file = read_streams(args.streams.as_deref())?;
        if args.demo {
            streams_file = demo::streams_of(streams_file)?;
        }
        let keys = service_keys(args.demo);
        // This host serves the schemas that its records name.
        let schemas_url = format!("{}/schemas/", args.public_url(http.local_addr().map_err(Failure::new)?));
        for function in &mut template.functions {
            function.environment.insert("SCHEMAS_URL".into(), schemas_url.clone());
            function.environment.extend(keys.iter().map(|(setting, key)| ((*setting).to_owned(), key.clone())));
        }
        let keyless = keyless(&streams_file, &keys);
        if matches!(args.runtime, Runtime::Process { .. }) {
            processes::strike_honoured(&mut template);
        }

        let rng = Rng::from_os().map_err(Failure::new)?;
        let backends = Backends::open(&args.aws, &args.data, &template, &clock, &rng).await?;
        if args.demo {
            folder::mark_demo(&args.data)?;
        }
        let prefix =
            template.functions.first().and_then(|f| f.environment.get("TOPIC_PREFIX").cloned()).unwrap_or_default();
        let groups = template.functions.iter().find_map(|f| f.environment.get("CONSUMER_GROUPS"));
        let groups = groups.map(String::as_str).unwrap_or_default();
        let kafka = start_kafka(&args.destination, &args.data, &broker, &broker_tasks).await?;
        let sink: Arc<dyn Sink> = match (&args.destination, &kafka) {
            (Destination::Embedded(_), Some(at)) => {
                kafka_sink(KafkaSettings::plaintext(at, &prefix).map_err(Failure::new)?, groups)?
            }
            (Destination::Brokers(at), _) => kafka_sink(host::kafka_settings(at, &prefix)?, groups)?,
            (Destination::Kinesis(url), _) => host::kinesis_sink(url, &prefix).await?,
            (Destination::Embedded(_), None) => return Err(Failure::new("the Kafka endpoint did not start")),
        };
        let brokers = Brokers::of(sink.clone());

        let recent = if backends.shared { Recent::default() } else { Recent::alone() };
        let world = App::new(
            Settings { sender_pace: args.sender_pace, ..Settings::local() },
            Seams {
                queue: backends.queue.clone(),
                store: backends.store.clone(),
                blobs: backends.blobs.clone(),
                sink,
                upstream: Arc::new(HttpUpstream::new()?),
            },
            clock,
            rng,
        );
        let provenance = Arc::new(FolderProvenance::open(&args.data)?);
        let world = App { recent: Arc::new(recent), provenance, ..world };
        let (intake, work) = (CancellationToken::new(), CancellationToken::new());
        let mut kinesis = BTreeMap::new();
        for stream in &template.streams {
            let folder = &backends.folder;
            let stores = Stores { store: Arc::new(folder.clone()), intake: Arc::new(folder.intake()) };
            kinesis.insert(
                stream.name.clone(),
                KinesisStream::open(&stream.name, stream.shards, stores, &world.clock).await?,
            );
        }
        let (notices, told) = mpsc::channel(rules::NOTICES);
        let readers = Readers { alerts_open_to_all: args.mqtt_open_alerts };
        let floor = Floor::of(&args.destination, &backends.folder);
        let rules =
            Arc::new(Rules::new(world.clone(), &template.rules, kinesis.clone(), readers, floor.clone(), notices)?);
        let endpoint = Endpoint::new(rules.clone());
        let processes = processes::start(args, &template, &backends, &endpoint, &world.rng, &work).await?;
        let functions = Functions::build(&template, &world, endpoint.clone(), floor, work.clone(), processes)?;
        let operator = template.functions.iter().find(|f| f.binary == "control").or(template.functions.first());
        let app = operator
            .and_then(|function| functions.app_of(&function.logical_id).cloned())
            .ok_or_else(|| Failure::new("the template has no function to run"))?;
        let queued_at_start = backends.queued(&app.settings).await?;
        let streams = seed::seed(&app, &streams_file).await?;

        let (intake_tasks, work_tasks) = (TaskTracker::new(), TaskTracker::new());
        // Before anything runs that counts.
        let metrics = PrometheusBuilder::new()
            .set_buckets(LATENCY_BUCKETS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Full("stream_stage_seconds".into()), STAGE_BUCKETS)
            })
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|e| Failure::new(format!("metrics: {e}")))?;
        let invoked: Arc<dyn Invoke> = Arc::new(functions.clone());
        let triggers = Triggers {
            functions: &invoked,
            app: &app,
            shared: backends.shared,
            kinesis: &kinesis,
            intake: &intake,
            work: &work,
        };
        work_tasks.spawn(brokers.clone().watch(work.clone()));
        let routes = triggers.start(&template, &intake_tasks, &work_tasks).await?;

        let streams_of_kinesis = kinesis.into_values().collect();
        let readiness = Readiness::new(
            app.clone(),
            backends.folder.clone(),
            brokers.clone(),
            args.destination.sink(),
            streams_of_kinesis,
        );
        let control_key = control_key(&args.data, &app.rng)?;
        let (http_at, mqtt_at) = (http.local_addr().map_err(Failure::new)?, mqtt.local_addr().map_err(Failure::new)?);
        let reports = functions.reports();
        let api = Api {
            routes,
            functions: invoked,
            metrics,
            readiness: readiness.clone(),
            data: args.data.clone(),
            folder: backends.folder.clone(),
            control_key,
            handlers: TaskTracker::new(),
            rooms: Rooms::default(),
            clock: app.clock.clone(),
            rng: app.rng.clone(),
        };
        let stop = intake.clone();
        intake_tasks.spawn(http::serve(api, http, stop));
        intake_tasks.spawn(rules::tell(told, endpoint.clone(), intake.clone()));
        intake_tasks.spawn(endpoint.clone().serve(mqtt, intake.clone()));
        intake_tasks.spawn(agencies::run(app.clone(), rules, endpoint, intake.clone()));
        Ok(System {
            app,
            backends,
            queued_at_start,
            template,
            functions,
            runtime: args.runtime.clone(),
            readiness,
            reports,
            http: http_at,
            mqtt: mqtt_at,
            destination: args.destination.clone(),
            kafka,
            brokers,
            streams_file: args.streams.clone(),
            streams,
            keyless,
            intake,
            work,
            broker,
            intake_tasks,
            work_tasks,
            broker_tasks,
        })
    }

    fn running(&self, data: &Path) -> Result<Running, Failure> {
        let data = data.canonicalize().map_err(|e| Failure::new(format!("{}: {e}", data.display())))?;
        Ok(Running {
            endpoint: format!("http://{}", self.http),
            data,
            kafka: self.kafka.clone(),
            mqtt: Some(self.mqtt.to_string()),
        })
    }

    fn demo_targets(&self) -> demo::Targets {
        demo::Targets { app: self.app.clone(), http: self.http, mqtt: self.mqtt }
    }

    /// Says what changes from now on.
    fn watch(&self, json: bool) {
        let (app, folder, readiness) = (self.app.clone(), self.backends.folder.clone(), self.readiness.clone());
        let (reports, sink) = (self.reports.clone(), self.destination.sink());
        self.work_tasks.spawn(Lookout { app, folder, readiness, reports, sink, json }.run(self.work.clone()));
    }

    /// The first screen: where everything is, and what of the template this host does not do.
    async fn announce(&self, demo: bool, as_json: bool) {
        let heard = self.brokers.first().await;
        let topics = if let Heard::Answers(topics) = &heard { &topics[..] } else { &[] };
        let streams = self.streams.registered();
        if as_json {
            let started = json!({
                "http": self.http.to_string(), "mqtt": self.mqtt.to_string(), "kafka": self.kafka,
                "kinesis": if let Destination::Kinesis(url) = &self.destination { Some(url) } else { None },
                "kafka_answers": matches!(heard, Heard::Answers(_)),
                "state": self.backends.place, "differs": self.backends.differs, "streams": streams,
                "runtime": match self.runtime { Runtime::InProcess => "in-process", Runtime::Process { .. } => "process" },
                "streams_differ": self.streams.difference(), "topics": topics, "queued_at_start": self.queued_at_start,
                "astray": self.backends.astray(&self.template),
                "not_honoured": self.template.unsupported.iter().map(ToString::to_string).collect::<Vec<_>>(),
            });
            return say(&json!({ "started": started }).to_string());
        }
        say(&format!("StreamManager is up: {} functions, {streams} streams", self.template.functions.len()));
        say(&format!("  HTTP   http://{}   POST /alerts, GET /status, /metrics, /health/ready", self.http));
        say(&format!("  MQTT   {}   sensors/{{kind}}/{{id}}/state, alerts/{{source_id}}", self.mqtt));
        let sink = match &self.destination {
            Destination::Kinesis(url) => format!("Kinesis {url}"),
            Destination::Embedded(_) | Destination::Brokers(_) => {
                format!("Kafka  {}", self.kafka.as_deref().unwrap_or_default())
            }
        };
        match &heard {
            Heard::Answers(topics) => say(&format!("  {sink}   {} topics", topics.len())),
            Heard::NothingYet | Heard::Away(_) => say(&format!(
                "  {sink}   does not answer: what comes is taken in and queued, and goes out when it does"
            )),
        }
        say(&format!("  State  {}", self.backends.place));
        if let Runtime::Process { functions } = &self.runtime {
            say(&format!("  Functions run as processes of {}, over the Lambda Runtime API", functions.display()));
        }
        for differs in &self.backends.differs {
            say(&format!("  {differs}: used as it is"));
        }
        for topic in topics {
            if let TopicState::Differs { partitions, expected } = topic.state {
                say(&format!(
                    "  topic {} has {partitions} partitions, expected {expected}: used as it is",
                    topic.topic
                ));
            }
        }
        self.streams.lines(self.streams_file.as_deref()).iter().for_each(|line| say(&format!("  {line}")));
        for (setting, streams) in &self.keyless {
            say(&format!("  {setting} is not set: {streams} streams cannot be polled"));
        }
        match self.queued_at_start {
            Queued::Records(0) => {}
            Queued::Records(n) => say(&format!("  {n} records of an earlier run wait in the queues and go on now")),
            queued => say(&format!("  {queued} of earlier runs wait in the queues and go on now")),
        }
        for (queue, messages) in self.backends.astray(&self.template) {
            say(&format!(
                "  {queue} holds {messages} messages and is no queue of this template: they wait until it has it, or `streammanager buffer replay` sends them"
            ));
        }
        if demo {
            // The story comes first; who runs it for real is told line by line.
            let unsupported = self.template.unsupported.len();
            say(&format!(
                "  {unsupported} properties of the template are not honoured here: `up` without --demo lists them"
            ));
        } else {
            for unsupported in &self.template.unsupported {
                say(&format!("  not honoured here: {unsupported}"));
            }
        }
        if self.kafka.is_some() {
            say("Watch: streammanager topics tail wildfire-nasa-firms --from-beginning");
        }
    }

    async fn stop(self, json: bool) -> Result<Exit, Failure> {
        self.intake.cancel();
        self.intake_tasks.close();
        // A client that keeps its connection open must not hold up the end.
        let _ = tokio::time::timeout(Duration::from_secs(3), self.intake_tasks.wait()).await;
        let drained = self.readiness.drained(DRAIN).await;
        self.work.cancel();
        self.work_tasks.close();
        let _ = tokio::time::timeout(WORK_ENDS, self.work_tasks.wait()).await;
        self.functions.end().await;
        // A try that the queue has overtaken may still change what is delivered and what is queued.
        let _ = tokio::time::timeout(WORK_ENDS, self.app.tries.ended()).await;
        let queued = self.backends.queued(&self.app.settings).await.unwrap_or_else(|problem| {
            tracing::error!(%problem, "the queues cannot be counted: what waits in them goes on at the next start");
            Queued::Unknown
        });
        let totals = self.app.tally.totals();
        self.broker.cancel();
        self.broker_tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.broker_tasks.wait()).await;
        let ledger = Ledger {
            queued_at_start: self.queued_at_start,
            queued,
            totals,
            counted: self.runtime == Runtime::InProcess,
            unread_readings: self.readiness.kinesis.iter().map(KinesisStream::unread).sum(),
            shared: self.backends.shared,
            unheard_alerts: self.readiness.unheard().await,
            given_up: self.readiness.kinesis.iter().map(KinesisStream::given_up).sum(),
            astray: self.backends.astray(&self.template).values().sum(),
            drained,
        };
        ledger.print(json);
        Ok(ledger.exit())
    }
}

/// Seconds; from an alert's fraction of a millisecond to LOW's minute.
const LATENCY_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Seconds; from a send's milliseconds to an archive's age.
const STAGE_BUCKETS: &[f64] = &[0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0];

/// `flag` names another address.
async fn listen(address: &str, flag: &str) -> Result<TcpListener, Failure> {
    let listening = TcpListener::bind(address).await;
    listening.map_err(|e| {
        Failure::new(format!(
            "cannot listen on {address}: {e}; is `up` running already? Else choose another with {flag}"
        ))
    })
}

/// The streams that a host without a streams file polls.
const BUILT_IN_STREAMS: &str = include_str!("../../../../infra/streams.yaml");

fn read_streams(path: Option<&Path>) -> Result<StreamsFile, Failure> {
    let Some(path) = path else {
        return StreamsFile::parse(BUILT_IN_STREAMS).map_err(|e| Failure::new(format!("the built-in streams: {e}")));
    };
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::new(format!("{}: {e}; name it with --streams", path.display())))?;
    StreamsFile::parse(&text).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// The services' keys by their settings, from this process's environment.
fn service_keys(demo: bool) -> BTreeMap<&'static str, String> {
    let settings = source_table::services().filter_map(|service| service.key_setting);
    let key = |setting| if demo { Some(demo::MAP_KEY.to_owned()) } else { std::env::var(setting).ok() };
    let keys = settings.filter_map(|setting| Some((setting, key(setting)?)));
    keys.filter(|(_, key)| !key.trim().is_empty()).collect()
}

/// How many streams want for which key.
fn keyless(file: &StreamsFile, keys: &BTreeMap<&'static str, String>) -> BTreeMap<&'static str, usize> {
    let mut keyless = BTreeMap::new();
    let wanted = file.streams.iter().filter_map(|spec| spec.polled.service().key_setting);
    for setting in wanted.filter(|setting| !keys.contains_key(setting)) {
        *keyless.entry(setting).or_default() += 1;
    }
    keyless
}

/// Gives the brokers' addresses.
async fn start_kafka(
    destination: &Destination,
    data: &Path,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<Option<String>, Failure> {
    let port = match destination {
        Destination::Embedded(port) => port,
        Destination::Brokers(brokers) => return Ok(Some(brokers.clone())),
        Destination::Kinesis(_) => return Ok(None),
    };
    let listener = listen(&format!("127.0.0.1:{port}"), "--kafka embedded:PORT").await?;
    let at = listener.local_addr().map_err(Failure::new)?;
    let broker = Broker::open(&data.join("kafka"), at).map_err(Failure::new)?;
    let stop = stop.clone();
    tasks.spawn(async move {
        if let Err(e) = broker.serve(listener, stop).await {
            tracing::error!(%e, "the Kafka endpoint ended");
        }
    });
    Ok(Some(at.to_string()))
}

fn kafka_sink(settings: KafkaSettings, groups: &str) -> Result<Arc<dyn Sink>, Failure> {
    let groups = ConsumerGroups::parse(groups).map_err(Failure::new)?;
    Ok(Arc::new(KafkaSink::connect(&KafkaSettings { groups, ..settings })?))
}

/// The operators' key of this data folder, made at the first start and readable by its owner only.
fn control_key(data: &Path, rng: &Rng) -> Result<String, Failure> {
    use std::io::Write;
    let path = data.join("control.key");
    let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
    match std::fs::read_to_string(&path) {
        Ok(key) if !key.trim().is_empty() => Ok(key.trim().to_owned()),
        Ok(_) => Err(Failure::new(format!("{}: is empty; delete it to have a new key made", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = hex(&rng.bytes::<32>());
            let mut file = folder::new_private(&path).map_err(failed)?;
            writeln!(file, "{key}").and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(key)
        }
        Err(e) => Err(failed(e)),
    }
}

/// What ends the system in order: Ctrl-C and SIGTERM, which end the process at once until this listens.
struct Told {
    interrupt: Signal,
    terminate: Signal,
}

impl Told {
    fn listen() -> Result<Told, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::new);
        Ok(Told { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Returns at the first of them, or when the time given is over.
    async fn first(mut self, duration: Option<Duration>) {
        let time = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = time => {}
        }
    }
}

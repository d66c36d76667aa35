//! The task that owns what is in flight: it puts what is ready for one broker into one request, and sends again what was not
//! answered. Everything slow is a task of its own that tells it how it ended.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::PAUSES;
use super::batch;
use super::cluster::{Cluster, Guide, Known};
use super::connection::Connection;
use super::partition::{Batch, Part, Partition, Then};

/// How often it is looked whether something is due, while anything waits.
const TICK: Duration = Duration::from_millis(10);
/// A broker that asks for more is asked again after this.
const THROTTLED_AT_MOST: Duration = Duration::from_secs(5);
/// What the broker itself may wait for its replicas.
const REPLICAS: Duration = Duration::from_secs(1);
/// Asked again after this, for new partitions.
const CLUSTER_LASTS: Duration = Duration::from_secs(300);
/// Batches in one request: 16 MiB before compression, far below what brokers take (100 MiB).
const REQUEST_BATCHES: usize = 64;

type Place = (Arc<str>, i32);

pub(super) enum Command {
    Send(Vec<(Arc<str>, i32, Part)>),
    /// Somebody waits for what is known of a topic, until then.
    Learn {
        topic: Arc<str>,
        until: Instant,
    },
}

/// What is known of the topics that were asked for.
#[derive(Default)]
pub(super) struct Knowledge {
    pub(super) topics: BTreeMap<Arc<str>, Known>,
    /// Why the cluster did not answer the last time.
    pub(super) problem: Option<String>,
}

/// The task's address.
#[derive(Clone)]
pub(super) struct Dispatcher {
    commands: mpsc::UnboundedSender<Command>,
    known: watch::Receiver<Knowledge>,
}

impl Dispatcher {
    /// It ends when all its addresses are gone.
    pub(super) fn start(guide: Arc<Guide>) -> Dispatcher {
        let (commands, told) = mpsc::unbounded_channel();
        let (tell, known) = watch::channel(Knowledge::default());
        let (ended, ends) = mpsc::unbounded_channel();
        let now = Instant::now();
        let work = Work {
            guide,
            known: tell,
            ended,
            cluster: Retried::new(now),
            leaders: BTreeMap::new(),
            wanted: BTreeMap::new(),
            producer: None,
            new_producer: Retried::new(now),
            partitions: BTreeMap::new(),
            brokers: BTreeMap::new(),
            requests: 0,
            problem: None,
        };
        tokio::spawn(work.run(told, ends));
        Dispatcher { commands, known }
    }

    pub(super) fn is_running(&self) -> bool {
        !self.commands.is_closed()
    }

    pub(super) fn known(&self) -> watch::Receiver<Knowledge> {
        self.known.clone()
    }

    /// When it has died, whoever waits for a report hears so.
    pub(super) fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// How a task of its own has ended.
enum Ended {
    Cluster(Result<Cluster, String>),
    NewProducer(Result<i64, String>),
    Opened { broker: i32, connection: Result<Connection, String> },
    Request { broker: i32, request: u64, places: Vec<Place>, answer: Result<ProduceResponse, String> },
}

/// Something that is tried until it succeeds: one try at a time, with pauses.
struct Retried {
    is_under_way: bool,
    due: Instant,
    pause: Duration,
    last_success: Option<Instant>,
}

impl Retried {
    fn new(now: Instant) -> Retried {
        Retried { is_under_way: false, due: now, pause: PAUSES.0, last_success: None }
    }

    fn begin(&mut self, now: Instant) -> bool {
        let begins = !self.is_under_way && self.due <= now;
        self.is_under_way |= begins;
        begins
    }

    fn end(&mut self, is_success: bool, now: Instant) {
        self.is_under_way = false;
        self.due = now + self.pause;
        if is_success {
            (self.pause, self.last_success) = (PAUSES.0, Some(now));
        } else {
            self.pause = PAUSES.1.min(self.pause * 2);
        }
    }
}

struct Broker {
    address: String,
    connection: Option<Arc<Connection>>,
    opening: Retried,
    /// It asked to be left alone until then.
    throttled: Instant,
}

struct Work {
    guide: Arc<Guide>,
    known: watch::Sender<Knowledge>,
    ended: mpsc::UnboundedSender<Ended>,
    cluster: Retried,
    leaders: BTreeMap<Place, i32>,
    /// Topics that are asked for, and until when somebody waits for them.
    wanted: BTreeMap<Arc<str>, Instant>,
    producer: Option<i64>,
    new_producer: Retried,
    partitions: BTreeMap<Place, Partition>,
    brokers: BTreeMap<i32, Broker>,
    requests: u64,
    /// The last thing that went wrong between us and the brokers.
    problem: Option<String>,
}

impl Work {
    async fn run(mut self, mut told: mpsc::UnboundedReceiver<Command>, mut ends: mpsc::UnboundedReceiver<Ended>) {
        loop {
            tokio::select! { biased;
                Some(ended) = ends.recv() => self.end(ended),
                command = told.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                () = sleep(TICK), if self.has_work() => {}
            }
            while let Ok(ended) = ends.try_recv() {
                self.end(ended);
            }
            while let Ok(command) = told.try_recv() {
                self.take(command);
            }
            self.step(Instant::now());
        }
    }

    fn has_work(&self) -> bool {
        self.partitions.values().any(|partition| !partition.is_idle()) || !self.wanted.is_empty()
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Send(parts) => {
                let now = Instant::now();
                for (topic, index, part) in parts {
                    self.partitions.entry((topic, index)).or_insert_with(|| Partition::new(now)).add(part);
                }
            }
            Command::Learn { topic, until } => {
                let waits = self.wanted.entry(topic).or_insert(until);
                *waits = until.max(*waits);
                self.ask_cluster();
            }
        }
    }

    fn ask_cluster(&mut self) {
        self.cluster.last_success = None;
    }

    fn step(&mut self, now: Instant) {
        for partition in self.partitions.values_mut() {
            partition.expire(now, self.problem.as_deref());
        }
        self.wanted.retain(|_, until| *until > now);
        if !self.has_work() {
            return;
        }
        let is_stale = self.cluster.last_success.is_none_or(|at| at + CLUSTER_LASTS <= now);
        if is_stale && self.cluster.begin(now) {
            let known = self.known.borrow().topics.keys().cloned().collect::<Vec<_>>();
            let mut topics: Vec<_> = known.into_iter().chain(self.wanted.keys().cloned()).collect();
            topics.sort_unstable();
            topics.dedup();
            let (guide, ended) = (self.guide.clone(), self.ended.clone());
            tokio::spawn(async move { ended.send(Ended::Cluster(guide.cluster(topics).await)) });
        }
        if self.producer.is_none() && self.new_producer.begin(now) {
            let (guide, ended) = (self.guide.clone(), self.ended.clone());
            tokio::spawn(async move { ended.send(Ended::NewProducer(guide.producer_id().await)) });
        }
        self.send(now);
    }

    /// What is ready, in one request a broker.
    fn send(&mut self, now: Instant) {
        let Some(producer) = self.producer else { return };
        let mut ready: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
        let mut is_leaderless = false;
        for (place, partition) in &self.partitions {
            if partition.is_ready(now) {
                match self.leaders.get(place) {
                    Some(leader) => ready.entry(*leader).or_default().push(place.clone()),
                    None => is_leaderless = true,
                }
            }
        }
        if is_leaderless {
            self.ask_cluster();
        }
        for (id, places) in ready {
            let Some(broker) = self.brokers.get_mut(&id).filter(|broker| broker.throttled <= now) else { continue };
            let Some(connection) = broker.connection.clone().filter(|connection| !connection.is_over()) else {
                if broker.opening.begin(now) {
                    let (guide, ended, address) = (self.guide.clone(), self.ended.clone(), broker.address.clone());
                    tokio::spawn(async move {
                        let connection = Connection::open(&address, &guide.handshake).await;
                        ended.send(Ended::Opened { broker: id, connection })
                    });
                }
                continue;
            };
            self.requests += 1;
            let request = self.requests;
            let mut batches = Vec::with_capacity(places.len());
            for place in places.into_iter().take(REQUEST_BATCHES) {
                if let Some(batch) = self.partitions.get_mut(&place).and_then(|part| part.take(request, producer)) {
                    batches.push((place, batch));
                }
            }
            let ended = self.ended.clone();
            tokio::spawn(async move {
                let places = batches.iter().map(|(place, _)| place.clone()).collect();
                let answer = match produce(batches) {
                    Ok(produce) => connection.ask_in_time(&produce).await,
                    Err(problem) => Err(format!("zstd: {problem}")),
                };
                ended.send(Ended::Request { broker: id, request, places, answer })
            });
        }
    }

    fn end(&mut self, ended: Ended) {
        let now = Instant::now();
        match ended {
            Ended::Cluster(cluster) => self.learned(cluster, now),
            Ended::NewProducer(producer) => {
                self.new_producer.end(producer.is_ok(), now);
                match producer {
                    Ok(id) => self.producer = Some(id),
                    Err(problem) => self.failed(problem),
                }
            }
            Ended::Opened { broker, connection } => {
                let opened = connection.map_err(|problem| self.failed(problem));
                if opened.is_err() {
                    self.ask_cluster();
                }
                // Not one that has moved to another address since.
                if let Some(broker) = self.brokers.get_mut(&broker).filter(|broker| broker.opening.is_under_way) {
                    broker.opening.end(opened.is_ok(), now);
                    broker.connection = opened.ok().map(Arc::new);
                }
            }
            Ended::Request { broker, request, places, answer } => self.answered(broker, request, places, answer, now),
        }
    }

    fn failed(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            tracing::info!(problem, "something stands between the bulk lane and Kafka");
        }
        self.problem = Some(problem);
    }

    fn learned(&mut self, cluster: Result<Cluster, String>, now: Instant) {
        self.cluster.end(cluster.is_ok(), now);
        let cluster = match cluster {
            Ok(cluster) => cluster,
            Err(problem) => {
                self.known.send_modify(|known| known.problem = Some(problem.clone()));
                return self.failed(problem);
            }
        };
        self.brokers.retain(|id, broker| cluster.brokers.get(id) == Some(&broker.address));
        for (id, address) in cluster.brokers {
            self.brokers.entry(id).or_insert_with(|| Broker {
                address,
                connection: None,
                opening: Retried::new(now),
                throttled: now,
            });
        }
        for ((topic, index), partition) in &mut self.partitions {
            match cluster.topics.get(topic) {
                Some(Known::Partitions(partitions)) => partition.is_there(index < partitions, now),
                Some(Known::Missing) => partition.is_there(false, now),
                Some(Known::Refused(_)) | None => {}
            }
        }
        if let Some(Known::Refused(problem)) = cluster.topics.values().find(|known| matches!(known, Known::Refused(_)))
        {
            self.failed(problem.clone());
        }
        self.leaders = cluster.leaders;
        self.wanted.retain(|topic, _| !matches!(cluster.topics.get(topic), Some(Known::Partitions(_))));
        if !self.wanted.is_empty() {
            self.ask_cluster();
        }
        self.known.send_modify(|known| {
            known.problem = None;
            known.topics.extend(cluster.topics);
        });
    }

    fn answered(
        &mut self,
        id: i32,
        request: u64,
        places: Vec<Place>,
        answer: Result<ProduceResponse, String>,
        now: Instant,
    ) {
        let mut answers: BTreeMap<(&str, i32), Result<i64, ResponseError>> = BTreeMap::new();
        let failure = match &answer {
            Ok(answer) => {
                for topic in &answer.responses {
                    for partition in &topic.partition_responses {
                        let written = match ResponseError::try_from_code(partition.error_code) {
                            None => Ok(partition.base_offset),
                            Some(error) => Err(error),
                        };
                        answers.insert((topic.name.as_str(), partition.index), written);
                    }
                }
                let throttled = Duration::from_millis(u64::try_from(answer.throttle_time_ms).unwrap_or(0));
                if let Some(broker) = self.brokers.get_mut(&id).filter(|_| throttled > Duration::ZERO) {
                    broker.throttled = now + throttled.min(THROTTLED_AT_MOST);
                    let problem = format!("{} asks to be left alone for {throttled:?}", broker.address);
                    self.failed(problem);
                }
                "the broker's answer leaves the partition out".to_owned()
            }
            Err(problem) => {
                let mut problem = problem.clone();
                if let Some(broker) = self.brokers.get_mut(&id) {
                    problem = format!("{}: {problem}", broker.address);
                    broker.connection = None;
                }
                self.failed(problem.clone());
                problem
            }
        };
        for place in &places {
            let answer = answers.remove(&(&*place.0, place.1)).ok_or_else(|| failure.clone());
            let Some(partition) = self.partitions.get_mut(place) else { continue };
            match partition.answered(request, place.1, answer, now) {
                Then::Nothing => {}
                Then::AskWhoLeads => self.ask_cluster(),
                Then::NewProducer => self.producer = None,
            }
        }
    }
}

fn produce(batches: Vec<(Place, Batch)>) -> io::Result<ProduceRequest> {
    let mut topics: BTreeMap<Arc<str>, Vec<PartitionProduceData>> = BTreeMap::new();
    for ((topic, index), batch) in batches {
        let records = batch::encode(batch.parts.iter().map(|part| &part.bodies), batch.sequence)?;
        let data = PartitionProduceData::default().with_index(index).with_records(Some(records));
        topics.entry(topic).or_default().push(data);
    }
    let data = topics.into_iter().map(|(topic, partitions)| {
        let name = TopicName(StrBytes::from_string(topic.to_string()));
        TopicProduceData::default().with_name(name).with_partition_data(partitions)
    });
    Ok(ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(REPLICAS.as_millis() as i32)
        .with_topic_data(data.collect()))
}

//! What the template says, as plain data: the whole of what `up` starts. Nothing here runs anything.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::iot_sql::{Select, Text};
use super::scope::LOCAL;

/// Everything that the template asks this host to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// What is called, and by what.
    pub functions: Vec<Function>,
    /// In the template's order, dead-letter queues too.
    pub queues: Vec<Queue>,
    /// What topic rules write to and functions read.
    pub streams: Vec<Stream>,
    /// Made at the endpoint of `--aws`; the data folder's own store needs none.
    pub tables: Vec<Table>,
    /// Made at the endpoint of `--aws`; the data folder keeps bytes as files.
    pub buckets: Vec<Bucket>,
    /// What happens to MQTT messages.
    pub rules: Vec<TopicRule>,
    /// What is said and not honoured here, to be shown at start [L2].
    pub unsupported: Vec<Unsupported>,
    /// What is paid for by the month.
    pub standing: Standing,
}

/// Resources that cost something whether they are used or not, beside brokers [F10].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Metrics of CloudWatch's alarms.
    pub alarmed_metrics: u32,
    /// CloudWatch's dashboards.
    pub dashboards: u32,
    /// Secrets.
    pub secrets: u32,
    /// Keys of KMS.
    pub keys: u32,
    /// Zones of names.
    pub hosted_zones: u32,
    /// Interface endpoints, each counted in each of its availability zones.
    pub endpoint_zones: u32,
    /// Days that log lines are kept, the longest of all groups.
    pub log_days: u32,
}

impl Template {
    /// The function with this logical id.
    pub fn function(&self, logical_id: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.logical_id == logical_id)
    }

    /// By name, as `Trigger`, `DeadLetter` and `Action` speak of it.
    pub fn queue(&self, name: &str) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.name == name)
    }
}

/// The queue that a local URL (`local:NAME`), as functions get it in their environment, means.
pub fn queue_name(url: &str) -> Option<&str> {
    url.strip_prefix(LOCAL).filter(|name| !name.is_empty())
}

/// One function: its code, its environment and what starts it.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name in the template.
    pub logical_id: String,
    /// By its own name.
    pub arn: String,
    /// Its own name at Lambda.
    pub name: String,
    /// The cargo binary, which names the handler.
    pub binary: String,
    /// Its variables, with references resolved.
    pub environment: BTreeMap<String, String>,
    /// A call that takes longer is ended.
    pub timeout: Duration,
    /// What it is built for.
    pub architecture: Architecture,
    /// MiB that a process of it may use.
    pub memory: u32,
    /// Calls at a time that it has for itself, and at most.
    pub reserved: Option<u32>,
    /// Processes that are ready before a call needs them.
    pub provisioned: u32,
    /// X-Ray takes a share of its calls.
    pub traced: bool,
    /// Lambda logs when a call begins and ends.
    pub calls_logged: bool,
    /// What calls it.
    pub triggers: Vec<Trigger>,
    /// Queue that gets an asynchronous invocation which failed for good.
    pub on_failure: Option<String>,
    /// Tries after the first of an asynchronous invocation.
    pub retries: u8,
    /// An asynchronous event older than this is not tried again.
    pub max_event_age: Duration,
}

/// The processors that run a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64`
    X86,
    /// `arm64`
    Arm,
}

/// What starts a function.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// At fixed times.
    Schedule {
        /// The event's id in the template; with the function's id it names the schedule.
        id: String,
        /// The time between two calls.
        every: Duration,
        /// A call comes up to this much later; zero: off.
        flexible: Duration,
        /// The event; none: AWS's own event of a schedule.
        input: Option<Value>,
        /// Whether it runs.
        enabled: bool,
    },
    /// For the messages of a queue.
    Queue {
        /// The queue's name.
        queue: String,
        /// At most this many messages a call.
        batch_size: u32,
        /// Up to this long to fill a batch.
        window: Duration,
        /// The reply lists what failed; else the call's failure is every message's.
        report_failures: bool,
        /// Calls at a time.
        max_concurrency: Option<u32>,
    },
    /// For the records of a stream.
    Stream {
        /// The stream's name.
        stream: String,
        /// At most this many records a call.
        batch_size: u32,
        /// Up to this long to fill a batch.
        window: Duration,
        /// Where reading begins without a checkpoint.
        start: StartAt,
        /// The reply names what failed; else the call's failure is the whole batch's.
        report_failures: bool,
        /// A failed batch is tried again in halves.
        bisect: bool,
        /// None: until the records expire.
        retries: Option<u32>,
        /// Older records are given up; none: they expire with the stream.
        max_record_age: Option<Duration>,
        /// Batches of one shard at a time, by partition key.
        parallel: u32,
        /// Queue that gets the positions of a batch which was given up.
        on_failure: Option<String>,
    },
    /// For a request to one route.
    Http {
        /// Upper case, or `ANY`.
        method: String,
        /// Such as `/streams/{id}/start`.
        path: String,
        /// Whom the route answers.
        auth: Auth,
        /// What a request waits for its function.
        timeout: Duration,
    },
}

/// Whom a route answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Everybody: what lies behind it looks at the caller itself.
    Open,
    /// Whoever signs the request (`AWS_IAM`).
    Signed,
}

/// Where a stream's reader begins when it has no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StartAt {
    /// With everything that the stream still has.
    Oldest,
    /// With what comes from now on.
    Latest,
    /// Seconds since 1970.
    Time(f64),
}

/// An SQS queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name in the template.
    pub logical_id: String,
    /// Its own name, which is the same at the endpoint of `--aws`.
    pub name: String,
    /// A received message is hidden for this long.
    pub visibility: Duration,
    /// Older messages are dropped.
    pub retention: Duration,
    /// A sent message is not received before this has passed.
    pub delay: Duration,
    /// How long a receive waits that does not say.
    pub receive_wait: Duration,
    /// Where messages go that were received too often, if anywhere.
    pub dead_letter: Option<DeadLetter>,
}

impl Queue {
    /// What `Ref` of the queue gives.
    pub fn url(&self) -> String {
        format!("{LOCAL}{}", self.name)
    }
}

/// Where a message goes that was received too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// That queue's name.
    pub queue: String,
    /// A message received more often than this moves there.
    pub max_receives: u32,
}

/// A Kinesis stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its name in the template.
    pub logical_id: String,
    /// Its own name, which is the same at the endpoint of `--aws`.
    pub name: String,
    /// None: on demand.
    pub shards: Option<u32>,
    /// By its own name.
    pub arn: String,
    /// Older records are dropped.
    pub retention: Duration,
}

/// A DynamoDB table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name in the template.
    pub logical_id: String,
    /// Its own name, which is the same at the endpoint of `--aws`.
    pub name: String,
    /// The attribute that groups items.
    pub partition_key: String,
    /// The attribute that orders a group's items, if there is one.
    pub sort_key: Option<String>,
    /// Attribute that holds an item's expiry.
    pub expires: Option<String>,
}

/// An S3 bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name in the template.
    pub logical_id: String,
    /// Its own name, which is the same at the endpoint of `--aws`.
    pub name: String,
}

/// An AWS IoT topic rule.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicRule {
    /// Its name in the template.
    pub logical_id: String,
    /// Its own name.
    pub name: String,
    /// What its actions get of a message, and which messages it takes.
    pub select: Select,
    /// MQTT topic filter.
    pub filter: String,
    /// What it does with a message, all of it.
    pub actions: Vec<Action>,
    /// Runs only when an action could not be started.
    pub error_action: Option<Action>,
    /// Whether it takes any message.
    pub enabled: bool,
}

/// What a topic rule does with a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Puts the message into a stream.
    Kinesis {
        /// The stream's name.
        stream: String,
        /// None: a random key.
        partition_key: Option<Text>,
    },
    /// Invoked asynchronously; the function's own retries and destination hold.
    Lambda {
        /// The function's logical id.
        function: String,
    },
    /// Sends the message to a queue.
    Queue {
        /// The queue's name.
        queue: String,
        /// The message body is the base64 of the event.
        base64: bool,
    },
}

/// Something that the template says and this host does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Logical ids, each once.
    pub resources: Vec<String>,
    /// Empty when the whole resource is meant.
    pub property: String,
    /// What happens instead, as a clause.
    pub instead: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resources.as_slice() {
            [one] => f.write_str(one)?,
            [first, .., last] if self.resources.len() <= 3 => {
                write!(f, "{first}")?;
                self.resources[1..self.resources.len() - 1].iter().try_for_each(|id| write!(f, ", {id}"))?;
                write!(f, " and {last}")?;
            }
            [first, ..] => write!(f, "{first} and {} more", self.resources.len() - 1)?,
            [] => f.write_str("template")?,
        }
        if !self.property.is_empty() {
            write!(f, ": {}", self.property)?;
        }
        write!(f, ": {}", self.instead)
    }
}

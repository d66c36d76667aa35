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
    pub functions: Vec<Function>,
    pub queues: Vec<Queue>,
    pub streams: Vec<Stream>,
    pub tables: Vec<Table>,
    pub buckets: Vec<Bucket>,
    pub rules: Vec<TopicRule>,
    /// What is said and not honoured here, to be shown at start [L2].
    pub unsupported: Vec<Unsupported>,
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

    /// Gives the queue that functions know by `variable` another name, wherever the template speaks of it.
    ///
    /// # Errors
    /// Another queue has the name.
    pub fn rename_queue(&mut self, variable: &str, name: &str) -> Result<(), String> {
        let known = self.functions.iter().find_map(|function| queue_name(function.environment.get(variable)?));
        let Some(old) = known.filter(|old| *old != name).map(str::to_owned) else { return Ok(()) };
        if let Some(other) = self.queue(name) {
            return Err(format!(
                "{}: a queue of this host is called {name}: give it another QueueName",
                other.logical_id
            ));
        }
        let rename = |queue: &mut String| {
            if *queue == old {
                *queue = name.to_owned();
            }
        };
        for function in &mut self.functions {
            let urls = function.environment.values_mut().filter(|value| queue_name(value) == Some(&old));
            urls.for_each(|url| *url = format!("{LOCAL}{name}"));
            function.on_failure.iter_mut().for_each(rename);
            for trigger in &mut function.triggers {
                match trigger {
                    Trigger::Queue { queue, .. } => rename(queue),
                    Trigger::Stream { on_failure, .. } => on_failure.iter_mut().for_each(rename),
                    Trigger::Schedule { .. } | Trigger::Http { .. } => {}
                }
            }
        }
        for queue in &mut self.queues {
            rename(&mut queue.name);
            queue.dead_letter.iter_mut().for_each(|dead| rename(&mut dead.queue));
        }
        for rule in &mut self.rules {
            for action in rule.actions.iter_mut().chain(&mut rule.error_action) {
                if let Action::Queue { queue, .. } = action {
                    rename(queue);
                }
            }
        }
        Ok(())
    }
}

/// The queue that a local URL (`local:NAME`), as functions get it in their environment, means.
pub fn queue_name(url: &str) -> Option<&str> {
    url.strip_prefix(LOCAL).filter(|name| !name.is_empty())
}

/// One function: its code, its environment and what starts it.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    pub logical_id: String,
    /// The cargo binary, which names the handler.
    pub binary: String,
    pub environment: BTreeMap<String, String>,
    pub timeout: Duration,
    pub triggers: Vec<Trigger>,
    /// Queue that gets an asynchronous invocation which failed for good.
    pub on_failure: Option<String>,
    /// Tries after the first of an asynchronous invocation.
    pub retries: u8,
    /// An asynchronous event older than this is not tried again.
    pub max_event_age: Duration,
}

/// What starts a function.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    Schedule {
        /// The event's id in the template; with the function's id it names the schedule.
        id: String,
        every: Duration,
        input: Option<Value>,
        enabled: bool,
    },
    Queue {
        queue: String,
        batch_size: u32,
        /// Up to this long to fill a batch.
        window: Duration,
        /// The reply lists what failed; else the call's failure is every message's.
        report_failures: bool,
        /// Calls at a time.
        max_concurrency: Option<u32>,
    },
    Stream {
        stream: String,
        batch_size: u32,
        window: Duration,
        start: StartAt,
        report_failures: bool,
        /// A failed batch is tried again in halves.
        bisect: bool,
        /// None: until the records expire.
        retries: Option<u32>,
        max_record_age: Option<Duration>,
        /// Batches of one shard at a time, by partition key.
        parallel: u32,
        /// Queue that gets the positions of a batch which was given up.
        on_failure: Option<String>,
    },
    Http {
        /// Upper case, or `ANY`.
        method: String,
        /// Such as `/streams/{id}/start`.
        path: String,
        auth: Auth,
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
    Oldest,
    Latest,
    /// Seconds since 1970.
    Time(f64),
}

/// An SQS queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub logical_id: String,
    pub name: String,
    pub visibility: Duration,
    pub retention: Duration,
    pub delay: Duration,
    /// How long a receive waits that does not say.
    pub receive_wait: Duration,
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
    pub queue: String,
    /// A message received more often than this moves there.
    pub max_receives: u32,
}

/// A Kinesis stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub logical_id: String,
    pub name: String,
    /// None: on demand.
    pub shards: Option<u32>,
    pub retention: Duration,
}

/// A DynamoDB table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub logical_id: String,
    pub name: String,
    pub partition_key: String,
    pub sort_key: Option<String>,
    /// Attribute that holds an item's expiry.
    pub expires: Option<String>,
}

/// An S3 bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    pub logical_id: String,
    pub name: String,
}

/// An AWS IoT topic rule.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicRule {
    pub logical_id: String,
    pub name: String,
    pub select: Select,
    /// MQTT topic filter.
    pub filter: String,
    pub actions: Vec<Action>,
    /// Runs only when an action could not be started.
    pub error_action: Option<Action>,
    pub enabled: bool,
}

/// What a topic rule does with a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Kinesis {
        stream: String,
        /// None: a random key.
        partition_key: Option<Text>,
    },
    /// Invoked asynchronously; the function's own retries and destination hold.
    Lambda { function: String },
    Queue {
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

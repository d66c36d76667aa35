//! AWS IoT on this host: every publish is matched against the template's topic rules, and acknowledged once the actions of
//! all matching rules are durably stored. A rule's error action runs when its action could not be started.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::error::BackendError;
use streammanager::express::admit;
use streammanager::queue::{Body, Message, QueueRef, SendError};

use super::kinesis::{KinesisStream, NotPut};
use super::readers::Readers;
use super::sources::AsyncInvocations;
use crate::exit::Failure;
use crate::template::iot_sql;
use crate::template::{Action, TopicRule};
use streammanager_mqtt_endpoint::{Filter, Gate, Identity, Publish, Refused, Taken};

/// AWS IoT lets nobody in without a certificate. Here sensors may come without a name, but whoever rings a siren says who
/// it is: else the PUBACK would promise what express then refuses [A2].
const NAMED_ONLY: &str = "alerts/";
/// Nobody else confirms an alert [E5], and nothing here listens to AWS's own topics.
const OURS: [&str; 2] = ["alerts/ack/", "$"];

pub(crate) struct Rules {
    app: App,
    rules: Vec<(Filter, TopicRule)>,
    streams: BTreeMap<String, KinesisStream>,
    readers: Readers,
}

/// Why an action could not be started.
enum NotStarted {
    /// At capacity, or away for now: the publisher keeps its message and sends it again.
    Busy,
    Failed(String),
}

impl From<NotPut> for NotStarted {
    fn from(e: NotPut) -> NotStarted {
        match e {
            NotPut::Full => NotStarted::Busy,
            // The error action's queue would take an acknowledged reading out of the stream, and no function reads it.
            NotPut::Away(BackendError::Retry(problem)) => {
                tracing::warn!(problem, "a stream is away");
                NotStarted::Busy
            }
            NotPut::Away(e @ BackendError::Fatal(_)) => NotStarted::Failed(e.to_string()),
        }
    }
}

impl Rules {
    pub(crate) fn new(
        app: App,
        rules: &[TopicRule],
        streams: BTreeMap<String, KinesisStream>,
        readers: Readers,
    ) -> Result<Rules, Failure> {
        let rules = rules.iter().filter(|rule| rule.enabled);
        let parsed = rules.map(|rule| match Filter::parse(&rule.filter) {
            Ok(filter) => Ok((filter, rule.clone())),
            Err(e) => {
                Err(Failure::new(format!("template: rule {}: topic filter {:?}: {e}", rule.logical_id, rule.filter)))
            }
        });
        Ok(Rules { app, rules: parsed.collect::<Result<_, _>>()?, streams, readers })
    }

    async fn start(&self, action: &Action, output: &Value, message: &iot_sql::Message<'_>) -> Result<(), NotStarted> {
        match action {
            Action::Kinesis { stream, partition_key } => {
                let Some(stream) = self.streams.get(stream) else {
                    return Err(NotStarted::Failed(format!("there is no stream {stream}")));
                };
                let key = match partition_key {
                    Some(text) => text.evaluate(message),
                    None => self.app.rng.ulid(self.app.clock.now()).to_string(),
                };
                Ok(stream.put(&key, output.to_string().as_bytes()).await?)
            }
            Action::Lambda { function } => self.send(&AsyncInvocations::queue(function), output.to_string()).await,
            Action::Queue { queue, base64 } => {
                let body = output.to_string();
                let body = if *base64 { BASE64.encode(body) } else { body };
                self.send(&QueueRef::new(&format!("local:{queue}")), body).await
            }
        }
    }

    async fn send(&self, queue: &QueueRef, body: String) -> Result<(), NotStarted> {
        let sent = self.app.queue.send(queue, &[Message::now(Body::Text(body))]).await;
        match sent.map(|mut outcomes| outcomes.pop()) {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(SendError::Full))) => Err(NotStarted::Busy),
            Ok(Some(Err(e))) => Err(NotStarted::Failed(e.to_string())),
            Ok(None) => Err(NotStarted::Failed("no outcome".into())),
            Err(e) => Err(NotStarted::Failed(e.to_string())),
        }
    }

    async fn one(&self, rule: &TopicRule, message: &iot_sql::Message<'_>) -> Result<(), NotStarted> {
        let output = match rule.select.evaluate(message) {
            Ok(Some(output)) => output,
            Ok(None) => return Ok(()),
            Err(e) => return Err(NotStarted::Failed(e.to_string())),
        };
        for action in &rule.actions {
            match self.start(action, &output, message).await {
                Ok(()) => {}
                Err(NotStarted::Busy) => return Err(NotStarted::Busy),
                Err(NotStarted::Failed(problem)) => {
                    tracing::warn!(rule = rule.logical_id, problem, "a rule's action could not be started");
                    match &rule.error_action {
                        Some(fallback) => {
                            self.start(fallback, &error_event(&rule.name, action, message, &problem), message).await?
                        }
                        None => return Err(NotStarted::Failed(problem)),
                    }
                }
            }
        }
        Ok(())
    }
}

/// What AWS IoT gives an error action: the message as it came, without the principal that published it.
fn error_event(rule: &str, failed: &Action, message: &iot_sql::Message<'_>, problem: &str) -> Value {
    let (action, resource) = match failed {
        Action::Kinesis { stream, .. } => ("KinesisAction", stream),
        Action::Lambda { function } => ("LambdaAction", function),
        Action::Queue { queue, .. } => ("SqsAction", queue),
    };
    json!({
        "ruleName": rule,
        "topic": message.topic,
        "clientId": message.client,
        "base64OriginalPayload": BASE64.encode(message.payload),
        "failures": [{ "failedAction": action, "failedResource": resource, "errorMessage": problem }],
    })
}

#[async_trait]
impl Gate for Rules {
    /// A user name is a connector's id and its password that connector's key; sensors may come without either.
    async fn connect(&self, _: &str, user: Option<&str>, password: Option<&[u8]>) -> Result<Option<Identity>, Refused> {
        let Some(user) = user else { return Ok(None) };
        let key = String::from_utf8_lossy(password.unwrap_or_default());
        match admit::principal(&self.app, user, &key).await {
            Ok(Some(principal)) => Ok(Some(Identity { user: user.into(), principal: principal.into() })),
            Ok(None) => Err(Refused::NotAuthorized),
            Err(_) => Err(Refused::Busy),
        }
    }

    async fn publish(&self, publish: Publish) -> Result<Taken, Refused> {
        let topic = publish.topic.as_str();
        let named = publish.identity.is_some();
        if OURS.iter().any(|ours| topic.starts_with(ours)) || (!named && topic.starts_with(NAMED_ONLY)) {
            let actor = format!("MQTT client {:.100}", publish.client_id);
            let detail = "a publish without a name, or on a topic that is not a client's";
            return match admit::refuse_stranger(&self.app, &actor, &format!("{topic:.100}"), detail).await {
                Ok(()) => Err(Refused::NotAuthorized),
                Err(_) => Err(Refused::Busy),
            };
        }
        let now_ms = self.app.clock.now().as_millisecond().unsigned_abs();
        let payload: &Bytes = &publish.payload;
        let message = iot_sql::Message {
            topic: &publish.topic,
            payload,
            principal: publish.identity.as_ref().map_or("", |identity| &identity.principal),
            client: &publish.client_id,
            now_ms,
        };
        let mut taken = Taken::NoRule;
        for (filter, rule) in &self.rules {
            if filter.matches(&publish.topic) {
                taken = Taken::Stored;
                match self.one(rule, &message).await {
                    Ok(()) => {}
                    Err(NotStarted::Busy) => return Err(Refused::Busy),
                    Err(NotStarted::Failed(problem)) => {
                        tracing::error!(topic = publish.topic, problem, "a publish was not taken");
                        return Err(Refused::Busy);
                    }
                }
            }
        }
        Ok(taken)
    }

    fn may_subscribe(&self, identity: Option<&Identity>, filter: &Filter) -> bool {
        self.readers.may_subscribe(identity, filter)
    }

    fn may_receive(&self, identity: Option<&Identity>, topic: &str) -> bool {
        self.readers.may_receive(identity, topic)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn l5_the_error_action_gets_what_aws_iot_sends_and_express_reads_it() {
        let action = Action::Lambda { function: "ExpressFunction".into() };
        let payload = Bytes::from_static(b"{\"id\": 1}\xff");
        let message =
            iot_sql::Message { topic: "alerts/a", payload: &payload, principal: "cert", client: "c", now_ms: 0 };
        let event = error_event("alerts", &action, &message, "the queue is away");
        assert!(!event.to_string().contains("cert"), "AWS names no principal: {event}");
        assert_eq!(event["failures"][0]["errorMessage"], "the queue is away");
        let read: streammanager_functions::events::RuleError = serde_json::from_value(event).unwrap();
        assert_eq!((read.topic.as_str(), read.client_id.as_deref()), ("alerts/a", Some("c")));
        assert_eq!(read.payload().unwrap(), payload);
    }

    #[test]
    fn a_stream_that_is_away_makes_the_publisher_wait_and_a_broken_one_runs_the_error_action() {
        let away = NotPut::Away(BackendError::Retry("away".into()));
        assert!(matches!(NotStarted::from(away), NotStarted::Busy));
        assert!(matches!(NotStarted::from(NotPut::Full), NotStarted::Busy));
        let broken = NotPut::Away(BackendError::Fatal("broken".into()));
        assert!(matches!(NotStarted::from(broken), NotStarted::Failed(_)));
    }
}

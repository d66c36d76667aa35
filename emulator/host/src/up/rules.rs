//! AWS IoT on this host: every publish is matched against the template's topic rules, and acknowledged once the actions of
//! all matching rules are durably stored. A rule's error action runs when its action could not be started.
//!
//! Unlike AWS IoT this gate examines an alert before it acknowledges it [E5]: what express would refuse is refused here, its
//! bytes are kept, and its sender is told on `alerts/refused/{connector}`. One client's alerts pass in their order [E4].

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::control::caller;
use streammanager::error::{BackendError, Sender};
use streammanager::express::admit;
use streammanager::express::turns::Turns;
use streammanager::express::{Incoming, Refusal, Unexamined, Verdict, Why, examine, express};
use streammanager::queue::{Body, Message, QueueRef, SendError};
use streammanager::record::SourceId;
use streammanager_functions::confirm::Confirmation;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::agencies::lane_of;
use super::asynchronous::AsyncInvocations;
use super::floor::Floor;
use super::kinesis::KinesisStream;
use super::readers::Readers;
use crate::exit::Failure;
use crate::template::iot_sql;
use crate::template::{Action, TopicRule};
use streammanager_mqtt_endpoint::{Endpoint, Filter, Gate, Identity, Publish, Refused, Taken};

/// AWS IoT lets nobody in without a certificate. Here sensors may come without a name, but whoever rings a siren says who
/// it is: else the PUBACK would promise what express then refuses [A2].
const NAMED_ONLY: &str = "alerts/";
/// Nobody else confirms or refuses an alert [E5], and nothing here listens to AWS's own topics.
const OURS: [&str; 3] = ["alerts/ack/", "alerts/refused/", "$"];
/// Begins a publish straight to the rule that is named next, past the broker (AWS IoT's Basic Ingest): nobody else gets it. The
/// template's policies allow it to sensors, for the rule that takes their topics.
const STRAIGHT: &str = "$aws/rules/";
/// Refusals that wait to be published. Beyond them a sender has the PUBACK's reason alone.
pub(crate) const NOTICES: usize = 256;

pub(crate) struct Rules {
    app: App,
    rules: Vec<(Filter, TopicRule)>,
    streams: BTreeMap<String, KinesisStream>,
    readers: Readers,
    floor: Floor,
    /// One lane for each client that publishes alerts, by principal and client id.
    alerts: Mutex<Turns<(String, String)>>,
    notices: mpsc::Sender<Confirmation>,
}

/// Publishes what senders of refused alerts are told, until `stop`.
pub(crate) async fn tell(mut notices: mpsc::Receiver<Confirmation>, endpoint: Endpoint, stop: CancellationToken) {
    loop {
        let notice = tokio::select! { biased;
            notice = notices.recv() => notice,
            () = stop.cancelled() => return,
        };
        let Some(Confirmation { topic, payload }) = notice else { return };
        endpoint.publish(&topic, payload).await;
    }
}

/// Why an action could not be started.
enum NotStarted {
    /// At capacity, or away for now: the publisher keeps its message and sends it again.
    Busy,
    Failed(String),
}

impl From<BackendError> for NotStarted {
    fn from(e: BackendError) -> NotStarted {
        match e {
            // The error action's queue would take an acknowledged reading out of the stream, and no function reads it.
            BackendError::Retry(problem) => {
                tracing::warn!(problem, "a stream is away");
                NotStarted::Busy
            }
            e @ BackendError::Fatal(_) => NotStarted::Failed(e.to_string()),
        }
    }
}

impl Rules {
    pub(crate) fn new(
        app: App,
        rules: &[TopicRule],
        streams: BTreeMap<String, KinesisStream>,
        readers: Readers,
        floor: Floor,
        notices: mpsc::Sender<Confirmation>,
    ) -> Result<Rules, Failure> {
        let rules = rules.iter().filter(|rule| rule.enabled);
        let parsed = rules.map(|rule| match Filter::parse(&rule.filter) {
            Ok(filter) => Ok((filter, rule.clone())),
            Err(e) => {
                Err(Failure::new(format!("template: rule {}: topic filter {:?}: {e}", rule.logical_id, rule.filter)))
            }
        });
        let (rules, alerts) = (parsed.collect::<Result<_, _>>()?, Mutex::default());
        Ok(Rules { app, rules, streams, readers, floor, alerts, notices })
    }

    /// Lets an alert pass that express will take, as far as that is known before it is durable. What is refused here is
    /// audited or kept already. `false`: of several alerts in it some will be refused, so that subscribers may not see it.
    async fn examine(&self, publish: &Publish, principal: &str) -> Result<bool, Refused> {
        let caller = caller::by_principal(&self.app, principal).await.map_err(busy)?;
        match (publish.again, publish.qos) {
            // It was paced when it came.
            (true, _) => {}
            // Without an acknowledgement to hold back its client may be gone meanwhile, and it with it: told and taken.
            (false, 0) => _ = admit::keeps_pace(&self.app, &caller).await,
            // It keeps its place in its lane meanwhile, and its client no PUBACK: nothing is lost by a flood, and nobody else waits.
            (false, _) => admit::at_pace(&self.app, &caller).await,
        }
        self.floor.check().map_err(busy)?;
        let sender = Sender {
            topic: publish.topic.to_string(),
            client: Some(publish.client_id.to_string()),
            principal: Some(principal.to_owned()),
            ..Sender::default()
        };
        let Some(source) = publish.topic.strip_prefix(NAMED_ONLY).and_then(|id| SourceId::new(id).ok()) else {
            let refusal = admit::refuse_topic(&self.app, &caller, &sender, publish.payload.clone()).await;
            return Err(self.refused(refusal.map_err(busy)?, None));
        };
        let incoming = || Incoming {
            caller: &caller,
            source: Some(&source),
            body: publish.payload.clone(),
            received_at: self.app.clock.now(),
            sender: Some(&sender),
            lineage: None,
        };
        match examine(&self.app, &incoming()).await {
            Ok(examined) if examined.has_sound() => Ok(examined.is_sound()),
            // Nothing of it can be taken: express keeps the bytes and says why.
            Ok(_) => match express(&self.app, incoming()).await {
                // It has become valid in between, such as one that was sent a little too far in the future.
                Verdict::Taken { accepted, .. } if !accepted.is_empty() => Ok(true),
                Verdict::Taken { connector, rejected, .. } => {
                    let mut why = "it holds no alert".to_owned();
                    for reject in &rejected {
                        why = reject.to_string();
                        self.notify(Confirmation::refused(&connector, Some(&source), reject));
                    }
                    Err(Refused::Invalid(why))
                }
                Verdict::Refused(refusal) => Err(self.refused(refusal, Some(&source))),
                Verdict::Full { .. } | Verdict::Unavailable { .. } => Err(Refused::Busy),
            },
            Err(Unexamined::Refused(refusal)) => Err(self.refused(refusal, Some(&source))),
            Err(Unexamined::Backend(problem)) => Err(busy(problem)),
        }
    }

    fn refused(&self, refusal: Refusal, source: Option<&SourceId>) -> Refused {
        let Refusal { why, connector, reject } = refusal;
        tracing::warn!(%reject, "an alert over MQTT was refused");
        if let Some(connector) = connector {
            self.notify(Confirmation::refused(&connector, source, &reject));
        }
        match why {
            Why::Unknown | Why::NotGranted => Refused::NotAuthorized,
            Why::NotData => Refused::Invalid(reject.to_string()),
        }
    }

    fn notify(&self, notice: Confirmation) {
        if let Err(problem) = self.notices.try_send(notice) {
            tracing::warn!(%problem, "the refusal of an alert was not published");
        }
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
                Ok(stream.put(key, output.to_string().into_bytes()).await?)
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

    /// The rule that a publish goes straight to, and the topic that the rule is to know it by.
    fn straight<'a>(&self, topic: &'a str) -> Option<(&TopicRule, &'a str)> {
        let (name, topic) = topic.strip_prefix(STRAIGHT)?.split_once('/')?;
        let takes = |(filter, rule): &&(Filter, TopicRule)| rule.name == name && filter.matches(topic);
        let (_, rule) = self.rules.iter().find(takes).filter(|_| !topic.starts_with(NAMED_ONLY))?;
        Some((rule, topic))
    }

    /// # Errors
    /// Whatever keeps the publish from being durable: its sender keeps it, and sends it again.
    async fn applied(&self, rule: &TopicRule, message: &iot_sql::Message<'_>) -> Result<(), Refused> {
        match self.start_actions(rule, message).await {
            Ok(()) => Ok(()),
            Err(NotStarted::Busy) => Err(Refused::Busy),
            Err(NotStarted::Failed(problem)) => {
                tracing::error!(topic = message.topic, problem, "a publish was not taken");
                Err(Refused::Busy)
            }
        }
    }

    async fn start_actions(&self, rule: &TopicRule, message: &iot_sql::Message<'_>) -> Result<(), NotStarted> {
        let output = match rule.select.evaluate(message) {
            Ok(Some(output)) => output,
            Ok(None) => return Ok(()),
            Err(e) => return Err(NotStarted::Failed(e.to_string())),
        };
        let mut failures = Vec::new();
        for action in &rule.actions {
            match self.start(action, &output, message).await {
                Ok(()) => {}
                Err(NotStarted::Busy) => return Err(NotStarted::Busy),
                Err(NotStarted::Failed(problem)) => {
                    tracing::warn!(rule = rule.logical_id, problem, "a rule's action could not be started");
                    failures.push((action, problem));
                }
            }
        }
        // One message for all of them.
        match (&failures[..], &rule.error_action) {
            ([], _) => Ok(()),
            (failures, Some(fallback)) => {
                self.start(fallback, &error_event(&rule.name, failures, message), message).await
            }
            ([(_, problem), ..], None) => Err(NotStarted::Failed(problem.clone())),
        }
    }
}

/// The publisher keeps its message and sends it again.
fn busy(problem: BackendError) -> Refused {
    tracing::error!(%problem, "an alert over MQTT cannot be examined");
    Refused::Busy
}

/// What AWS IoT gives an error action: the message as it came, without the principal that published it.
fn error_event(rule: &str, failures: &[(&Action, String)], message: &iot_sql::Message<'_>) -> Value {
    let failures = failures.iter().map(|(failed, problem)| {
        let (action, resource) = match failed {
            Action::Kinesis { stream, .. } => ("KinesisAction", stream),
            Action::Lambda { function } => ("LambdaAction", function),
            Action::Queue { queue, .. } => ("SqsAction", queue),
        };
        json!({ "failedAction": action, "failedResource": resource, "errorMessage": problem })
    });
    json!({
        "ruleName": rule,
        "topic": message.topic,
        "clientId": message.client,
        "base64OriginalPayload": BASE64.encode(message.payload),
        "failures": failures.collect::<Vec<_>>(),
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
        // The place in the lane is taken before anything is awaited: that is the order in which the publishes came.
        let mut turn =
            publish.identity.as_ref().filter(|_| topic.starts_with(NAMED_ONLY)).map(|name| {
                self.alerts.lock().take((name.principal.to_string(), lane_of(&publish.client_id).to_owned()))
            });
        let straight = self.straight(topic);
        let is_ours = straight.is_none() && OURS.iter().any(|ours| topic.starts_with(ours));
        if is_ours || (!named && topic.starts_with(NAMED_ONLY)) {
            let actor = format!("MQTT client {:.100}", publish.client_id);
            let detail = "a publish without a name, or on a topic that is not a client's";
            return match admit::refuse_stranger(&self.app, &actor, &format!("{topic:.100}"), detail).await {
                Ok(()) => Err(Refused::NotAuthorized),
                Err(_) => Err(Refused::Busy),
            };
        }
        let mut all_sound = true;
        if let (Some(turn), Some(name)) = (&mut turn, &publish.identity) {
            turn.comes().await;
            all_sound = self.examine(&publish, &name.principal).await?;
        }
        let now_ms = self.app.clock.now().as_millisecond().unsigned_abs();
        let payload: &Bytes = &publish.payload;
        let message = iot_sql::Message {
            topic: straight.map_or(&publish.topic, |(_, topic)| topic),
            payload,
            principal: publish.identity.as_ref().map_or("", |identity| &identity.principal),
            client: &publish.client_id,
            now_ms,
        };
        if let Some((rule, _)) = straight {
            self.applied(rule, &message).await?;
            return Ok(Taken::Withheld);
        }
        let mut taken = Taken::NoRule;
        for (filter, rule) in &self.rules {
            if filter.matches(&publish.topic) {
                taken = Taken::Stored;
                self.applied(rule, &message).await?;
            }
        }
        Ok(if all_sound { taken } else { Taken::Withheld })
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
        let event = error_event("alerts", &[(&action, "the queue is away".into())], &message);
        assert!(!event.to_string().contains("cert"), "AWS names no principal: {event}");
        assert_eq!(event["failures"][0]["errorMessage"], "the queue is away");
        let read: streammanager_functions::events::RuleError = serde_json::from_value(event).unwrap();
        assert_eq!((read.topic.as_str(), read.client_id.as_deref()), ("alerts/a", Some("c")));
        assert_eq!(read.payload().unwrap(), payload);
    }

    #[test]
    fn a_stream_that_is_away_makes_the_publisher_wait_and_a_broken_one_runs_the_error_action() {
        let away = BackendError::Retry("away".into());
        assert!(matches!(NotStarted::from(away), NotStarted::Busy));
        let broken = BackendError::Fatal("broken".into());
        assert!(matches!(NotStarted::from(broken), NotStarted::Failed(_)));
    }
}

//! The brokers of agencies, read as an MQTT client [S18, Q1]. A message takes the way of one that was published at the
//! endpoint: through the same gate, under the topic that `streams.yaml` gives it. It is acknowledged when the gate has stored
//! it; while the gate is busy it is not, no further ones are read beyond a window, and the rest waits at the broker.
//!
//! Each broker is connecting, connected or lost. A lost one is tried again after a pause that doubles up to a minute; the
//! session at the broker outlives both sides, so that nothing falls between two connections. How each stands is noted in
//! the store when it changes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use streammanager::app::App;
use streammanager::dead;
use streammanager::decode::{Context, Format};
use streammanager::error::{Reason, Reject, Sender};
use streammanager::express::admit;
use streammanager::limits::{READING_BYTES, THREAD_KEPT};
use streammanager::record::StreamId;
use streammanager::schedule::mqtt::{self, Connection, MqttSource, Subscription};
use streammanager::time::{Timestamp, rfc3339};
use streammanager_mqtt_endpoint::client::{Client, ClientError};
use streammanager_mqtt_endpoint::{Endpoint, Gate, Identity, Publish, Refused, Taken};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::rules::Rules;
use crate::foreign::{self, Login, Message};

/// How often it is looked up which brokers are registered.
const LOOK: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Messages that wait for the gate at once, so that many share a commit; most brokers send fewer before they are answered.
const WINDOW: usize = 64;
/// What the endpoint takes of a topic; records of a stream stay within their bound by it and by that of readings.
const TOPIC_BYTES: usize = 1024;
/// Pauses between two tries of a broker, and between two offers of a message to a busy gate.
const RECONNECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
const OFFER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long the messages in the window may still be stored after the stop.
const LAST: Duration = Duration::from_secs(2);

/// Connects to whatever brokers are registered, until `stop`.
pub(crate) async fn run(app: App, rules: Arc<Rules>, endpoint: Endpoint, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let mut running: BTreeMap<StreamId, (MqttSource, CancellationToken)> = BTreeMap::new();
    loop {
        match mqtt::list(&*app.store).await {
            Ok(registered) => {
                running.retain(|_, (source, ended)| {
                    let stays = registered.contains(source);
                    if !stays {
                        ended.cancel();
                    }
                    stays
                });
                for source in registered {
                    if running.contains_key(&source.id) {
                        continue;
                    }
                    let ended = stop.child_token();
                    let (app, rules, endpoint) = (app.clone(), rules.clone(), endpoint.clone());
                    let agency = Agency { app, rules, endpoint, source: source.clone(), told: Told::default() };
                    tasks.spawn(agency.run(ended.clone()));
                    running.insert(source.id.clone(), (source, ended));
                }
            }
            Err(problem) => tracing::warn!(%problem, "the registered brokers cannot be looked up"),
        }
        tokio::select! { biased;
            () = stop.cancelled() => break,
            () = sleep(LOOK) => {}
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// As whom a broker's message is published: its topic there is named for whoever looks for it.
fn client_of(broker: &StreamId, topic: &str) -> String {
    format!("{broker}:{topic}")
}

/// What MQTT clients' alerts are kept in order by, under one principal: what one connection to a broker brings has one lane, whatever
/// its topics [E4].
pub(crate) fn lane_of(client: &str) -> &str {
    client.split_once(':').map_or(client, |(broker, _)| broker)
}

/// One broker.
struct Agency {
    app: App,
    rules: Arc<Rules>,
    /// Whose subscribers see what is taken.
    endpoint: Endpoint,
    source: MqttSource,
    told: Told,
}

/// What is told once of a broker, and counted from then on.
#[derive(Default)]
struct Told {
    retained: AtomicBool,
    unsubscribed: AtomicBool,
    unrouted: AtomicBool,
    /// It was connected, so that the broker should have a session of ours.
    connected: AtomicBool,
}

impl Agency {
    async fn run(self, stop: CancellationToken) {
        let mut pause = RECONNECT.0;
        loop {
            let began = Instant::now();
            let given_up = async {
                stop.cancelled().await;
                sleep(2 * LAST).await;
            };
            let problem = tokio::select! { biased;
                ended = self.connection(&stop) => match ended {
                    Ok(()) => return,
                    Err(problem) => problem,
                },
                () = given_up => return,
            };
            if stop.is_cancelled() {
                // Another connection may have taken the session over, and tells how it stands.
                return;
            }
            self.note(false, Some(&problem)).await;
            if began.elapsed() > RECONNECT.1 {
                pause = RECONNECT.0;
            }
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = sleep(self.app.rng.jitter(pause)) => {}
            }
            pause = (pause * 2).min(RECONNECT.1);
        }
    }

    /// One connection from its start to its end; `Ok` when it was to stop.
    async fn connection(&self, stop: &CancellationToken) -> Result<(), String> {
        let identity = self.identity().await?;
        let mut client = self.connected().await?;
        let filters: Vec<String> = self.source.topics.iter().map(|topic| topic.filter.clone()).collect();
        client.subscribe(&filters).await.map_err(|e| e.to_string())?;
        let before = self.noted().await.is_some_and(|noted| noted.connected);
        let before = self.told.connected.swap(true, Ordering::Relaxed) || before;
        if before && !client.session_present {
            let broker = self.source.id.to_string();
            metrics::counter!("stream_mqtt_sessions_lost_total", "broker" => broker).increment(1);
            tracing::warn!(
                broker = %self.source.id,
                "the broker kept no session since the last connection: what was published there in between did not come"
            );
        }
        self.note(true, None).await;
        match self.messages(&mut client, identity, stop).await {
            Ok(()) => {
                client.close().await;
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }

    /// In whose name alerts are taken.
    async fn identity(&self) -> Result<Option<Identity>, String> {
        let (Some(connector), Some(setting)) = (&self.source.connector, &self.source.key_setting) else {
            return Ok(None);
        };
        let key = secret(setting)?;
        match admit::principal(&self.app, connector.as_str(), &key).await {
            Ok(Some(principal)) => Ok(Some(Identity { user: connector.as_str().into(), principal: principal.into() })),
            Ok(None) => Err(format!("{setting} does not hold the key of the sender {connector}")),
            Err(problem) => Err(problem.to_string()),
        }
    }

    async fn connected(&self) -> Result<Client, String> {
        let (encrypted, host, port) = self.source.address()?;
        let password = self.source.password_setting.as_deref().map(secret).transpose()?;
        let user = self.source.user.clone().map(|user| (user, password.map(String::into_bytes)));
        let login = Login { client_id: self.source.client_id(), user, clean: false, keep_alive: KEEP_ALIVE };
        let ca = self.source.ca_file.as_deref().map(Path::new);
        foreign::dial((encrypted, host, port), ca, &login).await
    }

    /// Takes messages and acknowledges each when it is stored, in their order.
    async fn messages(
        &self,
        client: &mut Client,
        identity: Option<Identity>,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let mut window = FuturesOrdered::new();
        let mut ping = tokio::time::interval(KEEP_ALIVE / 2);
        let mut read_since = Instant::now();
        loop {
            let has_room = window.len() < WINDOW;
            if !has_room {
                // A broker that is not read is not silent.
                read_since = Instant::now();
            }
            let failed = |e: ClientError| e.to_string();
            tokio::select! { biased;
                () = stop.cancelled() => break,
                Some(taken) = window.next(), if !window.is_empty() => {
                    if let Some(packet_id) = taken? {
                        client.acknowledge(packet_id).await.map_err(failed)?;
                    }
                }
                _ = ping.tick() => {
                    if client.heard_at().max(read_since).elapsed() > 2 * KEEP_ALIVE {
                        return Err(ClientError::Silent.to_string());
                    }
                    client.ping().await.map_err(failed)?;
                }
                message = client.next(), if has_room => {
                    window.push_back(self.take(message.map_err(failed)?, identity.clone()));
                }
            }
        }
        let rest = async {
            while let Some(taken) = window.next().await {
                if let Some(packet_id) = taken? {
                    client.acknowledge(packet_id).await.map_err(|e| e.to_string())?;
                }
            }
            Ok(())
        };
        // What is not stored by then is not acknowledged either, and comes again.
        timeout(LAST, rest).await.unwrap_or(Ok(()))
    }

    /// Gives the packet to acknowledge once the message is stored, or is refused for good and kept.
    async fn take(&self, message: Message, identity: Option<Identity>) -> Result<Option<u16>, String> {
        let Message { topic, payload, sent_bytes, packet_id, retained, dup } = message;
        let fits =
            |subscription: &Subscription| Some((subscription.taken_as(&topic)?, subscription.alerts_as.is_some()));
        let Some((taken_as, is_alert)) = self.source.topics.iter().find_map(fits) else {
            // It was never ours to read, or is on its way since before the filters were narrowed: nobody else has it.
            let detail = "no filter takes its topic: it is of an earlier subscription, which the broker still serves";
            self.leave(&self.told.unsubscribed, "of an earlier subscription", &topic);
            let reject = Reject::new(Reason::UnauthorisedSource, detail);
            return self.keep(None, topic, payload, reject).await.map(|()| packet_id);
        };
        if retained && !is_alert {
            // It was sent live, too, and would look as if it was measured now.
            self.leave(&self.told.retained, "retained, its age is not known", &topic);
            return Ok(packet_id);
        }
        let is_cut = payload.len() < sent_bytes;
        if taken_as.len() > TOPIC_BYTES || is_cut || (!is_alert && sent_bytes > READING_BYTES) {
            let rest = if is_cut { "; its end is not kept" } else { "" };
            let detail = format!(
                "{sent_bytes} bytes on a topic of {}: {READING_BYTES} and {TOPIC_BYTES} at most{rest}",
                topic.len()
            );
            let reject = Reject::new(Reason::TooLarge, detail);
            return self.keep(Some("a message is too large"), topic, payload, reject).await.map(|()| packet_id);
        }
        if retained && let Some(sent) = self.is_of_the_past(&payload) {
            let detail = format!(
                "the broker retained it and gives it out again: it was sent at {}, and what is older than {} days may have rung before",
                rfc3339(sent),
                THREAD_KEPT.as_secs() / 86_400
            );
            let reject = Reject::new(Reason::BadTime, detail);
            return self
                .keep(Some("a retained alert is not published"), topic, payload, reject)
                .await
                .map(|()| packet_id);
        }
        let mut publish = Publish {
            topic: taken_as,
            payload,
            client_id: client_of(&self.source.id, &topic),
            identity: identity.filter(|_| is_alert),
            qos: 1,
            retain: false,
            dup,
            again: false,
        };
        let mut pause = OFFER.0;
        loop {
            match self.rules.publish(publish.clone()).await {
                Ok(Taken::Withheld) => return Ok(packet_id),
                Ok(taken @ (Taken::Stored | Taken::NoRule)) => {
                    if matches!(taken, Taken::NoRule) {
                        self.leave(&self.told.unrouted, "taken by no rule of the template", &topic);
                    }
                    self.endpoint.publish(&publish.topic, publish.payload).await;
                    return Ok(packet_id);
                }
                Err(Refused::Busy) => sleep(pause).await,
                Err(Refused::Invalid(why)) => {
                    tracing::warn!(broker = %self.source.id, topic, why, "a message was refused");
                    return Ok(packet_id);
                }
                // Its sender lost the grant since the connection began. At the broker it would keep others' alerts back.
                Err(Refused::NotAuthorized) => {
                    let topic = &publish.topic;
                    tracing::warn!(broker = %self.source.id, topic, "a message may not be published here");
                    return Ok(packet_id);
                }
            }
            publish.again = true;
            pause = (pause * 2).min(OFFER.1);
        }
    }

    /// When the newest alert in it was sent, if all of them are older than what repeats are known by: it would ring again at every
    /// connection [E4].
    fn is_of_the_past(&self, payload: &Bytes) -> Option<Timestamp> {
        let source = self.source.topics.iter().find_map(|subscription| subscription.alerts_as.as_ref())?;
        let now = self.app.clock.now();
        let context = Context { source, received_at: now, topic: None, message: None };
        let rows = Format::ALERT.rows(payload, context).ok()?;
        let newest = rows.flatten().filter_map(|draft| Some(draft.alert.as_ref()?.sent)).max()?;
        (newest < now - THREAD_KEPT).then_some(newest)
    }

    /// Among the dead letters, as far as these take it: nobody else has it once it is acknowledged [Q1]. The log says of `what` what
    /// became of it; whoever cannot keep it leaves it with the broker.
    async fn keep(&self, what: Option<&str>, topic: String, payload: Bytes, reject: Reject) -> Result<(), String> {
        let (broker, detail) = (&self.source.id, reject.detail.clone());
        let sender = Sender { topic: topic.clone(), client: Some(broker.to_string()), ..Sender::default() };
        let kept =
            dead::bury_stray(&self.app, payload, reject, &sender).await.map_err(|problem| problem.to_string())?;
        if let Some(what) = what {
            tracing::warn!(%broker, topic, detail, "{what}: {kept}");
        }
        Ok(())
    }

    /// Counts a message that is not taken; the first of its kind is said.
    fn leave(&self, said: &AtomicBool, because: &'static str, topic: &str) {
        let broker = self.source.id.to_string();
        metrics::counter!("stream_mqtt_messages_left_total", "broker" => broker, "because" => because).increment(1);
        if !said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                broker = %self.source.id,
                topic,
                because,
                "a message is left (said once for each reason; stream_mqtt_messages_left_total counts them)"
            );
        }
    }

    async fn noted(&self) -> Option<Connection> {
        let known = mqtt::connections(&*self.app.store).await.unwrap_or_default();
        known.into_iter().find(|known| known.id == self.source.id)
    }

    async fn note(&self, connected: bool, problem: Option<&str>) {
        let (id, since) = (self.source.id.clone(), self.app.clock.now());
        let before = self.noted().await.filter(|known| known.connected == connected);
        let since = before.map_or(since, |before| before.since);
        let connection = Connection { id, connected, since, problem: problem.map(str::to_owned) };
        if let Err(problem) = mqtt::note(&*self.app.store, &connection).await {
            tracing::warn!(%problem, broker = %self.source.id, "how the connection to a broker stands cannot be noted");
        }
    }
}

/// # Errors
/// Names the variable, never what it holds.
fn secret(setting: &str) -> Result<String, String> {
    let text = std::env::var(setting).unwrap_or_default();
    if text.trim().is_empty() { Err(format!("{setting} is not set")) } else { Ok(text.trim().to_owned()) }
}

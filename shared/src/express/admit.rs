//! Who may ring the siren [A1, A2]: the caller's connector and its grant, checked at every publish; refusals are audited.

use std::num::NonZeroU32;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::{Refusal, Why};
use crate::app::App;
use crate::control::audit::{self, Action};
use crate::control::caller::{self, Caller};
use crate::control::connector::Connector;
use crate::control::pace::Turn;
use crate::dead;
use crate::error::{BackendError, Reason, Reject, Sender};
use crate::record::{ConnectorId, SourceId};
use crate::sources;

/// Audits the refusal of someone who is no connector. All of them count together: whoever holds no key may call itself
/// anything.
pub async fn refuse_stranger(app: &App, actor: &str, subject: &str, detail: &str) -> Result<(), BackendError> {
    audit::write_bounded(app, Action::Refused, "", actor, subject, detail).await
}

/// Audits the refusal of a connector.
pub async fn refuse_connector(
    app: &App,
    connector: &ConnectorId,
    subject: &str,
    detail: &str,
) -> Result<(), BackendError> {
    let id = connector.as_str();
    audit::write_bounded(app, Action::Refused, id, id, subject, detail).await
}

/// Whether the sender keeps its pace. One that does not is told at every request, and audited once until it has been quiet
/// for a while; nobody who is refused costs the store a call.
pub async fn keeps_pace(app: &App, caller: &Caller) -> bool {
    let Some((sender, pace)) = paced(app, caller) else { return true };
    let turn = app.admission.turn(sender, pace);
    tell_if_too_fast(app, sender, pace, turn).await;
    turn == Turn::May
}

/// Waits until the sender keeps its pace, for one whose connection can be held back instead of being refused. It is counted and audited as
/// by [`keeps_pace`], once. Its turn is its own while it waits, whatever else its sender asks for, and nobody's if it gives up.
pub async fn at_pace(app: &App, caller: &Caller) {
    let Some((sender, pace)) = paced(app, caller) else { return };
    let (turn, wait) = app.admission.next_turn(sender, pace);
    let until = Instant::now() + wait;
    let reserved = Reserved { app, sender };
    tell_if_too_fast(app, sender, pace, turn).await;
    sleep_until(until).await;
    std::mem::forget(reserved);
}

/// A turn that is given back unless it comes.
struct Reserved<'a> {
    app: &'a App,
    sender: &'a ConnectorId,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.app.admission.give_back(self.sender);
    }
}

async fn tell_if_too_fast(app: &App, sender: &ConnectorId, pace: NonZeroU32, turn: Turn) {
    let Turn::TooFast { is_first } = turn else { return };
    metrics::counter!("stream_alerts_throttled_total", "connector" => sender.to_string()).increment(1);
    if is_first {
        let detail = format!(
            "more than {pace} alerts a second at one instance of express: refused, or over MQTT held back, until it is slower"
        );
        tracing::warn!(connector = %sender, detail, "a sender is too fast");
        if let Err(problem) = refuse_connector(app, sender, "", &detail).await {
            tracing::warn!(%problem, connector = %sender, "a sender that is too fast was not audited");
        }
    }
}

/// Only connectors have a pace: who is none is refused.
fn paced<'a>(app: &App, caller: &'a Caller) -> Option<(&'a ConnectorId, NonZeroU32)> {
    caller.connector().map(|connector| &connector.registration.id).zip(app.settings.sender_pace)
}

/// Refuses what a named MQTT client published below `alerts/` where no alert can come; its bytes are kept.
pub async fn refuse_topic(app: &App, caller: &Caller, sender: &Sender, body: Bytes) -> Result<Refusal, BackendError> {
    let topic = &sender.topic;
    let (detail, subject) = (format!("topic {topic:?} is not alerts/{{source_id}}"), format!("{topic:.100}"));
    let connector = caller.connector().map(|connector| &connector.registration.id).or(caller.revoked()).cloned();
    match &connector {
        Some(id) => refuse_connector(app, id, &subject, &detail).await?,
        None => refuse_stranger(app, &caller.proof().to_string(), &subject, &detail).await?,
    }
    dead::bury_stray(app, body, Reject::new(Reason::NotData, detail.clone()), sender).await?;
    Ok(Refusal { why: Why::NotGranted, connector, reject: Reject::new(Reason::UnauthorisedSource, detail) })
}

/// Who may publish, and under which source id.
#[derive(Debug)]
pub struct Admitted {
    /// Whose key or principal was shown.
    pub connector: Connector,
    /// A source id that it was granted.
    pub source: SourceId,
}

/// Why a sender was not admitted.
#[derive(Debug)]
pub enum NotAdmitted {
    /// For good: it is audited, and the sender is told.
    Refused(Refusal),
    /// Nobody knows: the store is away. The sender tries again.
    Backend(BackendError),
}

impl From<BackendError> for NotAdmitted {
    fn from(e: BackendError) -> NotAdmitted {
        NotAdmitted::Backend(e)
    }
}

/// `source`: as asked for; without it the connector's only one.
pub async fn admit(app: &App, caller: &Caller, source: Option<&SourceId>) -> Result<Admitted, NotAdmitted> {
    let subject = source.map_or("", SourceId::as_str);
    let refused = |why, connector, detail: String| {
        NotAdmitted::Refused(Refusal { why, connector, reject: Reject::new(Reason::UnauthorisedSource, detail) })
    };
    if let Some(id) = caller.revoked() {
        let detail = format!("connector {id} is revoked");
        refuse_connector(app, id, subject, &detail).await?;
        return Err(refused(Why::Unknown, Some(id.clone()), detail));
    }
    let Some(connector) = caller.connector() else {
        let actor = caller.proof().to_string();
        let detail = format!("{actor} that belongs to no connector");
        refuse_stranger(app, &actor, subject, &detail).await?;
        return Err(refused(Why::Unknown, None, detail));
    };
    let registration = &connector.registration;
    let routed = |source: &SourceId| sources::route(source, registration.critical).map(|_| source.clone());
    let admitted = match (source, &registration.sources[..]) {
        (Some(source), _) if connector.may_publish(source) => routed(source).map_err(|reject| reject.detail),
        (Some(source), _) => Err(format!("connector {} may not publish under {source}", registration.id)),
        (None, [only]) => routed(only).map_err(|reject| reject.detail),
        (None, _) => Err(format!("connector {} has several source ids; name one", registration.id)),
    };
    match admitted {
        Ok(source) => Ok(Admitted { source, connector: connector.clone() }),
        Err(detail) => {
            refuse_connector(app, &registration.id, subject, &detail).await?;
            Err(refused(Why::NotGranted, Some(registration.id.clone()), detail))
        }
    }
}

/// The principal of an MQTT connection whose user name is a connector's id and whose password is that connector's key.
pub async fn principal(app: &App, user: &str, key: &str) -> Result<Option<String>, BackendError> {
    let caller = caller::by_key(app, key).await?;
    match caller.connector().filter(|connector| connector.registration.id.as_str() == user) {
        Some(connector) => Ok(Some(connector.principal().to_owned())),
        None => {
            let actor = format!("MQTT user {user:.100}");
            refuse_stranger(app, &actor, "", "a connection with a wrong key").await?;
            Ok(None)
        }
    }
}

//! Who may ring the siren [A1, A2]: key or principal → connector → grant, checked at every publish; refusals are audited.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::app::App;
use crate::control::audit::{self, Action};
use crate::control::connectors::{self, Connector};
use crate::error::{BackendError, Reason, Reject};
use crate::record::{ConnectorId, SourceId};
use crate::sources;
use crate::time::Timestamp;

/// A cached connector is asked for anew after this, so that a rotation elsewhere is noticed.
const FRESH: Duration = Duration::from_secs(10);
/// With the state store away a cached connector stays valid this long [A3].
const VALID_WITHOUT_STORE: Duration = Duration::from_secs(15 * 60);
/// Cached connectors; far more than there are senders.
const CACHED: usize = 1_000;
/// Refusals of strangers in one minute that are written one by one. Beyond them one is written whenever their number has
/// doubled: whoever holds no key must not be able to fill the audit log [A5, Q2].
const STRANGERS_A_MINUTE: u64 = 60;

/// Connectors seen lately, so that an alert costs no store read, and strangers refused in this minute.
#[derive(Debug, Default)]
pub struct Admission {
    connectors: Mutex<BTreeMap<ConnectorId, (Timestamp, Connector)>>,
    strangers: Mutex<Strangers>,
}

/// Refusals within one minute since 1970.
#[derive(Debug, Default)]
struct Strangers {
    minute: i64,
    refused: u64,
}

impl Admission {
    pub(crate) async fn connector(&self, app: &App, id: &ConnectorId) -> Result<Option<Connector>, BackendError> {
        let cached = self.with(|cache| cache.get(id).cloned());
        let age = |read: Timestamp| app.clock.since(read);
        if let Some((read, connector)) = &cached
            && age(*read) < FRESH
        {
            return Ok(Some(connector.clone()));
        }
        match (connectors::get(app, id).await, cached) {
            (Ok(Some(connector)), _) => {
                self.with(|cache| {
                    if cache.len() >= CACHED {
                        cache.clear();
                    }
                    cache.insert(id.clone(), (app.clock.now(), connector.clone()));
                });
                Ok(Some(connector))
            }
            (Ok(None), _) => Ok(None),
            (Err(_), Some((read, connector))) if age(read) < VALID_WITHOUT_STORE => Ok(Some(connector)),
            (Err(e), _) => Err(e),
        }
    }

    pub(crate) fn forget(&self, id: &ConnectorId) {
        self.with(|cache| cache.remove(id));
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<ConnectorId, (Timestamp, Connector)>) -> T) -> T {
        f(&mut self.connectors.lock())
    }

    /// The number of this refusal of a stranger within its minute.
    fn stranger(&self, now: Timestamp) -> u64 {
        let mut strangers = self.strangers.lock();
        let minute = now.as_second().div_euclid(60);
        if strangers.minute != minute {
            *strangers = Strangers { minute, refused: 0 };
        }
        strangers.refused += 1;
        strangers.refused
    }
}

/// Audits the refusal of someone who is no connector.
pub async fn refuse_stranger(app: &App, actor: &str, subject: &str, detail: &str) -> Result<(), BackendError> {
    let number = app.admission.stranger(app.clock.now());
    let detail = match number {
        1..=STRANGERS_A_MINUTE => detail.to_owned(),
        _ if (number / STRANGERS_A_MINUTE).is_power_of_two() && number.is_multiple_of(STRANGERS_A_MINUTE) => {
            format!("{detail}; the {number}th refusal of this minute, those since the last entry are not listed")
        }
        _ => return Ok(()),
    };
    audit::write(app, Action::Refused, actor, subject, &detail).await
}

/// How a sender proved who it is.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// An API key, from a header or a file.
    Key(&'a str),
    /// The principal of an MQTT connection [E5].
    Principal(&'a str),
}

/// Why a sender was not admitted.
#[derive(Debug)]
pub enum NotAdmitted {
    /// Unknown, wrong or revoked: 401.
    Unknown(Reject),
    /// Known, but not for this source id: 403.
    NotGranted(Reject),
    Backend(BackendError),
}

impl From<BackendError> for NotAdmitted {
    fn from(e: BackendError) -> NotAdmitted {
        NotAdmitted::Backend(e)
    }
}

/// The connector and the source id that it publishes under. `source`: as asked for; without it the connector's only one.
pub async fn admit(
    app: &App,
    proof: Proof<'_>,
    source: Option<&SourceId>,
) -> Result<(Connector, SourceId), NotAdmitted> {
    let (found, actor) = match proof {
        Proof::Key(key) => (connectors::holder(app, key).await?, "an API key".to_owned()),
        Proof::Principal(principal) => {
            (connectors::of_principal(app, principal).await?, format!("principal {principal}"))
        }
    };
    let subject = source.map_or("", SourceId::as_str);
    let Some(connector) = found else {
        let detail = format!("{actor} that belongs to no connector");
        refuse_stranger(app, &actor, subject, &detail).await?;
        return Err(NotAdmitted::Unknown(Reject::new(Reason::UnauthorisedSource, detail)));
    };
    let refused = match (source, &connector.registration.sources[..]) {
        (Some(source), _) if connector.may_publish(source) => {
            match sources::route(source, connector.registration.critical) {
                Ok(_) => return Ok((connector.clone(), source.clone())),
                Err(reject) => reject.detail,
            }
        }
        (Some(source), _) => format!("connector {} may not publish under {source}", connector.registration.id),
        (None, [only]) => match sources::route(only, connector.registration.critical) {
            Ok(_) => return Ok((connector.clone(), only.clone())),
            Err(reject) => reject.detail,
        },
        (None, _) => format!("connector {} has several source ids; name one", connector.registration.id),
    };
    audit::write(app, Action::Refused, connector.registration.id.as_str(), subject, &refused).await?;
    Err(NotAdmitted::NotGranted(Reject::new(Reason::UnauthorisedSource, refused)))
}

/// The principal of an MQTT connection whose user name is a connector's id and whose password is that connector's key.
pub async fn principal(app: &App, user: &str, key: &str) -> Result<Option<String>, BackendError> {
    let holder = connectors::holder(app, key).await?;
    match holder.filter(|connector| connector.registration.id.as_str() == user) {
        Some(connector) => Ok(Some(connector.principal().to_owned())),
        None => {
            let actor = format!("MQTT user {user:.100}");
            refuse_stranger(app, &actor, "", "a connection with a wrong key").await?;
            Ok(None)
        }
    }
}

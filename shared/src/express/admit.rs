//! Who may ring the siren [A1, A2]: key or principal → connector → grant, checked at every publish; refusals are audited.

use crate::app::App;
use crate::control::audit::{self, Action};
use crate::control::caller::{self, Caller};
use crate::control::connector::Connector;
use crate::error::{BackendError, Reason, Reject};
use crate::limits::STRANGERS_A_MINUTE;
use crate::record::SourceId;
use crate::sources;

/// Audits the refusal of a caller that is not a connector.
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
    caller: &Caller,
    source: Option<&SourceId>,
) -> Result<(Connector, SourceId), NotAdmitted> {
    let subject = source.map_or("", SourceId::as_str);
    let Some(connector) = caller.connector() else {
        let actor = caller.proof().to_string();
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

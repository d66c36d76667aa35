//! Who asks [A1, A2]: every door makes its `Caller` once, from what the door was shown; what lies behind it asks the caller
//! alone, and never looks at a key again.

use std::fmt;

use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::control::connector::{ApiKey, Connector};
use crate::control::connectors;
use crate::error::BackendError;
use crate::limits::{CONNECTOR_FRESH, CONNECTOR_READ, CONNECTOR_VALID_WITHOUT_STORE, HEDGE};
use crate::record::{ConnectorId, TenantId};

/// What the door was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// An API key, from a header or a file.
    Key,
    /// The principal of an MQTT connection [E5].
    Principal(String),
    /// The identity that signed a request (AWS IAM); on a host the holder of the control key.
    Signed(String),
}

/// As an audit entry names it.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proof::Key => f.write_str("an API key"),
            Proof::Principal(principal) => write!(f, "principal {principal}"),
            Proof::Signed(identity) => write!(f, "operator {identity}"),
        }
    }
}

/// What the caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Grants {
    /// A stranger: the proof belongs to nobody.
    Nothing,
    /// Not any more: its connector is revoked, and its connection may still be open.
    Revoked(ConnectorId),
    /// What its connector was registered for.
    Sender(Box<Connector>),
    /// Everything that the control API offers.
    Operator,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    proof: Proof,
    grants: Grants,
}

impl Caller {
    /// Whoever signed a request of the control API.
    pub fn operator(identity: impl Into<String>) -> Caller {
        Caller { proof: Proof::Signed(identity.into()), grants: Grants::Operator }
    }

    /// Whoever asks where nobody is asked for a proof.
    pub fn anybody() -> Caller {
        Caller { proof: Proof::Signed("anybody".to_owned()), grants: Grants::Nothing }
    }

    fn sender(proof: Proof, connector: Option<Connector>) -> Caller {
        let grants = match connector {
            None => Grants::Nothing,
            Some(connector) if connector.revoked => Grants::Revoked(connector.registration.id),
            Some(connector) => Grants::Sender(Box::new(connector)),
        };
        Caller { proof, grants }
    }

    /// What the door was shown.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The connector whose key or principal was shown; `None` for a stranger and for an operator.
    pub fn connector(&self) -> Option<&Connector> {
        match &self.grants {
            Grants::Sender(connector) => Some(connector),
            Grants::Nothing | Grants::Revoked(_) | Grants::Operator => None,
        }
    }

    /// The connector that the caller was before it was revoked.
    pub fn revoked(&self) -> Option<&ConnectorId> {
        match &self.grants {
            Grants::Revoked(id) => Some(id),
            Grants::Nothing | Grants::Sender(_) | Grants::Operator => None,
        }
    }

    /// Whose records the caller sends.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.connector().map(|connector| &connector.registration.tenant)
    }
}

/// The holder of an API key; a stranger for an unknown, wrong or revoked one.
///
/// # Errors
/// When the store is away and the connector was not seen lately.
pub async fn by_key(app: &App, key: &str) -> Result<Caller, BackendError> {
    let connector = match ApiKey::split(key) {
        Some((id, secret)) => connector(app, &id).await?.filter(|connector| connector.matches(secret)),
        None => None,
    };
    Ok(Caller::sender(Proof::Key, connector))
}

/// Whom a principal names, a revoked connector if no other has it. An empty one names nobody: a message of an anonymous MQTT
/// connection has it.
///
/// # Errors
/// When the store is away and the principal was not seen lately.
pub async fn by_principal(app: &App, principal: &str) -> Result<Caller, BackendError> {
    let mut found = None;
    if !principal.is_empty() {
        let (app, name) = (app.clone(), principal.to_owned());
        let remembered = app.admission.named(principal);
        found = read(app.clone(), format!("principal {principal}"), remembered, async move {
            // Principals are few and looked up only for alerts: a scan needs no second index to keep true.
            let named = connectors::list(&*app.store).await?;
            let named = named.into_iter().filter(|connector| connector.principal() == name);
            let found = named.min_by_key(|connector| connector.revoked);
            app.admission.keep_named(&name, found.as_ref());
            Ok(found)
        })
        .await?;
    }
    Ok(Caller::sender(Proof::Principal(principal.to_owned()), found))
}

/// The connector of this name, for what it sent before and an operator redrives: it may now what it may, and no more [A2].
///
/// # Errors
/// When the store is away and the connector was not seen lately.
pub(crate) async fn by_name(app: &App, id: &ConnectorId) -> Result<Caller, BackendError> {
    Ok(Caller::sender(Proof::Principal(id.to_string()), connector(app, id).await?))
}

/// From the cache while it is fresh, and with the store away as long as A3 lets it.
async fn connector(app: &App, id: &ConnectorId) -> Result<Option<Connector>, BackendError> {
    let cached = app.admission.cached(id);
    if let Some((read, connector)) = &cached
        && read.elapsed() < CONNECTOR_FRESH
    {
        return Ok(Some(connector.clone()));
    }
    let (app, id) = (app.clone(), id.clone());
    read(app.clone(), format!("connector {id}"), cached, async move {
        let found = connectors::get(&*app.store, &id).await?;
        if let Some(connector) = &found {
            app.admission.keep(connector);
        }
        Ok(found)
    })
    .await
}

/// What the store says now. Where it said something lately, nobody waits for it longer than for the broker [A3, E2]: the read goes
/// on by itself, one of a name, and what it finds is there for who comes next.
async fn read(
    app: App,
    name: String,
    remembered: Option<(Instant, Connector)>,
    reading: impl Future<Output = Result<Option<Connector>, BackendError>> + Send + 'static,
) -> Result<Option<Connector>, BackendError> {
    let remembered = remembered.filter(|(read, _)| read.elapsed() < CONNECTOR_VALID_WITHOUT_STORE);
    let Some((_, connector)) = remembered else {
        let away = |_| BackendError::Retry("the state store does not answer: who asks is not known".to_owned());
        return timeout(CONNECTOR_READ, reading).await.map_err(away)?;
    };
    if !app.admission.begin_read(&name) {
        return Ok(Some(connector));
    }
    let read = tokio::spawn(async move {
        let _ends = ReadEnds { app, name };
        reading.await
    });
    match timeout(HEDGE, read).await {
        Ok(Ok(Ok(found))) => Ok(found),
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => Ok(Some(connector)),
    }
}

/// However it ends: another one may begin.
struct ReadEnds {
    app: App,
    name: String,
}

impl Drop for ReadEnds {
    fn drop(&mut self) {
        self.app.admission.end_read(&self.name);
    }
}

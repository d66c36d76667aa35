//! Registered connectors [A1, A2]: who may publish what. A key is shown once and stored as a hash; it names its
//! connector, so that one lookup and one constant-time comparison decide.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::control::audit::{self, Action};
use crate::error::BackendError;
use crate::record::ids::hex;
use crate::record::{ConnectorId, SourceId, TenantId};
use crate::sources;
use crate::store::{self, Expect, Item, Key, PutError};
use crate::time::Timestamp;

const PARTITION: &str = "connectors";
/// Marks our keys for secret scanners.
const KEY_PREFIX: &str = "smk_";

/// What an operator registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    pub id: ConnectorId,
    pub tenant: TenantId,
    /// Source ids that it may publish under.
    pub sources: Vec<SourceId>,
    /// The critical grant: without it no critical id is accepted [A2].
    #[serde(default)]
    pub critical: bool,
    /// What names this connector on an MQTT connection, such as a certificate's id [E5]; its own id if not set.
    #[serde(default)]
    pub principal: Option<String>,
}

impl Registration {
    fn principal(&self) -> &str {
        self.principal.as_deref().unwrap_or(self.id.as_str())
    }
}

/// A registered connector as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    #[serde(flatten)]
    pub registration: Registration,
    /// SHA-256 of the key's secret, hex. The secret has 256 random bits: a slow hash would add nothing.
    key_hash: String,
    pub revoked: bool,
    #[serde(serialize_with = "crate::time::serialize")]
    pub registered_at: Timestamp,
    #[serde(serialize_with = "crate::time::serialize")]
    pub key_changed_at: Timestamp,
}

impl Connector {
    pub fn may_publish(&self, source: &SourceId) -> bool {
        self.registration.sources.contains(source)
    }

    pub fn principal(&self) -> &str {
        self.registration.principal()
    }

    fn matches(&self, secret: &str) -> bool {
        !self.revoked && bool::from(self.key_hash.as_bytes().ct_eq(hash(secret).as_bytes()))
    }
}

/// A key's text, shown once; its `Debug` shows nothing.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    fn new(app: &App, id: &ConnectorId) -> ApiKey {
        ApiKey(format!("{KEY_PREFIX}{id}:{}", URL_SAFE_NO_PAD.encode(app.rng.bytes::<32>())))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The connector that a key's text names, and its secret; `None` for a text that is no key.
    fn split(text: &str) -> Option<(ConnectorId, &str)> {
        let (id, secret) = text.trim().strip_prefix(KEY_PREFIX)?.split_once(':')?;
        Some((ConnectorId::new(id).ok()?, secret))
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(***)")
    }
}

fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

/// Why an operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Unwise or impossible: the text says which rule.
    #[error("{0}")]
    Refused(String),
    #[error("there is no {0}")]
    Unknown(String),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Registers a connector and gives its key, the only time it is shown.
pub async fn register(app: &App, registration: Registration, by: &str) -> Result<ApiKey, ControlError> {
    if registration.sources.is_empty() {
        return Err(ControlError::Refused("a connector needs at least one source id".into()));
    }
    for source in &registration.sources {
        if let Err(reject) = sources::route(source, registration.critical) {
            let (actor, subject) = (registration.id.as_str(), source.as_str());
            audit::write(app, Action::Refused, actor, subject, &reject.detail).await?;
            return Err(ControlError::Refused(reject.to_string()));
        }
    }
    if let Some(problem) = principal_problem(app, &registration).await? {
        return Err(ControlError::Refused(problem));
    }
    let key = ApiKey::new(app, &registration.id);
    let now = app.clock.now();
    let detail = format!("sources {:?}, critical grant {}", registration.sources, registration.critical);
    let id = registration.id.clone();
    let key_hash = key_hash(&key);
    let connector = Connector { registration, key_hash, revoked: false, registered_at: now, key_changed_at: now };
    match put(app, &connector, Expect::Absent).await {
        Err(PutError::Conflict) => {
            let revoked = get(app, &id).await?.is_some_and(|there| there.revoked);
            let instead = if revoked { "and revoked; register another id" } else { "already; rotate its key instead" };
            return Err(ControlError::Refused(format!("connector {id} is registered {instead}")));
        }
        other => other.map_err(backend)?,
    }
    // A principal that another one took at the same time: whoever sees that steps back, in doubt both.
    if let Some(problem) = principal_problem(app, &connector.registration).await? {
        store::remove(&*app.store, &Key::new(PARTITION, id.as_str())).await?;
        return Err(ControlError::Refused(problem));
    }
    audit::write(app, Action::ConnectorRegistered, by, id.as_str(), &detail).await?;
    Ok(key)
}

/// A principal must name exactly one connector that may publish.
async fn principal_problem(app: &App, registration: &Registration) -> Result<Option<String>, BackendError> {
    let wanted = registration.principal();
    if wanted.trim().is_empty() {
        return Ok(Some("an empty principal names nobody; leave it out for the connector's id".into()));
    }
    let connectors = list(app).await?;
    let other = connectors
        .iter()
        .filter(|other| !other.revoked)
        .map(|other| &other.registration)
        .find(|other| other.id != registration.id && (other.principal() == wanted || other.id.as_str() == wanted));
    Ok(other.map(|other| format!("principal {wanted} names connector {} already; choose another one", other.id)))
}

/// Replaces the key at once; the old one is refused from then on. What was revoked stays so.
pub async fn rotate(app: &App, id: &ConnectorId, by: &str) -> Result<ApiKey, ControlError> {
    let (mut connector, item) = load(app, id).await?.ok_or_else(|| ControlError::Unknown(format!("connector {id}")))?;
    if connector.revoked {
        return Err(ControlError::Refused(format!("connector {id} is revoked; register one with another id")));
    }
    let key = ApiKey::new(app, id);
    connector.key_hash = key_hash(&key);
    connector.key_changed_at = app.clock.now();
    put(app, &connector, Expect::Version(item.version)).await.map_err(backend)?;
    app.admission.forget(id);
    audit::write(app, Action::KeyRotated, by, id.as_str(), "").await?;
    Ok(key)
}

/// Refuses the connector's key from now on; its registration stays for the record.
pub async fn revoke(app: &App, id: &ConnectorId, by: &str) -> Result<(), ControlError> {
    let (mut connector, item) = load(app, id).await?.ok_or_else(|| ControlError::Unknown(format!("connector {id}")))?;
    connector.revoked = true;
    connector.key_changed_at = app.clock.now();
    put(app, &connector, Expect::Version(item.version)).await.map_err(backend)?;
    app.admission.forget(id);
    audit::write(app, Action::KeyRevoked, by, id.as_str(), "").await?;
    Ok(())
}

pub async fn list(app: &App) -> Result<Vec<Connector>, BackendError> {
    store::list_all(&*app.store, PARTITION, "", usize::MAX).await?.iter().map(parse).collect()
}

/// The connector that holds `key`; `None` for an unknown, wrong or revoked key.
pub(crate) async fn holder(app: &App, key: &str) -> Result<Option<Connector>, BackendError> {
    let Some((id, secret)) = ApiKey::split(key) else { return Ok(None) };
    let connector = app.admission.connector(app, &id).await?;
    Ok(connector.filter(|connector| connector.matches(secret)))
}

/// The connector that a principal names. An empty one is nobody's: a message of an anonymous MQTT connection has it.
pub(crate) async fn of_principal(app: &App, principal: &str) -> Result<Option<Connector>, BackendError> {
    if principal.is_empty() {
        return Ok(None);
    }
    // Principals are few and looked up only for alerts: a scan needs no second index to keep true.
    let connectors = list(app).await?;
    Ok(connectors.into_iter().find(|connector| !connector.revoked && connector.principal() == principal))
}

pub(crate) async fn get(app: &App, id: &ConnectorId) -> Result<Option<Connector>, BackendError> {
    Ok(load(app, id).await?.map(|(connector, _)| connector))
}

async fn load(app: &App, id: &ConnectorId) -> Result<Option<(Connector, Item)>, BackendError> {
    match app.store.get(&Key::new(PARTITION, id.as_str())).await? {
        Some(item) => Ok(Some((parse(&item)?, item))),
        None => Ok(None),
    }
}

fn parse(item: &Item) -> Result<Connector, BackendError> {
    serde_json::from_slice(&item.value).map_err(|e| BackendError::Fatal(format!("connector {}: {e}", item.key.sort)))
}

async fn put(app: &App, connector: &Connector, expect: Expect) -> Result<(), PutError> {
    let value = serde_json::to_vec(connector).map_err(|e| BackendError::Fatal(format!("connector: {e}")))?;
    let key = Key::new(PARTITION, connector.registration.id.as_str());
    app.store.put_if(&key, value.into(), expect, None).await.map(|_| ())
}

fn key_hash(key: &ApiKey) -> String {
    ApiKey::split(key.reveal()).map(|(_, secret)| hash(secret)).unwrap_or_default()
}

fn backend(e: PutError) -> ControlError {
    match e {
        PutError::Backend(e) => e.into(),
        PutError::Conflict => ControlError::Refused("the connector was changed at the same time; try again".into()),
        e @ PutError::TooLarge(_) => ControlError::Refused(e.to_string()),
    }
}

//! The register of connectors [A1, A2]: what an operator registers, rotates and revokes, and how it is looked up.

use crate::app::App;
use crate::control::audit::{self, Action};
use crate::control::connector::{ApiKey, Connector, Registration};
use crate::error::BackendError;
use crate::record::ConnectorId;
use crate::sources;
use crate::store::{self, Expect, Item, Key, PutError, Store};

const PARTITION: &str = "connectors";

/// Why an operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Unwise or impossible: the text says which rule.
    #[error("{0}")]
    Refused(String),
    /// Nothing has this id; the text says what was looked for.
    #[error("there is no {0}")]
    Unknown(String),
    /// The store could not do it.
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
    if let Some(problem) = principal_problem(&*app.store, &registration).await? {
        return Err(ControlError::Refused(problem));
    }
    let key = ApiKey::new(&app.rng, &registration.id);
    let now = app.clock.now();
    let detail = format!("sources {:?}, critical grant {}", registration.sources, registration.critical);
    let id = registration.id.clone();
    let key_hash = key.stored();
    let connector = Connector { registration, key_hash, revoked: false, registered_at: now, key_changed_at: now };
    match put(&*app.store, &connector, Expect::Absent).await {
        Err(PutError::Conflict) => {
            let revoked = get(&*app.store, &id).await?.is_some_and(|there| there.revoked);
            let instead = if revoked { "and revoked; register another id" } else { "already; rotate its key instead" };
            return Err(ControlError::Refused(format!("connector {id} is registered {instead}")));
        }
        other => other.map_err(backend)?,
    }
    // Another registration may have taken the principal at the same time: whoever sees that steps back, and if it is
    // unclear which one was first, both do.
    if let Some(problem) = principal_problem(&*app.store, &connector.registration).await? {
        store::remove(&*app.store, &Key::new(PARTITION, id.as_str())).await?;
        return Err(ControlError::Refused(problem));
    }
    audit::write(app, Action::ConnectorRegistered, by, id.as_str(), &detail).await?;
    Ok(key)
}

/// A principal must name exactly one connector that may publish.
async fn principal_problem(store: &dyn Store, registration: &Registration) -> Result<Option<String>, BackendError> {
    let wanted = registration.principal();
    if wanted.trim().is_empty() {
        return Ok(Some("an empty principal names nobody; leave it out for the connector's id".into()));
    }
    let connectors = list(store).await?;
    let other = connectors
        .iter()
        .filter(|other| !other.revoked)
        .map(|other| &other.registration)
        .find(|other| other.id != registration.id && (other.principal() == wanted || other.id.as_str() == wanted));
    Ok(other.map(|other| format!("principal {wanted} names connector {} already; choose another one", other.id)))
}

/// Replaces the key at once; the old one is refused from then on. What was revoked stays so.
pub async fn rotate(app: &App, id: &ConnectorId, by: &str) -> Result<ApiKey, ControlError> {
    let (mut connector, item) =
        load(&*app.store, id).await?.ok_or_else(|| ControlError::Unknown(format!("connector {id}")))?;
    if connector.revoked {
        return Err(ControlError::Refused(format!("connector {id} is revoked; register one with another id")));
    }
    let key = ApiKey::new(&app.rng, id);
    connector.key_hash = key.stored();
    connector.key_changed_at = app.clock.now();
    put(&*app.store, &connector, Expect::Version(item.version)).await.map_err(backend)?;
    app.admission.forget(id);
    audit::write(app, Action::KeyRotated, by, id.as_str(), "").await?;
    Ok(key)
}

/// Refuses the connector's key from now on; its registration stays for the record.
pub async fn revoke(app: &App, id: &ConnectorId, by: &str) -> Result<(), ControlError> {
    let (mut connector, item) =
        load(&*app.store, id).await?.ok_or_else(|| ControlError::Unknown(format!("connector {id}")))?;
    connector.revoked = true;
    connector.key_changed_at = app.clock.now();
    put(&*app.store, &connector, Expect::Version(item.version)).await.map_err(backend)?;
    app.admission.forget(id);
    audit::write(app, Action::KeyRevoked, by, id.as_str(), "").await?;
    Ok(())
}

/// All of them, revoked ones too.
pub async fn list(store: &dyn Store) -> Result<Vec<Connector>, BackendError> {
    store::list_all(store, PARTITION, "", usize::MAX).await?.iter().map(parse).collect()
}

pub(crate) async fn get(store: &dyn Store, id: &ConnectorId) -> Result<Option<Connector>, BackendError> {
    Ok(load(store, id).await?.map(|(connector, _)| connector))
}

/// Whether a connector of this name is registered, also one that was revoked.
pub(crate) async fn is_registered(store: &dyn Store, id: &ConnectorId) -> Result<bool, BackendError> {
    Ok(store.get(&Key::new(PARTITION, id.as_str())).await?.is_some())
}

async fn load(store: &dyn Store, id: &ConnectorId) -> Result<Option<(Connector, Item)>, BackendError> {
    match store.get(&Key::new(PARTITION, id.as_str())).await? {
        Some(item) => Ok(Some((parse(&item)?, item))),
        None => Ok(None),
    }
}

fn parse(item: &Item) -> Result<Connector, BackendError> {
    serde_json::from_slice(&item.value).map_err(|e| BackendError::Fatal(format!("connector {}: {e}", item.key.sort)))
}

async fn put(store: &dyn Store, connector: &Connector, expect: Expect) -> Result<(), PutError> {
    let value = serde_json::to_vec(connector).map_err(|e| BackendError::Fatal(format!("connector: {e}")))?;
    let key = Key::new(PARTITION, connector.registration.id.as_str());
    store.put_if(&key, value.into(), expect, None).await.map(|_| ())
}

fn backend(e: PutError) -> ControlError {
    match e {
        PutError::Backend(e) => e.into(),
        PutError::Conflict => ControlError::Refused("the connector was changed at the same time; try again".into()),
        e @ PutError::TooLarge(_) => ControlError::Refused(e.to_string()),
    }
}

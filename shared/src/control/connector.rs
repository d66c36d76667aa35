//! A registered connector as data [A1, A2]: who may publish what, and its key. A key is shown once and stored as a hash; it
//! names its connector, so that one lookup and one constant-time comparison decide.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::record::ids::hex;
use crate::record::{ConnectorId, SourceId, TenantId};
use crate::time::{Rng, Timestamp};

/// Marks our keys for secret scanners.
const KEY_PREFIX: &str = "smk_";

/// What an operator registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Its name, which also begins its key.
    pub id: ConnectorId,
    /// Whose records it sends [D4].
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
    /// What names this connector on an MQTT connection.
    pub fn principal(&self) -> &str {
        self.principal.as_deref().unwrap_or(self.id.as_str())
    }
}

/// A registered connector as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    /// What an operator registered.
    #[serde(flatten)]
    pub registration: Registration,
    /// SHA-256 of the key's secret, hex. The secret has 256 random bits: a slow hash would add nothing.
    pub(super) key_hash: String,
    /// Its key and its principal are refused from then on, for good.
    pub revoked: bool,
    /// When it was registered, by our clock.
    #[serde(serialize_with = "crate::time::serialize")]
    pub registered_at: Timestamp,
    /// When its key was made or changed last, by our clock.
    #[serde(serialize_with = "crate::time::serialize")]
    pub key_changed_at: Timestamp,
}

impl Connector {
    /// Whether the registration names this source id.
    pub fn may_publish(&self, source: &SourceId) -> bool {
        self.registration.sources.contains(source)
    }

    /// What names this connector on an MQTT connection.
    pub fn principal(&self) -> &str {
        self.registration.principal()
    }

    pub(crate) fn matches(&self, secret: &str) -> bool {
        !self.revoked && bool::from(self.key_hash.as_bytes().ct_eq(hash(secret).as_bytes()))
    }
}

/// A key's text, shown once; its `Debug` shows nothing.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    pub(crate) fn new(rng: &Rng, id: &ConnectorId) -> ApiKey {
        ApiKey(format!("{KEY_PREFIX}{id}:{}", URL_SAFE_NO_PAD.encode(rng.bytes::<32>())))
    }

    /// What its holder sends.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(super) fn stored(&self) -> String {
        ApiKey::split(self.reveal()).map(|(_, secret)| hash(secret)).unwrap_or_default()
    }

    /// The connector that a key's text names, and its secret; `None` for a text that is not a key.
    pub(crate) fn split(text: &str) -> Option<(ConnectorId, &str)> {
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

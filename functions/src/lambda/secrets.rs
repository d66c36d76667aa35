//! The secrets of Secrets Manager: read here alone, at the start and again when whoever holds one hears that it is no longer
//! taken. A rotated secret needs no deployment.

use std::sync::Arc;
use std::time::Duration;

use streammanager::app::App;
use streammanager::aws::{Aws, chain};
use streammanager::settings::{Secret, Settings, variable};
use streammanager::sources;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Environment;

/// A secret that was refused is read again, but not in a row: a reading costs money, and one takes a moment to be rotated.
pub(super) const AGAIN: Duration = Duration::from_secs(10);
/// One that nobody refused: a service may go on taking an old key for a while.
const FRESH: Duration = Duration::from_secs(900);

#[derive(Clone)]
pub(super) struct Secrets(aws_sdk_secretsmanager::Client);

impl Secrets {
    pub(super) fn of(aws: &Aws) -> Secrets {
        Secrets(aws_sdk_secretsmanager::Client::new(aws.config()))
    }

    /// The text of the secret with this ARN or name, without blanks around it.
    ///
    /// # Errors
    /// Why it cannot be read, in the SDK's words.
    pub(super) async fn text(&self, secret: &str) -> Result<Secret, String> {
        let value = self.0.get_secret_value().secret_id(secret).send().await.map_err(|e| chain(&e))?;
        Ok(value.secret_string().map(str::trim).map(Secret::new).unwrap_or_default())
    }
}

/// The keys of the polled services, within the settings that hold them.
pub(super) struct ServiceKeys {
    secrets: Secrets,
    /// Their settings with the secrets that hold them.
    named: Vec<(&'static str, String)>,
    held: Mutex<Held>,
}

struct Held {
    settings: Arc<Settings>,
    read_at: Instant,
}

impl ServiceKeys {
    /// Reads what the environment names. Only polling needs it, and says so when it does: without it pushed readings go on.
    pub(super) async fn read(secrets: Secrets, environment: &Environment, settings: Settings) -> ServiceKeys {
        let keys = sources::services().filter_map(|service| service.key_setting);
        let named = keys.filter_map(|key| Some((key, variable(environment, &format!("{key}_SECRET"))?.to_owned())));
        let mut held = Held { settings: Arc::new(settings), read_at: Instant::now() };
        let keys = named.collect::<Vec<_>>();
        held.renew(&secrets, &keys).await;
        ServiceKeys { secrets, named: keys, held: Mutex::new(held) }
    }

    /// The settings as they were read last.
    pub(super) async fn settings(&self) -> Settings {
        Settings::clone(&*self.held.lock().await.settings)
    }

    /// For one invocation: with keys that are read again first where a service has refused one, or they are old.
    pub(super) async fn given(&self, app: App) -> App {
        if self.named.is_empty() {
            return app;
        }
        let mut held = self.held.lock().await;
        let age = held.read_at.elapsed();
        if age >= FRESH || (age >= AGAIN && app.key_doubt.settle()) {
            held.renew(&self.secrets, &self.named).await;
        }
        App { settings: held.settings.clone(), ..app }
    }
}

impl Held {
    /// A key whose secret cannot be read stays as it was.
    async fn renew(&mut self, secrets: &Secrets, named: &[(&'static str, String)]) {
        let mut settings = Settings::clone(&self.settings);
        for (key, secret) in named {
            match secrets.text(secret).await {
                Ok(text) => settings.services.set_key(key, text),
                Err(error) => tracing::warn!(error, key, "the secret that holds a service's key cannot be read"),
            }
        }
        if settings != *self.settings {
            self.settings = Arc::new(settings);
        }
        self.read_at = Instant::now();
    }
}

//! How a connection is protected and who we say we are. A build without the feature kafka-tls has neither TLS nor a login.

#[cfg(not(feature = "kafka-tls"))]
mod absent;
#[cfg(feature = "kafka-tls")]
mod bearer;
#[cfg(feature = "kafka-tls")]
mod sasl;
#[cfg(feature = "kafka-tls")]
mod scram;

#[cfg(all(test, feature = "kafka-tls"))]
#[allow(clippy::unwrap_used)]
mod tests;

use std::time::Duration;

use tokio::net::TcpStream;

use super::connection::{Connection, Transport};
use crate::sink::kafka::login::Refusal;
use crate::sink::kafka::settings::Security;
#[cfg(not(feature = "kafka-tls"))]
use absent::{Encryption, Login, encryption};
#[cfg(feature = "kafka-tls")]
use {
    crate::tls::{Encryption, Named},
    sasl::Login,
};

#[cfg(feature = "kafka-tls")]
const NAMED: Named = Named { ca_file: "KAFKA_CA_FILE", encryption: "KAFKA_SECURITY" };

#[cfg(feature = "kafka-tls")]
fn encryption(ca: Option<&std::path::Path>) -> Result<Encryption, String> {
    Encryption::new(ca, NAMED)
}

/// What happens on a new connection before it is of use.
pub(super) struct Handshake {
    encryption: Option<Encryption>,
    login: Option<Login>,
}

impl Handshake {
    /// # Errors
    /// A certificate file that cannot be used.
    pub(super) fn new(security: &Security, refusal: &Refusal) -> Result<Handshake, String> {
        let (ca, login) = match security {
            Security::Plaintext => (None, None),
            Security::Tls { ca } => (Some(ca), None),
            Security::ScramSha512 { user, password, tls } => {
                (tls.as_ref().map(|tls| &tls.ca), Some(Login::scram(user, password, refusal)?))
            }
            Security::Iam { tokens, tls } => (Some(&tls.ca), Some(Login::bearer(tokens, refusal)?)),
        };
        Ok(Handshake { encryption: ca.map(|ca| encryption(ca.as_deref())).transpose()?, login })
    }

    /// # Errors
    /// Why the broker at `host` is not trusted, or does not want to talk to us.
    pub(super) async fn encrypt(&self, stream: TcpStream, host: &str) -> Result<Box<dyn Transport>, String> {
        match &self.encryption {
            Some(encryption) => Ok(Box::new(encryption.over(stream, host).await?)),
            None => Ok(Box::new(stream)),
        }
    }

    /// Has ready what is to be shown, which may take longer than a broker waits.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn prepare(&self) -> Result<(), String> {
        match &self.login {
            Some(login) => login.prepare().await,
            None => Ok(()),
        }
    }

    /// How long the broker lets us stay; `None`: as long as we like.
    ///
    /// # Errors
    /// Why it does not let us in.
    pub(super) async fn authenticate(&self, connection: &Connection) -> Result<Option<Duration>, String> {
        match &self.login {
            Some(login) => login.at(connection).await,
            None => Ok(None),
        }
    }
}

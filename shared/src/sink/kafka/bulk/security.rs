//! How a connection is protected and who we say we are. A build without the feature kafka-tls has neither TLS nor a login.

#[cfg(not(feature = "kafka-tls"))]
mod absent;
#[cfg(feature = "kafka-tls")]
mod scram;

#[cfg(all(test, feature = "kafka-tls"))]
#[allow(clippy::unwrap_used)]
mod tests;

use std::time::Duration;

use tokio::net::TcpStream;

use super::connection::{Connection, Transport};
use crate::sink::kafka::settings::Security;
#[cfg(not(feature = "kafka-tls"))]
use absent::{Encryption, Login, encryption};
#[cfg(feature = "kafka-tls")]
use {
    crate::tls::{Encryption, Named},
    scram::Login,
};

#[cfg(feature = "kafka-tls")]
const NAMED: Named = Named { ca_file: "KAFKA_CA_FILE", encryption: "KAFKA_SECURITY" };

#[cfg(feature = "kafka-tls")]
fn encryption(ca: Option<&std::path::Path>) -> Result<Encryption, String> {
    Encryption::new(ca, NAMED)
}

/// What happens on a new connection before it is of use.
#[derive(Default)]
pub(super) struct Handshake {
    encryption: Option<Encryption>,
    login: Option<Login>,
}

impl Handshake {
    /// # Errors
    /// A certificate file that cannot be used.
    pub(super) fn new(security: &Security) -> Result<Handshake, String> {
        Ok(match security {
            Security::Plaintext => Handshake::default(),
            Security::Tls { ca } => Handshake { encryption: Some(encryption(ca.as_deref())?), login: None },
            Security::ScramSha512 { user, password, tls } => Handshake {
                encryption: tls.as_ref().map(|tls| encryption(tls.ca.as_deref())).transpose()?,
                login: Some(Login::new(user, password)?),
            },
        })
    }

    /// # Errors
    /// Why the broker at `host` is not trusted, or does not want to talk to us.
    pub(super) async fn encrypt(&self, stream: TcpStream, host: &str) -> Result<Box<dyn Transport>, String> {
        match &self.encryption {
            Some(encryption) => Ok(Box::new(encryption.over(stream, host).await?)),
            None => Ok(Box::new(stream)),
        }
    }

    /// Returns when a broker has not taken the user; never without a login.
    pub(super) async fn login_refused(&self) {
        match &self.login {
            Some(login) => login.refused().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn forget_refusal(&self) {
        if let Some(login) = &self.login {
            login.forget_refusal();
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

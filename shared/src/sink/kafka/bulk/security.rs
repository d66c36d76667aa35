//! How a connection is protected and who we say we are. A build without the feature kafka-tls has neither TLS nor a login.

#[cfg(not(feature = "kafka-tls"))]
mod absent;
#[cfg(feature = "kafka-tls")]
mod scram;
#[cfg(feature = "kafka-tls")]
mod tls;

#[cfg(all(test, feature = "kafka-tls"))]
#[allow(clippy::unwrap_used)]
mod tests;

use std::time::Duration;

use tokio::net::TcpStream;

use super::connection::{Connection, Transport};
use crate::sink::kafka::settings::Security;
#[cfg(not(feature = "kafka-tls"))]
use absent::{Encryption, Login};
#[cfg(feature = "kafka-tls")]
use {scram::Login, tls::Encryption};

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
            Security::Tls { ca } => Handshake { encryption: Some(Encryption::new(ca.as_deref())?), login: None },
            Security::ScramSha512 { user, password, tls } => Handshake {
                encryption: tls.as_ref().map(|tls| Encryption::new(tls.ca.as_deref())).transpose()?,
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

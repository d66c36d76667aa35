//! TLS to a broker, of Kafka or MQTT: whom we trust, and what people are told when a handshake fails.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authorities;

/// The settings that messages name.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// Names the file with the authorities that are trusted.
    pub ca_file: &'static str,
    /// Says that the broker speaks TLS.
    pub encryption: &'static str,
}

/// What is needed to encrypt a connection.
pub struct Encryption {
    connector: TlsConnector,
    named: Named,
}

impl Encryption {
    /// Trusts the authorities in the PEM file `ca`; without one those of [`authorities`].
    ///
    /// # Errors
    /// When the file has none; names the setting.
    pub fn new(ca: Option<&Path>, named: Named) -> Result<Encryption, String> {
        let setting = named.ca_file;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS: {e}"))?;
        let mut trusted = RootCertStore::empty();
        match ca {
            Some(file) => trusted = in_file(file).map_err(|e| format!("{setting}: {}: {e}", file.display()))?,
            None => drop(trusted.add_parsable_certificates(authorities::authorities().iter().cloned())),
        }
        let builder = builder.with_root_certificates(trusted);
        Ok(Encryption { connector: Arc::new(builder.with_no_client_auth()).into(), named })
    }

    /// `host` is a name or an IP address, one of version 6 also in brackets.
    ///
    /// # Errors
    /// Why the broker is not trusted, or does not want to talk to us.
    pub async fn over(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, String> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| {
            format!("no certificate can be valid for {bare:?}, which is neither a host's name nor an IP address")
        })?;
        self.connector.connect(name, stream).await.map_err(|e| self.named.told(&e))
    }
}

fn in_file(file: &Path) -> Result<RootCertStore, String> {
    let pem = std::fs::read(file).map_err(|e| match e.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "this process may not read it".to_owned(),
        _ => e.to_string(),
    })?;
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| format!("it is not valid PEM: {e}"))?;
        trusted.add(certificate).map_err(|e| format!("certificate {}: {e}", trusted.len() + 1))?;
    }
    match trusted.is_empty() {
        true => Err("it holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----".into()),
        false => Ok(trusted),
    }
}

impl Named {
    /// Why a handshake failed, for people.
    pub(crate) fn told(self, error: &io::Error) -> String {
        let setting = self.encryption;
        let no_tls =
            || format!("the TLS handshake got no answer in TLS: does this port of the broker speak it ({setting})?");
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(fault)) => format!("the broker's certificate {}", self.not_trusted(fault)),
            Some(Error::AlertReceived(alert)) => format!("the broker ended the TLS handshake: {alert:?}"),
            Some(Error::InvalidMessage(_)) => no_tls(),
            Some(other) => format!("TLS: {other}"),
            None if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => no_tls(),
            None => format!("TLS: {error}"),
        }
    }

    /// Goes on after "the broker's certificate".
    fn not_trusted(self, fault: &CertificateError) -> String {
        match fault {
            // The latter: by one that has the name of one that is trusted, such as an authority that was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "is not signed by an authority that is trusted here: {} must name a file with its authority",
                self.ca_file
            ),
            CertificateError::NotValidForNameContext { expected, presented } => {
                let host = expected.to_str();
                match &presented[..] {
                    [] => format!("is not valid for {host}: it has no subject alternative name at all"),
                    names => format!("is not valid for {host}, only for {}", names.join(", ")),
                }
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".into(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "is not valid yet; is this host's clock right?".into()
            }
            CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
                "is an authority's own (CA:TRUE): the broker needs one that the authority has signed".into()
            }
            other => format!("cannot be used: {other}"),
        }
    }
}

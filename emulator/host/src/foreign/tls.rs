//! TLS to an agency's broker: whom we trust, and what people are told when a handshake fails.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Trusts the authorities in the PEM file `ca`; without one those of this host.
///
/// # Errors
/// When there are none, the broker is not trusted, or it does not speak TLS.
pub(super) async fn over(socket: TcpStream, host: &str, ca: Option<&Path>) -> Result<TlsStream<TcpStream>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?;
    let builder = match ca {
        Some(file) => {
            let trusted = authorities(file).map_err(|e| format!("ca_file: {}: {e}", file.display()))?;
            builder.with_root_certificates(trusted)
        }
        None => builder.with_platform_verifier().map_err(|e| {
            format!("ca_file is not set, and the certificate authorities of this host cannot be used: {e}")
        })?,
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        format!("no certificate can be valid for {host:?}, which is neither a host's name nor an address")
    })?;
    let connector = TlsConnector::from(Arc::new(builder.with_no_client_auth()));
    connector.connect(name, socket).await.map_err(|e| told(&e))
}

fn authorities(file: &Path) -> Result<RootCertStore, String> {
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

fn told(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "the broker's certificate is not signed by an authority that is trusted here: ca_file names a file with its authority"
                .into()
        }
        Some(Error::InvalidCertificate(fault)) => format!("the broker's certificate cannot be used: {fault}"),
        Some(Error::AlertReceived(alert)) => format!("the broker ended the TLS handshake: {alert:?}"),
        Some(Error::InvalidMessage(_)) => NO_TLS.into(),
        Some(other) => format!("TLS: {other}"),
        None if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => NO_TLS.into(),
        None => format!("TLS: {error}"),
    }
}

const NO_TLS: &str = "the TLS handshake got no answer in TLS: does this port of the broker speak it?";

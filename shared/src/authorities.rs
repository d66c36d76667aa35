//! Whom encrypted connections trust where nobody names a file: asked by every client of this process, of brokers, of sources
//! and of AWS, so that they cannot differ.
//!
//! This host's own authorities, if it has any. A Lambda environment has them only where its image brings them, and the OpenSSL
//! that is built into Kafka's client looks in folders of its build. So where none are found those of Mozilla are taken, which
//! are part of this program; Amazon's, which sign MSK's certificates and those of AWS's services, are among them. Where
//! `SSL_CERT_FILE` or `SSL_CERT_DIR` says otherwise, what stands there is the host's.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls_native_certs::CertificateResult;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

static TRUSTED: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let host = rustls_native_certs::load_native_certs();
    for problem in &host.errors {
        tracing::warn!(%problem, "certificate authorities of this host cannot be read");
    }
    trusted(host)
});

/// The authorities, each of which every client here can read. They are looked for once.
pub fn authorities() -> &'static [CertificateDer<'static>] {
    &TRUSTED
}

/// The same as a PEM file would have them.
pub fn pem() -> String {
    let mut text = String::new();
    for authority in authorities() {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        // Lines of 64 letters: OpenSSL reads no longer ones.
        for line in authority.chunks(48) {
            STANDARD.encode_string(line, &mut text);
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn trusted(host: CertificateResult) -> Vec<CertificateDer<'static>> {
    let is_readable = |authority: &CertificateDer<'static>| RootCertStore::empty().add(authority.clone()).is_ok();
    let mut own = host.certs;
    own.retain(is_readable);
    if own.is_empty() {
        tracing::info!("this host has no certificate authorities: those of Mozilla, which are built in, are trusted");
        return TLS_SERVER_ROOT_CERTS.to_vec();
    }
    own
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn a_host_without_authorities_trusts_those_that_are_built_in_amazons_among_them() {
        let built_in = trusted(CertificateResult::default());
        let mut store = RootCertStore::empty();
        assert_eq!(store.add_parsable_certificates(built_in.clone()), (built_in.len(), 0));
        assert!(built_in.len() > 100, "{}", built_in.len());
        for name in
            ["Amazon Root CA 1", "Amazon Root CA 2", "Amazon Root CA 3", "Amazon Root CA 4", "Starfield Services"]
        {
            let holds =
                |authority: &CertificateDer<'_>| authority.windows(name.len()).any(|part| part == name.as_bytes());
            assert!(built_in.iter().any(holds), "{name}");
        }
    }

    #[test]
    fn a_host_with_authorities_trusts_only_them_and_what_is_none_is_left_out() {
        let mut host = CertificateResult::default();
        host.certs = vec![TLS_SERVER_ROOT_CERTS[0].clone(), CertificateDer::from(vec![1, 2, 3])];
        assert_eq!(trusted(host), TLS_SERVER_ROOT_CERTS[..1]);
    }

    #[test]
    fn as_a_file_they_are_the_same() {
        let text = pem();
        assert!(text.lines().all(|line| line.len() <= 64));
        let read: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(read, authorities());
    }
}

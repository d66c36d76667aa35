//! The exchange against published vectors, and the login at a broker that answers as told.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use jiff::SignedDuration;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use parking_lot::Mutex;
use ring::{hmac, pbkdf2};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::scram::{Exchange, Hash, SHA512, verify};
use super::{Handshake, Login, NAMED};
use crate::sink::kafka::bulk::connection::Connection;
use crate::sink::kafka::login::{Refusal, Token, TokenSource, Tokens};
use crate::sink::kafka::settings::{Password, Security};
use crate::time::{Clock, Timestamp, WallClock};

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

#[test]
fn the_exchange_is_that_of_rfc_7677() {
    let sha256 = Hash { hmac: hmac::HMAC_SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256 };
    let exchange = Exchange::new(sha256, "user", NONCE);
    assert_eq!(exchange.bare, "n=user,r=rOprNGfwEbeRWgbNEkqO");
    let (end, signature) = exchange.answer("pencil", CHALLENGE.as_bytes()).unwrap();
    assert_eq!(
        end,
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert_eq!(verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", signature.as_ref()), Ok(()));
}

/// From Apache Kafka 4.1's own `ScramFormatter`. SASLprep would make another password of this one.
#[test]
fn the_exchange_is_that_of_kafka_in_sha_512() {
    let exchange = Exchange::new(SHA512, "fire,=ü", NONCE);
    assert_eq!(exchange.bare, "n=fire=2C=3Dü,r=rOprNGfwEbeRWgbNEkqO");
    let (end, signature) = exchange.answer("pencil ½", CHALLENGE.as_bytes()).unwrap();
    let proof = "RVUOpqAiAFsbOLZ9MUpsitcgiIIcOwJRBWttuvbhvvhb+18B3d6JWrW+JmGAodsNMJY3dAYEnwojAvNKBpj7Aw==";
    assert_eq!(end, format!("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p={proof}"));
    let theirs = "v=f//3rJipT9OobpvFcG7fLogXHcCZteiVbwlRzV+N8gQfIdNzVnp4e6TM2DAXmgeL+X7FyxBnBwRbXQGmmB1bCA==";
    assert_eq!(verify(theirs.as_bytes(), signature.as_ref()), Ok(()));
    for forged in [&theirs[..10], "", "v=", "e=other-error", &theirs.replace("f//3", "f//4")] {
        let problem = verify(forged.as_bytes(), signature.as_ref()).unwrap_err();
        assert!(problem.contains("no proof"), "{forged}: {problem}");
    }
}

#[test]
fn a_challenge_that_is_none_is_refused() {
    for (challenge, part) in [
        ("", "somebody else"),
        ("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "somebody else"),
        ("r=somebody,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "somebody else"),
        ("m=needed,r=rOprNGfwEbeRWgbNEkqO1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "somebody else"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=W22*,i=4096", "salt"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=W22ZaJ0SNY7soEsUEjb6gQ==", "iterations"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0", "iterations"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095", "4095 times"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4294967295", "4294967295 times"),
    ] {
        let problem = Exchange::new(SHA512, "user", NONCE).answer("pencil", challenge.as_bytes()).unwrap_err();
        assert!(problem.contains(part), "{challenge}: {problem}");
    }
}

#[test]
fn a_certificate_file_that_cannot_be_used_is_named_with_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let pem = |inside: &str| format!("-----BEGIN CERTIFICATE-----\n{inside}\n-----END CERTIFICATE-----\n");
    for (ca, part) in [
        (PathBuf::from("/nowhere/ca.pem"), "/nowhere/ca.pem: there is no such file"),
        (file("text.pem", "not a certificate"), "it holds no certificate"),
        (file("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"), "it is not valid PEM"),
        (file("letters.pem", &pem("?")), "it is not valid PEM"),
        (file("other.pem", &pem("AAAA")), "certificate 1"),
    ] {
        let problem = Handshake::new(&Security::Tls { ca: Some(ca) }, &Refusal::none()).err().unwrap();
        assert!(problem.starts_with("KAFKA_CA_FILE: ") && problem.contains(part), "{problem}");
    }
}

#[test]
fn a_handshake_that_fails_is_told_in_words() {
    let certificate = |fault| io::Error::other(Error::InvalidCertificate(fault));
    for (error, part) in [
        (certificate(CertificateError::UnknownIssuer), "is not signed by an authority"),
        (certificate(CertificateError::Expired), "certificate has expired"),
        (certificate(CertificateError::NotValidYet), "clock"),
        (certificate(CertificateError::Revoked), "cannot be used"),
        (io::Error::other(Error::AlertReceived(AlertDescription::HandshakeFailure)), "HandshakeFailure"),
        (io::ErrorKind::UnexpectedEof.into(), "KAFKA_SECURITY"),
    ] {
        let problem = NAMED.told(&error);
        assert!(problem.contains(part), "{problem}");
    }
}

/// OpenSSL makes such certificates for itself unless told otherwise, and librdkafka takes them.
#[test]
fn a_broker_with_the_certificate_of_an_authority_is_told_as_such() {
    let authority = CertificateDer::from_pem_slice(AUTHORITY.as_bytes()).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(authority.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), provider).build().unwrap();
    let host = ServerName::try_from("localhost").unwrap();
    let fault = verifier.verify_server_cert(&authority, &[], &host, &[], UnixTime::now()).unwrap_err();
    let problem = NAMED.told(&io::Error::other(fault));
    assert!(problem.contains("is an authority's own"), "{problem}");
}

/// A broker of one test, which asks for a password or a token.
#[derive(Clone, Copy)]
struct Broker {
    password: &'static str,
    /// The token that is taken, and whether another one is refused at once or, as RFC 7628 has it, when we have heard why.
    token: &'static str,
    refuses_at_once: bool,
    /// Answers the request for a mechanism.
    mechanism: Option<ResponseError>,
    session_lifetime_ms: i64,
    is_forged: bool,
}

const BROKER: Broker = Broker {
    password: "secret",
    token: "c2VjcmV0",
    refuses_at_once: false,
    mechanism: None,
    session_lifetime_ms: 0,
    is_forged: false,
};

impl Broker {
    async fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            loop {
                tokio::spawn(self.serve(listener.accept().await.unwrap().0));
            }
        });
        address
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut exchange: Option<Exchange> = None;
        while let Ok(size) = stream.read_u32().await {
            let mut bytes = BytesMut::zeroed(size as usize);
            stream.read_exact(&mut bytes).await.unwrap();
            let mut bytes = bytes.freeze();
            let (key, version) = (i16::from_be_bytes([bytes[0], bytes[1]]), i16::from_be_bytes([bytes[2], bytes[3]]));
            let api = ApiKey::try_from(key).unwrap();
            let header = RequestHeader::decode(&mut bytes, api.request_header_version(version)).unwrap();
            let mut answer = BytesMut::new();
            answer.put_u32(0);
            ResponseHeader::default()
                .with_correlation_id(header.correlation_id)
                .encode(&mut answer, api.response_header_version(version))
                .unwrap();
            match api {
                ApiKey::ApiVersions => {
                    let spoken = |api: ApiKey, max| {
                        ApiVersion::default().with_api_key(api as i16).with_min_version(0).with_max_version(max)
                    };
                    let apis = vec![spoken(ApiKey::SaslHandshake, 1), spoken(ApiKey::SaslAuthenticate, 2)];
                    ApiVersionsResponse::default().with_api_keys(apis).encode(&mut answer, version).unwrap();
                }
                ApiKey::SaslHandshake => SaslHandshakeResponse::default()
                    .with_error_code(self.mechanism.map_or(0, |error| error.code()))
                    .with_mechanisms(vec![StrBytes::from_static_str("PLAIN"), StrBytes::from_static_str("GSSAPI")])
                    .encode(&mut answer, version)
                    .unwrap(),
                _ => {
                    let said = SaslAuthenticateRequest::decode(&mut bytes, version).unwrap().auth_bytes;
                    self.authenticate(&mut exchange, &said).encode(&mut answer, version).unwrap();
                }
            }
            let size = answer.len() - 4;
            (&mut answer[..4]).put_u32(size as u32);
            stream.write_all(&answer).await.unwrap();
        }
    }

    fn take(self, said: &str) -> SaslAuthenticateResponse {
        let answer = SaslAuthenticateResponse::default();
        if said == format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", self.token) {
            return answer;
        }
        if said != "\u{1}" && !self.refuses_at_once {
            return answer.with_auth_bytes(r#"{"status":"access denied"}"#.into());
        }
        answer
            .with_error_code(ResponseError::SaslAuthenticationFailed.code())
            .with_error_message(Some(StrBytes::from_static_str("Access denied")))
    }

    fn authenticate(self, exchange: &mut Option<Exchange>, said: &Bytes) -> SaslAuthenticateResponse {
        let said = std::str::from_utf8(said).unwrap();
        let challenge = |nonce: &str| format!("r={nonce}theirs,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let answer = SaslAuthenticateResponse::default();
        if said == "\u{1}" || said.contains("auth=Bearer") {
            return self.take(said).with_session_lifetime_ms(self.session_lifetime_ms);
        }
        let Some(begun) = exchange else {
            let nonce = said.strip_prefix("n,,n=deliver,r=").unwrap();
            *exchange = Some(Exchange::new(SHA512, "deliver", nonce));
            return answer.with_auth_bytes(challenge(nonce).into());
        };
        let (expected, signature) = begun.answer(self.password, challenge(&begun.nonce).as_bytes()).unwrap();
        if said != expected {
            return answer
                .with_error_code(ResponseError::SaslAuthenticationFailed.code())
                .with_error_message(Some(StrBytes::from_static_str("invalid credentials")));
        }
        let signature = if self.is_forged { "AAAA".into() } else { STANDARD.encode(signature) };
        answer.with_auth_bytes(format!("v={signature}").into()).with_session_lifetime_ms(self.session_lifetime_ms)
    }
}

async fn login(address: &str) -> Result<Connection, String> {
    let (user, password) = ("deliver".into(), Password::new("secret"));
    let security = Security::ScramSha512 { user, password, tls: None };
    let handshake = Handshake::new(&security, &Refusal::none()).unwrap();
    Connection::open(address, &handshake).await
}

/// What is said is no matter of TLS, without which there is no such setting.
async fn login_by(tokens: &Tokens, refusal: &Refusal, address: &str) -> Result<Connection, String> {
    let login = Login::bearer(tokens, refusal).unwrap();
    Connection::open(address, &Handshake { encryption: None, login: Some(login) }).await
}

/// Has one token after the other; none: it fails.
struct Tape(Mutex<Vec<Option<&'static str>>>);

#[async_trait]
impl TokenSource for Tape {
    async fn token(&self, now: Timestamp) -> Result<Token, String> {
        let text = Password::new(self.0.lock().remove(0).ok_or("no credentials")?);
        Ok(Token { text, holder: "AKID".into(), made: now, expires: now + SignedDuration::from_secs(900) })
    }
}

fn tape(tokens: &[Option<&'static str>]) -> (Tokens, WallClock) {
    let (clock, wall) = Clock::settable(Timestamp::UNIX_EPOCH);
    (Tokens::new(Arc::new(Tape(Mutex::new(tokens.to_vec()))), clock), wall)
}

fn is_noted(refusal: &Refusal) -> bool {
    refusal.noted().now_or_never().is_some()
}

#[tokio::test]
async fn k1_a_token_that_is_refused_is_told_and_the_next_login_has_another_one() {
    for refuses_at_once in [false, true] {
        let ((tokens, wall), refusal) = (tape(&[Some("aHVudGVyMg"), Some(BROKER.token)]), Refusal::none());
        tokens.fresh().await.unwrap();
        wall.step(10);
        let address = Broker { refuses_at_once, ..BROKER }.start().await;
        let problem = login_by(&tokens, &refusal, &address).await.err().unwrap();
        let part = "does not let AKID in with a token made at 1970-01-01T00:00:00Z, if this host's clock is right: Access denied";
        assert!(problem.starts_with(&address) && problem.contains(part), "{problem}");
        assert!(!problem.contains("aHVudGVyMg"), "{problem}");
        assert!(is_noted(&refusal));
        login_by(&tokens, &refusal, &address).await.unwrap();
    }
}

#[tokio::test]
async fn k1_a_token_that_cannot_be_made_is_no_refusal() {
    let ((tokens, wall), refusal) = (tape(&[None, Some(BROKER.token)]), Refusal::none());
    let address = BROKER.start().await;
    let problem = login_by(&tokens, &refusal, &address).await.err().unwrap();
    assert!(problem.contains("there is no token to log in: no credentials"), "{problem}");
    assert!(!is_noted(&refusal));
    wall.step(1);
    // The same token again, which is fresh.
    for _ in 0..2 {
        login_by(&tokens, &refusal, &address).await.unwrap();
    }
}

/// A profile's program that takes longer than a broker waits.
struct Slow;

#[async_trait]
impl TokenSource for Slow {
    async fn token(&self, now: Timestamp) -> Result<Token, String> {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        Tape(Mutex::new(vec![Some(BROKER.token)])).token(now).await
    }
}

#[tokio::test]
async fn k1_a_token_may_take_longer_than_a_connection() {
    let tokens = Tokens::new(Arc::new(Slow), Clock::system());
    login_by(&tokens, &Refusal::none(), &BROKER.start().await).await.unwrap();
}

#[tokio::test]
async fn k1_a_broker_without_tokens_is_told() {
    let broker = Broker { mechanism: Some(ResponseError::UnsupportedSaslMechanism), ..BROKER };
    let problem =
        login_by(&tape(&[Some(BROKER.token)]).0, &Refusal::none(), &broker.start().await).await.err().unwrap();
    assert!(problem.contains("does not offer OAUTHBEARER, only: PLAIN, GSSAPI"), "{problem}");
}

#[tokio::test]
async fn k1_the_session_of_a_token_ends_as_the_broker_says() {
    let ((tokens, _), refusal) = (tape(&[Some(BROKER.token)]), Refusal::none());
    let address = Broker { session_lifetime_ms: 60_000, ..BROKER }.start().await;
    let connection = login_by(&tokens, &refusal, &address).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(45)).await;
    assert!(!connection.is_over());
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(connection.is_over());
}

#[tokio::test]
async fn a6_whoever_is_not_let_in_hears_why_and_no_password() {
    let mechanism = |error| Broker { mechanism: Some(error), ..BROKER };
    for (broker, part) in [
        (Broker { password: "another", ..BROKER }, "\"deliver\" in (KAFKA_USER, KAFKA_PASSWORD): invalid credentials"),
        (mechanism(ResponseError::UnsupportedSaslMechanism), "does not offer SCRAM-SHA-512, only: PLAIN, GSSAPI"),
        (mechanism(ResponseError::IllegalSaslState), "takes no login"),
        (Broker { is_forged: true, ..BROKER }, "no proof that it knows the user's password"),
    ] {
        let address = broker.start().await;
        let problem = login(&address).await.err().unwrap();
        assert!(problem.starts_with(&address) && problem.contains(part), "{problem}");
        assert!(!problem.contains("secret"), "{problem}");
    }
}

#[tokio::test]
async fn a_connection_is_over_before_its_session_ends() {
    let forever = login(&BROKER.start().await).await.unwrap();
    let brief = login(&Broker { session_lifetime_ms: 60_000, ..BROKER }.start().await).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(45)).await;
    assert!(!brief.is_over());
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(brief.is_over() && !forever.is_over());
}

#[tokio::test]
async fn a_port_without_tls_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, AUTHORITY).unwrap();
    let handshake = Handshake::new(&Security::Tls { ca: Some(ca) }, &Refusal::none()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // What Kafka does with a request of 300 MB, which a TLS greeting looks like; and what one does that answers at once.
    let broker = tokio::spawn(async move {
        drop(listener.accept().await.unwrap());
        listener.accept().await.unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    for _ in 0..2 {
        let problem = Connection::open(&address, &handshake).await.err().unwrap();
        assert!(problem.contains("does this port of the broker speak it"), "{problem}");
    }
    broker.await.unwrap();
}

const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBeDCCAR2gAwIBAgIUUEOEq6M4ZCIyIowKHZdMOkugm9IwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFVGVzdHMwIBcNMjYxMTMwMDA0MzM2WhgPMjEyNjExMDYwMDQz
MzZaMBAxDjAMBgNVBAMMBVRlc3RzMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
73fa+dpfiI9s3XbuArLzgospLj0AU785FZ+4zeg63/6Jv57JC36FiJIE47xsEaOe
dBkxgU80jMKgisFSUkFSQKNTMFEwHQYDVR0OBBYEFIne0IYx++d2fk4Rw37zXAXM
lKHTMB8GA1UdIwQYMBaAFIne0IYx++d2fk4Rw37zXAXMlKHTMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAIQX5/1mY8oYOZsvdmOsB7PWiZ6oTE+4
waBAG2CIZwmaAiEAuHx02XXGs0IQE9h9uxOjmcWqwL58jma2J6RGyDTWzYc=
-----END CERTIFICATE-----
";

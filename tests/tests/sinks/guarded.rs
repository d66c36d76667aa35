//! Kafka with TLS and a password: what a wrong setting is told, and that records flow once it is right.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::join_all;
use streammanager::sink::conformance::{TestSink, assert_acked, record};
use streammanager::sink::kafka::{KafkaSettings, KafkaSink, Password, Security, Tls};
use streammanager::sink::{Lane, Sent, Sink};

use crate::worlds::{Guarded, KafkaWorld};

/// Neither lane takes a record with these settings, and bulk says why; both do with the world's own.
async fn is_told(world: &KafkaWorld, wrong: KafkaSettings, part: &str) {
    let law = format!("{:?}", world.settings.security);
    let right = world.open().await;
    let wrong = KafkaSink::connect(&KafkaSettings { try_time: Duration::from_secs(3), ..wrong }).unwrap();
    let sent = [record(&law, 0)];
    let outcomes = join_all(Lane::ALL.map(|lane| wrong.send(lane, &sent))).await;
    for (lane, outcome) in Lane::ALL.into_iter().zip(outcomes) {
        match &outcome[..] {
            [Sent::Retry(text)] => {
                assert!(lane == Lane::Critical || text.contains(part), "{text}");
                assert!(!text.contains("smoke-"), "a password is shown: {text}");
            }
            other => panic!("{lane:?}: {other:?}"),
        }
        assert_acked(&right.send(lane, &sent).await);
    }
}

fn trusting(ca: Option<PathBuf>, settings: &KafkaSettings) -> KafkaSettings {
    KafkaSettings { security: Security::Tls { ca }, ..settings.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told() {
    for way in [Guarded::Scram, Guarded::ScramOverTls] {
        let Some(world) = KafkaWorld::guarded("password", way) else { return };
        let Security::ScramSha512 { user, tls, .. } = world.settings.security.clone() else { unreachable!() };
        let security = Security::ScramSha512 { user, password: Password::new("smoke-screen"), tls };
        let wrong = KafkaSettings { security, ..world.settings.clone() };
        is_told(
            &world,
            wrong,
            "does not let the user \"lookout\" in (KAFKA_USER, KAFKA_PASSWORD): Authentication failed",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_somebody_else_is_told() {
    let Some(world) = KafkaWorld::guarded("stranger", Guarded::Tls) else { return };
    let Security::Tls { ca: Some(ca) } = &world.settings.security else { unreachable!() };
    let wrong = trusting(Some(ca.with_file_name("stranger.pem")), &world.settings);
    is_told(&world, wrong, "is not signed by an authority that is trusted here: KAFKA_CA_FILE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_told() {
    for (way, host, part) in [
        (Guarded::Tls, "localhost", "certificate is not valid for localhost, only for"),
        (Guarded::ScramOverTls, "127.0.0.1", "certificate is not valid for 127.0.0.1, only for"),
    ] {
        let Some(world) = KafkaWorld::guarded("name", way) else { return };
        let port = world.settings.brokers.rsplit_once(':').unwrap().1;
        let wrong = KafkaSettings { brokers: format!("{host}:{port}"), ..world.settings.clone() };
        is_told(&world, wrong, part).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_speaks_otherwise_is_told() {
    let Some(plain) = KafkaWorld::fresh("port") else { return };
    let Some(tls) = KafkaWorld::guarded("port", Guarded::Tls) else { return };
    let security = tls.settings.security.clone();
    let wrong = KafkaSettings { security, ..plain.settings.clone() };
    is_told(&plain, wrong, "does this port of the broker speak it").await;
    let login = |tls| Security::ScramSha512 { user: "lookout".into(), password: Password::new("smoke-column"), tls };
    let wrong = KafkaSettings { security: login(None), ..plain.settings.clone() };
    is_told(&plain, wrong, "takes no login").await;
    let Security::Tls { ca } = tls.settings.security.clone() else { unreachable!() };
    let wrong = KafkaSettings { security: login(Some(Tls { ca })), ..tls.settings.clone() };
    is_told(&tls, wrong, "takes no login").await;
}

/// The broker throws out whoever stays longer than a session's three seconds.
#[tokio::test(flavor = "multi_thread")]
async fn records_flow_from_session_to_session() {
    let Some(world) = KafkaWorld::guarded("sessions", Guarded::Scram) else { return };
    let sink = world.open().await;
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(8) {
        for lane in Lane::ALL {
            assert_acked(&sink.send(lane, &[record("sessions", sent)]).await);
            sent += 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.read().await.len(), sent);
}

//! Kafka with TLS, a password and tokens: what a wrong setting is told, and that records flow once it is right.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use streammanager::aws::MskTokens;
use streammanager::error::BackendError;
use streammanager::record::Topic;
use streammanager::sink::conformance::{TestSink, assert_acked, record};
use streammanager::sink::kafka::{
    ConsumerGroups, KafkaSettings, KafkaSink, Password, Security, Tls, Token, TokenSource,
};
use streammanager::sink::{Lane, Sent, Sink};
use tokio::time::timeout;

use crate::worlds::{Guarded, KafkaWorld, LOOKOUT, REGION, signer, tokens};

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
    for way in [Guarded::Scram, Guarded::Iam] {
        let Some(world) = KafkaWorld::guarded(&format!("sessions-{way:?}"), way) else { return };
        flow(&world, Duration::from_secs(8)).await;
    }
}

/// On both lanes all the time, none twice.
async fn flow(world: &KafkaWorld, time: Duration) {
    let sink = world.open().await;
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < time {
        for lane in Lane::ALL {
            assert_acked(&sink.send(lane, &[record("sessions", sent)]).await);
            sent += 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.read().await.len(), sent);
}

/// A sink that shows tokens of this source.
fn showing(source: impl TokenSource + 'static, world: &KafkaWorld) -> KafkaSettings {
    let Security::Iam { tls, .. } = world.settings.security.clone() else { unreachable!() };
    KafkaSettings { security: Security::Iam { tokens: tokens(source), tls }, ..world.settings.clone() }
}

/// Signs on a host whose clock is so much too fast, which nobody there knows.
struct Skewed(MskTokens, SignedDuration);

#[async_trait]
impl TokenSource for Skewed {
    async fn token(&self, now: Timestamp) -> Result<Token, String> {
        let token = self.0.token(now + self.1).await?;
        Ok(Token { made: token.made - self.1, expires: token.expires - self.1, ..token })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_a_token_that_the_broker_does_not_take_is_told_on_both_lanes_and_at_the_start() {
    let Some(world) = KafkaWorld::guarded("tokens", Guarded::Iam) else { return };
    let (key, secret) = LOOKOUT;
    let skewed = |minutes| Skewed(signer(LOOKOUT, REGION), SignedDuration::from_mins(minutes));
    for (wrong, part) in [
        (showing(signer(("AKIDSTRANGER", secret), REGION), &world), "the token is of another access key"),
        (showing(signer((key, "smoke-screen"), REGION), &world), "the token is with a wrong signature"),
        (showing(signer(LOOKOUT, "us-east-1"), &world), "the token is for another region"),
        // A clock that is slow, and one that is fast.
        (showing(skewed(-16), &world), "the token is expired at"),
        (showing(skewed(10), &world), "the token is signed in the future"),
    ] {
        let wrong = KafkaSettings { try_time: Duration::from_secs(3), ..wrong };
        let sink = KafkaSink::connect(&wrong).unwrap();
        let Err(BackendError::Retry(problem)) = sink.check().await else { panic!("{part}: a topic is found") };
        assert!(problem.contains(part), "{problem}");
        timeout(Duration::from_secs(10), sink.login_refused()).await.expect(part);
        for lane in Lane::ALL {
            let sent = sink.send(lane, &[record("tokens", 0)]).await;
            let [Sent::Retry(problem)] = &sent[..] else { panic!("{part}: {lane:?}: {sent:?}") };
            assert!(problem.contains(part), "{lane:?}: {problem}");
            assert!(!problem.contains("smoke"), "a secret is shown: {problem}");
        }
        if part.contains("expired") {
            is_told(&world, wrong, "if this host's clock is right").await;
        }
    }
}

/// Who has no credentials yet, for their provider does not answer.
struct Late(MskTokens, Instant);

#[async_trait]
impl TokenSource for Late {
    async fn token(&self, now: Timestamp) -> Result<Token, String> {
        match self.1.elapsed() < Duration::from_secs(3) {
            true => Err("the profile's program does not answer".into()),
            false => self.0.token(now).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_credentials_that_come_late_are_no_refusal() {
    let Some(world) = KafkaWorld::guarded("late", Guarded::Iam) else { return };
    world.open().await;
    let sink = KafkaSink::connect(&showing(Late(signer(LOOKOUT, REGION), Instant::now()), &world)).unwrap();
    let sent = [record("late", 0)];
    let Err(BackendError::Retry(problem)) = sink.check().await else { panic!("a topic is found") };
    assert!(problem.contains("the profile's program does not answer"), "{problem}");
    // librdkafka asks for a token again after ten seconds.
    let outcomes = join_all(Lane::ALL.map(|lane| sink.send(lane, &sent))).await;
    outcomes.iter().for_each(|outcome| assert_acked(outcome));
    assert!(sink.login_refused().now_or_never().is_none(), "nobody refused anything");
}

/// Whose key is changed at the broker's side first, and here three seconds later.
struct Changed(MskTokens, MskTokens, Instant);

#[async_trait]
impl TokenSource for Changed {
    async fn token(&self, now: Timestamp) -> Result<Token, String> {
        let signer = if self.2.elapsed() < Duration::from_secs(3) { &self.0 } else { &self.1 };
        signer.token(now).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_a_refused_token_is_shown_no_longer_than_it_takes_to_make_another_one() {
    let Some(world) = KafkaWorld::guarded("changed", Guarded::Iam) else { return };
    world.open().await;
    let keys = ((LOOKOUT.0, "smoke-screen"), LOOKOUT);
    let changed = Changed(signer(keys.0, REGION), signer(keys.1, REGION), Instant::now());
    let settings = KafkaSettings { try_time: Duration::from_secs(1), ..showing(changed, &world) };
    let (sink, begun) = (KafkaSink::connect(&settings).unwrap(), Instant::now());
    for lane in Lane::ALL {
        while !sink.send(lane, &[record("changed", 0)]).await[0].is_acked() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{lane:?} shows the refused token for ever");
        }
    }
}

/// Signs long before, so that there are five seconds left when a token is shown.
struct Brief(MskTokens);

#[async_trait]
impl TokenSource for Brief {
    async fn token(&self, now: Timestamp) -> Result<Token, String> {
        self.0.token(now - SignedDuration::from_secs(895)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_records_flow_while_tokens_expire() {
    let Some(mut world) = KafkaWorld::guarded("brief", Guarded::Iam) else { return };
    world.settings = showing(Brief(signer(LOOKOUT, REGION)), &world);
    flow(&world, Duration::from_secs(15)).await;
}

/// Q4: a consumer logs in by a token too.
#[tokio::test(flavor = "multi_thread")]
async fn k1_where_a_group_is_can_be_asked_with_a_token() {
    let Some(mut world) = KafkaWorld::guarded("lag", Guarded::Iam) else { return };
    world.settings.groups = ConsumerGroups::parse(&format!("{}desk", world.settings.topic_prefix)).unwrap();
    let sink = world.connect();
    sink.check().await.unwrap();
    for n in 0..3 {
        let written = sink.send(Lane::Bulk, &[record("lag", n)]).await;
        assert_acked(&written);
    }
    let (topic, read) =
        world.read_topic(Topic::NASA_FIRMS).await.into_iter().next().map_or_else(
            || panic!("nothing was written"),
            |(partition, _)| (world.named(Topic::NASA_FIRMS), partition),
        );
    let desk: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.plain)
        .set("group.id", format!("{}desk", world.settings.topic_prefix))
        .create()
        .unwrap();
    let mut at = TopicPartitionList::new();
    at.add_partition_offset(&topic, read, Offset::Offset(0)).unwrap();
    tokio::task::spawn_blocking(move || desk.commit(&at, CommitMode::Sync).unwrap()).await.unwrap();
    let positions = sink.positions().await.unwrap();
    let [position] = &positions[..] else { panic!("{positions:?}") };
    assert_eq!((position.topic, position.partition, position.committed), (Topic::NASA_FIRMS, read, 0));
    assert!(position.end > 0, "{position:?}");
}

//! Where the brokers are and how to reach them, and what librdkafka is told about it. Every figure that is set for the
//! client stands here with its reason.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaResult;

use super::groups::ConsumerGroups;
use super::login::{LoginContext, Tokens};
use crate::limits::TRY;
use crate::settings::{BadSetting, variable};

/// Which brokers, and how they are spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `HOST:PORT`, several separated by commas.
    pub brokers: String,
    /// Put before every topic's name [K2].
    pub topic_prefix: String,
    /// How a connection is protected, and who we say we are.
    pub security: Security,
    /// A record that is not acknowledged by then is given up [R1].
    pub try_time: Duration,
    /// Whose reading is watched [Q4].
    pub groups: ConsumerGroups,
}

/// How a connection is protected and who we say we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// Neither TLS nor a password: for a network that is trusted.
    Plaintext,
    /// TLS without a password.
    Tls {
        /// A PEM file; without one those of `crate::authorities`.
        ca: Option<PathBuf>,
    },
    /// SASL/SCRAM-SHA-512, over TLS or, inside a trusted network, without.
    ScramSha512 {
        /// The user's name at the broker.
        user: String,
        /// The user's password.
        password: Password,
        /// `None`: without TLS.
        tls: Option<Tls>,
    },
    /// SASL/OAUTHBEARER over TLS, with tokens that an identity of AWS signs: MSK's IAM access control. Whoever hears a token is
    /// whom it stands for, so that there is no way without TLS.
    Iam {
        /// What makes them.
        tokens: Tokens,
        /// Whom we show them to.
        tls: Tls,
    },
}

/// Whom a TLS connection trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file; without one those of `crate::authorities`.
    pub ca: Option<PathBuf>,
}

/// Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub(crate) String);

impl Password {
    /// A password that is never shown again.
    pub fn new(text: impl Into<String>) -> Password {
        Password(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl KafkaSettings {
    /// Brokers that need neither TLS nor a password.
    ///
    /// # Errors
    /// When `brokers` is not a list of `HOST:PORT`.
    pub fn plaintext(brokers: &str, topic_prefix: &str) -> Result<KafkaSettings, BadSetting> {
        let settings = KafkaSettings {
            brokers: brokers.trim().to_owned(),
            topic_prefix: topic_prefix.to_owned(),
            security: Security::Plaintext,
            try_time: TRY,
            groups: ConsumerGroups::default(),
        };
        let is_address = |address: &str| match address.trim().rsplit_once(':') {
            Some((host, port)) => {
                !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
            }
            None => false,
        };
        if settings.brokers.split(',').all(is_address) {
            Ok(settings)
        } else {
            Err(BadSetting {
                name: "KAFKA_BROKERS".into(),
                rule: format!("{brokers:?} is not HOST:PORT or a list of them separated by commas"),
            })
        }
    }

    /// From an environment: `KAFKA_BROKERS`, `TOPIC_PREFIX`, and what `at` reads.
    ///
    /// # Errors
    /// For a setting that is missing or wrong.
    pub fn parse(environment: &BTreeMap<String, String>) -> Result<KafkaSettings, BadSetting> {
        let brokers = need(environment, "KAFKA_BROKERS", "HOST:PORT of the brokers, separated by commas")?;
        KafkaSettings::at(brokers, variable(environment, "TOPIC_PREFIX").unwrap_or_default(), environment)
    }

    /// These brokers, and from an environment how they are spoken to: `KAFKA_SECURITY` (`plaintext`, `tls`, `scram` over
    /// TLS, `scram_plaintext`, `iam` over TLS), `KAFKA_CA_FILE`, `KAFKA_USER`, `KAFKA_PASSWORD`, and for `iam` the region, which is
    /// that of the brokers' names or `AWS_REGION`; and whose reading is watched: `CONSUMER_GROUPS`.
    ///
    /// # Errors
    /// For a setting that is missing or wrong, or that this build has no code for.
    pub fn at(
        brokers: &str,
        topic_prefix: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<KafkaSettings, BadSetting> {
        let get = |name: &str| variable(environment, name);
        let plain = KafkaSettings::plaintext(brokers, topic_prefix)?;
        let ca = get("KAFKA_CA_FILE").map(PathBuf::from);
        let scram = |tls| -> Result<Security, BadSetting> {
            Ok(Security::ScramSha512 {
                user: need(environment, "KAFKA_USER", "the SCRAM user")?.to_owned(),
                password: Password::new(need(environment, "KAFKA_PASSWORD", "the SCRAM user's password")?),
                tls,
            })
        };
        let name = get("KAFKA_SECURITY").unwrap_or("plaintext");
        let security = match name {
            "plaintext" => Security::Plaintext,
            "tls" => Security::Tls { ca },
            "scram" => scram(Some(Tls { ca }))?,
            "scram_plaintext" => scram(None)?,
            "iam" => {
                let region = region_of(&plain.brokers).or(get("AWS_REGION")).ok_or_else(|| BadSetting {
                    name: "AWS_REGION".into(),
                    rule: "is not set, and the brokers' names do not say in which region their cluster is".into(),
                })?;
                Security::Iam { tokens: tokens_of(region)?, tls: Tls { ca } }
            }
            other => {
                let rule = format!("{other:?} is none of plaintext, tls, scram, scram_plaintext, iam");
                return Err(BadSetting { name: "KAFKA_SECURITY".into(), rule });
            }
        };
        supported(&security, name, cfg!(feature = "kafka-tls"))?;
        let groups = ConsumerGroups::parse(get("CONSUMER_GROUPS").unwrap_or_default())?;
        Ok(KafkaSettings { security, groups, ..plain })
    }

    /// A consumer that can log in. Its group, which it does not join by itself, is asked for by its name.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub fn consumer(&self, group: &str) -> KafkaResult<BaseConsumer<LoginContext>> {
        let mut config = self.client();
        config.set("group.id", group).set("enable.auto.commit", "false").set("allow.auto.create.topics", "false");
        let consumer: BaseConsumer<LoginContext> = config.create_with_context(LoginContext::new(self.tokens()))?;
        if self.tokens().is_some() {
            // Its first token: a question to the cluster does not poll.
            while consumer.poll(Duration::ZERO).is_some() {}
        }
        Ok(consumer)
    }

    /// What logs in where there is no password.
    pub(super) fn tokens(&self) -> Option<&Tokens> {
        match &self.security {
            Security::Iam { tokens, .. } => Some(tokens),
            Security::Plaintext | Security::Tls { .. } | Security::ScramSha512 { .. } => None,
        }
    }

    /// What every client of these brokers is told. One that has to show tokens needs more: see `consumer`.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "streammanager")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            // Idle connections are closed by every broker after 10 minutes: nothing to tell people.
            .set("log.connection.close", "false")
            // A broker that returns is found within a quarter of a second.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "250")
            .set("socket.connection.setup.timeout.ms", "2000");
        let (protocol, tls) = match &self.security {
            Security::Plaintext => ("plaintext", None),
            Security::Tls { ca } => ("ssl", Some(ca)),
            Security::ScramSha512 { tls: None, .. } => ("sasl_plaintext", None),
            Security::ScramSha512 { tls: Some(tls), .. } | Security::Iam { tls, .. } => ("sasl_ssl", Some(&tls.ca)),
        };
        config.set("security.protocol", protocol);
        match tls {
            None => {}
            Some(Some(file)) => drop(config.set("ssl.ca.location", file.to_string_lossy())),
            // Told, not looked for: OpenSSL's own place is this build's, which no other host has.
            #[cfg(feature = "kafka-tls")]
            Some(None) => drop(config.set("ssl.ca.pem", crate::authorities::pem())),
            #[cfg(not(feature = "kafka-tls"))]
            Some(None) => {}
        }
        match &self.security {
            Security::Plaintext | Security::Tls { .. } => &mut config,
            Security::ScramSha512 { user, password, .. } => config
                .set("sasl.mechanism", "SCRAM-SHA-512")
                .set("sasl.username", user)
                .set("sasl.password", &password.0),
            Security::Iam { .. } => config.set("sasl.mechanism", "OAUTHBEARER"),
        };
        config
    }

    /// The CRITICAL lane's producer [K3, K4].
    pub fn critical_producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            // A lost answer is asked for again, on a new connection and without a duplicate, within the same try.
            .set("request.timeout.ms", "1000")
            .set("socket.timeout.ms", "1500")
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "250")
            // A missing topic is made by us, with its partitions, never by the broker with its own number [K2].
            .set("allow.auto.create.topics", "false")
            // A topic that is not there is told as such instead of as silence.
            .set("topic.metadata.propagation.max.ms", "1000")
            // The client gives a record up by itself, so that no call ever has to end what others share.
            .set("message.timeout.ms", self.try_time.as_millis().to_string())
            .set("linger.ms", "0")
            .set("compression.codec", "none");
        config
    }
}

fn need<'a>(environment: &'a BTreeMap<String, String>, name: &str, what: &str) -> Result<&'a str, BadSetting> {
    variable(environment, name)
        .ok_or_else(|| BadSetting { name: name.into(), rule: format!("is not set; it must be {what}") })
}

/// The region that is part of the names of MSK's brokers, such as `b-1.fire.a1b2c3.c2.kafka.us-west-2.amazonaws.com`.
fn region_of(brokers: &str) -> Option<&str> {
    let (host, _) = brokers.split(',').next()?.trim().rsplit_once(':')?;
    let labels: Vec<&str> = host.split('.').collect();
    match labels.as_slice() {
        [.., "kafka" | "kafka-serverless", region, "amazonaws", "com"]
        | [.., "kafka" | "kafka-serverless", region, "amazonaws", "com", "cn"] => Some(region),
        _ => None,
    }
}

#[cfg(all(feature = "kafka-tls", feature = "aws"))]
fn tokens_of(region: &str) -> Result<Tokens, BadSetting> {
    let source = crate::aws::MskTokens::found_by_the_sdk(region);
    Ok(Tokens::new(std::sync::Arc::new(source), crate::time::Clock::system()))
}

#[cfg(not(all(feature = "kafka-tls", feature = "aws")))]
fn tokens_of(_region: &str) -> Result<Tokens, BadSetting> {
    let rule =
        "\"iam\" needs a build with the features kafka-tls and aws (cargo build --features kafka-tls,aws)".into();
    Err(BadSetting { name: "KAFKA_SECURITY".into(), rule })
}

/// SCRAM needs OpenSSL too, also where the connection is not encrypted.
fn supported(security: &Security, name: &str, with_tls: bool) -> Result<(), BadSetting> {
    if with_tls || *security == Security::Plaintext {
        return Ok(());
    }
    let rule = format!("{name:?} needs a build with the feature kafka-tls (cargo build --features kafka-tls)");
    Err(BadSetting { name: "KAFKA_SECURITY".into(), rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<KafkaSettings, String> {
        let environment = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        KafkaSettings::parse(&environment).map_err(|e| e.to_string())
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_rule() {
        for (pairs, part) in [
            (&[][..], "KAFKA_BROKERS: is not set"),
            (&[("KAFKA_BROKERS", "broker")], "\"broker\" is not HOST:PORT"),
            (&[("KAFKA_BROKERS", "a:1,b:70000")], "is not HOST:PORT"),
            (&[("KAFKA_BROKERS", "PLAINTEXT://a:1")], "is not HOST:PORT"),
            (&[("KAFKA_BROKERS", "a:1"), ("KAFKA_SECURITY", "ssl")], "KAFKA_SECURITY: \"ssl\" is none of"),
            (&[("KAFKA_BROKERS", "a:1"), ("KAFKA_SECURITY", "scram"), ("KAFKA_USER", "u")], "KAFKA_PASSWORD: is not"),
            (&[("KAFKA_BROKERS", "a:1"), ("KAFKA_SECURITY", "iam")], "AWS_REGION: is not set, and the brokers' names"),
        ] {
            let error = parse(pairs).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[cfg(feature = "kafka-tls")]
    #[test]
    fn a6_a_password_reaches_the_client_and_no_text() {
        let settings = parse(&[
            ("KAFKA_BROKERS", "a:1, b:2"),
            ("KAFKA_SECURITY", "scram"),
            ("KAFKA_USER", "deliver"),
            ("KAFKA_PASSWORD", "hunter2"),
            ("KAFKA_CA_FILE", "/etc/ca.pem"),
        ])
        .unwrap();
        let config = settings.critical_producer();
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("ssl.ca.location"), Some("/etc/ca.pem"));
        assert_eq!(config.get("sasl.password"), Some("hunter2"));
        assert!(!format!("{settings:?} {config:?}").contains("hunter2"));
    }

    #[test]
    fn k1_the_region_of_a_token_is_that_of_the_brokers_names() {
        for (brokers, region) in [
            ("b-1.fire.a1b2c3.c2.kafka.us-west-2.amazonaws.com:9098,b-2.x:1", Some("us-west-2")),
            ("boot-a1b2c3.c1.kafka-serverless.eu-central-1.amazonaws.com:9098", Some("eu-central-1")),
            ("b-1.fire.a1b2c3.c2.kafka.cn-north-1.amazonaws.com.cn:9098", Some("cn-north-1")),
            ("kafka.us-west-2.example.org:9098", None),
            ("127.0.0.1:9098", None),
        ] {
            assert_eq!(region_of(brokers), region, "{brokers}");
        }
    }

    #[cfg(all(feature = "kafka-tls", feature = "aws"))]
    #[test]
    fn k1_tokens_go_over_tls_alone() {
        for (broker, region) in [("a:1", Some("us-west-2")), ("b-1.x.c2.kafka.us-west-2.amazonaws.com:9098", None)] {
            let mut pairs =
                vec![("KAFKA_BROKERS", broker), ("KAFKA_SECURITY", "iam"), ("KAFKA_CA_FILE", "/etc/ca.pem")];
            pairs.extend(region.map(|region| ("AWS_REGION", region)));
            let config = parse(&pairs).unwrap().client();
            assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
            assert_eq!(config.get("sasl.mechanism"), Some("OAUTHBEARER"));
            assert_eq!(config.get("ssl.ca.location"), Some("/etc/ca.pem"));
        }
    }

    #[test]
    fn a_build_without_tls_refuses_every_setting_that_needs_it_and_names_the_feature() {
        let scram = Security::ScramSha512 { user: "u".into(), password: Password::new("p"), tls: None };
        for security in [Security::Tls { ca: None }, scram] {
            let refused = supported(&security, "as written", false).unwrap_err().to_string();
            assert!(refused.contains("KAFKA_SECURITY") && refused.contains("kafka-tls"), "{refused}");
            assert_eq!(supported(&security, "as written", true), Ok(()));
        }
        assert_eq!(supported(&Security::Plaintext, "plaintext", false), Ok(()));
    }

    /// Whatever this host has: both lanes of a build trust the same, and librdkafka can read it.
    #[cfg(feature = "kafka-tls")]
    #[test]
    fn tls_without_a_file_trusts_what_the_process_trusts_and_looks_nowhere_else() {
        let tls = [("KAFKA_BROKERS", "a:1"), ("KAFKA_SECURITY", "tls")];
        let config = parse(&tls).unwrap().client();
        assert_eq!(config.get("ssl.ca.pem"), Some(&*crate::authorities::pem()));
        assert_eq!(config.get("ssl.ca.location"), None);
        config.create::<rdkafka::producer::BaseProducer>().unwrap();
        assert_eq!(parse(&tls[..1]).unwrap().client().get("ssl.ca.pem"), None);
    }
}

//! What a function's process finds in its environment: the template's variables, with what their resources are called at the
//! endpoint of `--aws`, and where this host lets it reach the brokers and the MQTT clients.

use std::collections::BTreeMap;

use streammanager::queue::QueueRef;
use streammanager::sources;

use crate::template::Function;
use crate::up::backends::OnAws;
use crate::up::options::Destination;

/// What the template does not say of a function's environment.
#[derive(Debug)]
pub struct Surroundings<'t> {
    /// Where the declared resources are.
    pub aws: &'t OnAws,
    /// What the functions that send send to.
    pub destination: &'t Destination,
    /// `IOT_ENDPOINT`.
    pub confirmations: &'t str,
    /// The variables of the process that starts it: a few are passed on.
    pub host: &'t BTreeMap<String, String>,
}

/// How the brokers are spoken to, and where AWS's clients find the credentials that a login by KAFKA_SECURITY=iam signs with: of
/// those functions alone that speak to them.
const BROKERS: [&str; 15] = [
    "KAFKA_SECURITY",
    "KAFKA_CA_FILE",
    "KAFKA_USER",
    "KAFKA_PASSWORD",
    "HOME",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];
/// Credentials, which AWS puts there as well, and whom encrypted connections trust.
const OF_THE_HOST: [&str; 5] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "SSL_CERT_FILE", "SSL_CERT_DIR"];

pub(super) fn of(function: &Function, told: &Surroundings<'_>) -> BTreeMap<String, String> {
    let mut variables = function.environment.clone();
    for value in variables.values_mut() {
        if let Some(url) = told.aws.queues.get(&QueueRef::new(value)) {
            *value = url.as_str().to_owned();
        }
    }
    // There is no secret store here: the keys themselves come from this host's environment.
    for key in sources::services().filter_map(|service| service.key_setting) {
        variables.remove(&format!("{key}_SECRET"));
    }
    let mut set = |name: &str, value: &str| variables.insert(name.to_owned(), value.to_owned());
    set("AWS_ENDPOINT_URL", &told.aws.url);
    let speaks = function.environment.contains_key("KAFKA_BROKERS");
    match told.destination {
        Destination::Brokers(brokers) if speaks => set("KAFKA_BROKERS", brokers),
        // As AWS's own clients name it.
        Destination::Kinesis(url) => set("AWS_ENDPOINT_URL_KINESIS", url),
        Destination::Brokers(_) | Destination::Embedded(_) => None,
    };
    if function.environment.contains_key("IOT_ENDPOINT") {
        set("IOT_ENDPOINT", told.confirmations);
    }
    let brokers = BROKERS.iter().filter(|_| speaks);
    for name in brokers.chain(&OF_THE_HOST) {
        if let Some(value) = told.host.get(*name) {
            set(name, value);
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::template;

    #[test]
    fn l3_a_process_gets_the_templates_variables_with_the_endpoints_names_and_nothing_of_the_hosts() {
        let alone = [("KafkaBrokers", "127.0.0.1:9092"), ("KafkaSecurity", "plaintext"), ("Network", "none")];
        let alone = alone.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let template = template::built_in(&BTreeMap::from(alone)).unwrap();
        let queues = template
            .queues
            .iter()
            .map(|queue| (QueueRef::new(&queue.url()), QueueRef::new(&format!("http://aws.test/1/{}", queue.name))));
        let aws = OnAws { url: "http://aws.test".into(), region: "us-west-2".into(), queues: queues.collect() };
        let host = [
            ("KAFKA_SECURITY", "scram"),
            ("KAFKA_PASSWORD", "p"),
            ("AWS_PROFILE", "desk"),
            ("HOME", "/root"),
            ("SSL_CERT_FILE", "/ca"),
            ("EDITOR", "ed"),
        ];
        let host = host.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let destination = Destination::Brokers("broker:1".into());
        let told =
            Surroundings { aws: &aws, destination: &destination, confirmations: "http://iot.test/s", host: &host };
        for function in &template.functions {
            let variables = of(function, &told);
            let left = variables.values().find(|value| value.starts_with("local:"));
            assert_eq!(left, None, "{}: a queue without its URL", function.binary);
            assert_eq!(variables["CRITICAL_QUEUE_URL"], "http://aws.test/1/streammanager-dev-critical");
            assert!(!variables.contains_key("FIRMS_MAP_KEY_SECRET") && !variables.contains_key("EDITOR"));
            assert_eq!(variables["SSL_CERT_FILE"], "/ca");
            let speaks = ["express", "deliver"].contains(&function.binary.as_str());
            let wanted = speaks.then_some(("broker:1", "scram", "p"));
            let got = variables.get("KAFKA_BROKERS").map(|brokers| {
                (brokers.as_str(), variables["KAFKA_SECURITY"].as_str(), variables["KAFKA_PASSWORD"].as_str())
            });
            assert_eq!(got, wanted, "{}", function.binary);
            let profile = ["AWS_PROFILE", "HOME"].map(|name| variables.get(name).map(String::as_str));
            assert_eq!(profile, [speaks.then_some("desk"), speaks.then_some("/root")], "{}", function.binary);
            let confirms = variables.get("IOT_ENDPOINT").map(String::as_str);
            assert_eq!(confirms, (function.binary == "express").then_some("http://iot.test/s"));
        }
    }

    #[test]
    fn k1_a_process_that_writes_to_kinesis_is_told_where_it_is_and_nothing_of_brokers() {
        let parameters = [("Sink", "kinesis"), ("SinkStreams", "existing")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let template = template::built_in(&BTreeMap::from(parameters)).unwrap();
        let aws = OnAws { url: "http://aws.test".into(), region: "us-west-2".into(), queues: BTreeMap::new() };
        let (destination, host) = (Destination::Kinesis("http://kinesis.test".into()), BTreeMap::new());
        let told = Surroundings { aws: &aws, destination: &destination, confirmations: "", host: &host };
        for function in &template.functions {
            let variables = of(function, &told);
            assert_eq!(variables["SINK"], "kinesis");
            assert_eq!(variables["AWS_ENDPOINT_URL"], "http://aws.test");
            assert_eq!(variables["AWS_ENDPOINT_URL_KINESIS"], "http://kinesis.test");
            assert_eq!(variables.keys().find(|name| name.starts_with("KAFKA_")), None, "{}", function.binary);
        }
    }
}

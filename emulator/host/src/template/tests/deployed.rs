//! infra/template.yaml itself: what it says, and that changing it changes the model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use streammanager::record::{Tier, Topic};
use streammanager::settings::{GivenUp, Queues};
use streammanager::sources::services;
use streammanager_functions::control;

use crate::template::iot_sql::{Message, Text};
use crate::template::{Action, Auth, StartAt, Template, TemplateError, Trigger, load, parse, queue_name};

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/template.yaml"))
}

fn parameters() -> BTreeMap<String, String> {
    given(&[("StageInTopics", "never")])
}

fn given(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let all = [("KafkaBrokers", "127.0.0.1:9092"), ("Network", "none")].into_iter().chain(more.iter().copied());
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn deployed() -> Template {
    load(&path(), &parameters()).unwrap_or_else(|error| panic!("{error}"))
}

/// The template with one change, which must hit exactly once.
fn changed(from: &str, to: &str) -> Result<Template, TemplateError> {
    let text = std::fs::read_to_string(path()).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from:?}");
    parse(&text.replace(from, to), &path(), &parameters())
}

fn triggers<'t>(template: &'t Template, function: &str) -> &'t [Trigger] {
    &template.function(function).unwrap_or_else(|| panic!("no {function}")).triggers
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What some functions alone are told.
const OWN: [&str; 5] =
    ["IOT_ENDPOINT", "CONSUMER_GROUPS", "KAFKA_BROKERS", "KAFKA_SECURITY", "SENDER_ALERTS_PER_SECOND"];

#[test]
fn eight_functions_with_their_binaries_and_environments() {
    let template = deployed();
    let binaries: BTreeSet<_> = template.functions.iter().map(|function| function.binary.as_str()).collect();
    let expected = ["batch", "control", "deliver", "express", "realtime", "redrive", "schedule", "stream"];
    assert_eq!(binaries, BTreeSet::from(expected));
    assert_eq!(template.functions.len(), 8);
    for function in &template.functions {
        let get = |name: &str| function.environment.get(name).map(String::as_str);
        assert_eq!(get("CRITICAL_QUEUE_URL"), Some("local:streammanager-dev-critical"));
        assert_eq!(get("STREAM_TICKS_QUEUE_URL"), Some("local:streammanager-dev-stream-ticks"));
        for tier in Tier::ALL {
            // `ingest` runs without the template, on the same queues of a data folder.
            assert_eq!(get(&format!("{}_QUEUE_URL", tier.name())), Some(Queues::local().tier(tier).as_str()));
        }
        assert_eq!(get("STATE_TABLE"), Some("streammanager-StateTable"));
        assert_eq!(get("BLOBS_BUCKET"), Some("streammanager-blobsbucket"));
        // A6: whoever sends nothing has no brokers, and no secret of theirs.
        let sends = ["express", "deliver"].contains(&function.binary.as_str());
        assert_eq!(get("KAFKA_BROKERS"), sends.then_some("127.0.0.1:9092"));
        assert_eq!(get("KAFKA_SECURITY"), sends.then_some("tls"));
        assert_eq!(get("KAFKA_SECRET_ARN"), None, "TLS has no user");
        assert_eq!((get("SINK"), get("TOPIC_PREFIX")), (Some("kafka"), Some("")));
        for service in services() {
            assert_eq!(get(service.address_setting), Some(service.address));
        }
        // A6: each gets only the secret that it may read.
        let polls = ["batch", "realtime", "stream"].contains(&function.binary.as_str());
        let secrets = services().filter_map(|service| service.key_setting).map(|key| format!("{key}_SECRET"));
        let secrets: Vec<String> = secrets.collect();
        for secret in &secrets {
            assert_eq!(get(secret).is_some_and(|arn| arn.starts_with("arn:aws:secretsmanager:")), polls, "{secret}");
        }
        assert_eq!(get("IOT_ENDPOINT"), (function.binary == "express").then_some(""));
        assert_eq!(get("CONSUMER_GROUPS"), (function.binary == "deliver").then_some(""));
        for (name, value) in &function.environment {
            if name.ends_with("_QUEUE_URL") {
                assert!(queue_name(value).and_then(|name| template.queue(name)).is_some(), "{name}={value}");
            }
        }
        assert_eq!(get("SENDER_ALERTS_PER_SECOND"), (function.binary == "express").then_some("5"));
        // R4: what queues gave up is for the operator alone.
        let given_up = function.environment.iter().filter(|(name, _)| name.ends_with("_DEAD_LETTERS_URL"));
        let given_up: Vec<_> = given_up.filter_map(|(_, value)| template.queue(queue_name(value)?)).collect();
        assert_eq!(given_up.len(), if function.binary == "control" { GivenUp::ALL.len() } else { 0 });
        let is_own = |name: &str| OWN.contains(&name) || name.ends_with("_DEAD_LETTERS_URL");
        let own = function.environment.keys().filter(|name| secrets.contains(name) || is_own(name));
        assert_eq!(
            function.environment.len() - own.count(),
            18 + services().count(),
            "{:?}",
            function.environment.keys()
        );
    }
}

#[test]
fn functions_get_no_right_that_their_handlers_do_not_use() {
    let text = std::fs::read_to_string(path()).unwrap();
    let section = |function: &str| {
        let begin = text.find(&format!("\n  {function}:\n")).unwrap_or_else(|| panic!("no {function}")) + 1;
        text[begin..].split("\n\n").next().unwrap_or_default()
    };
    let redrive = section("RedriveFunction");
    let writes = ["sqs:", "StatePolicy", "PutItem", "BlobsPolicy\n"];
    assert!(writes.iter().all(|right| !redrive.contains(right)), "it writes nothing: {redrive}");
    for function in [
        "ScheduleFunction",
        "BatchFunction",
        "RealtimeFunction",
        "StreamFunction",
        "ExpressFunction",
        "DeliverFunction",
    ] {
        assert!(!section(function).contains("BlobsDeletePolicy"), "{function} deletes no stored bytes");
    }
    assert!(!section("ExpressFunction").contains("CriticalQueue"), "a copy is made void by a mark, not taken back");
}

#[test]
fn schedules_run_each_minute_or_hour_and_never_pile_up() {
    let template = deployed();
    for (function, id, every) in [
        ("ScheduleFunction", "EveryMinute", 60),
        ("DeliverFunction", "EveryMinute", 60),
        ("RedriveFunction", "EveryHour", 3600),
    ] {
        let expected = Trigger::Schedule {
            id: id.into(),
            every: seconds(every),
            flexible: Duration::ZERO,
            input: None,
            enabled: true,
        };
        assert_eq!(triggers(&template, function), [expected]);
        assert_eq!(template.function(function).unwrap().retries, 0);
    }
    let warm = Trigger::Schedule {
        id: "KeepWarm".into(),
        every: seconds(60),
        flexible: Duration::ZERO,
        input: Some(serde_json::json!({ "keep_warm": true })),
        enabled: true,
    };
    assert!(triggers(&template, "ExpressFunction").contains(&warm));
    assert_eq!(template.function("DeliverFunction").unwrap().timeout, seconds(900));
}

#[test]
fn each_mode_reads_its_own_ticks_one_at_a_time() {
    let template = deployed();
    for (function, queue) in
        [("BatchFunction", "batch-ticks"), ("RealtimeFunction", "realtime-ticks"), ("StreamFunction", "stream-ticks")]
    {
        let queues: Vec<_> = triggers(&template, function)
            .iter()
            .filter_map(|trigger| match trigger {
                Trigger::Queue { queue, batch_size, report_failures, max_concurrency, .. } => {
                    assert!(max_concurrency.is_some_and(|most| most <= 20), "{function} may take every environment");
                    Some((queue, *batch_size, *report_failures))
                }
                _ => None,
            })
            .collect();
        assert_eq!(queues, [(&format!("streammanager-dev-{queue}"), 1, true)]);
    }
}

#[test]
fn the_sensor_stream_feeds_stream_and_blocks_rather_than_loses() {
    let template = deployed();
    let expected = Trigger::Stream {
        stream: "streammanager-SensorStream".into(),
        batch_size: 1000,
        window: seconds(0),
        start: StartAt::Oldest,
        report_failures: true,
        bisect: true,
        retries: None,
        max_record_age: None,
        parallel: 1,
        on_failure: Some("streammanager-dev-sensor-failures".into()),
    };
    assert!(triggers(&template, "StreamFunction").contains(&expected));
    let [stream] = template.streams.as_slice() else { panic!("{:?}", template.streams) };
    assert_eq!((stream.shards, stream.retention), (None, seconds(7 * 86_400)));
}

#[test]
fn express_is_started_by_http_and_by_its_retry_queue() {
    let template = deployed();
    let express = template.function("ExpressFunction").unwrap();
    let retry = "streammanager-dev-express-retry";
    assert!(express.triggers.contains(&Trigger::Http {
        method: "POST".into(),
        path: "/alerts".into(),
        auth: Auth::Open,
        timeout: seconds(30),
    }));
    assert!(express.triggers.iter().any(|trigger| matches!(trigger, Trigger::Queue { queue, .. } if queue == retry)));
    assert_eq!((express.on_failure.as_deref(), express.retries), (Some(retry), 0));
}

#[test]
fn a5_the_template_and_the_control_api_have_the_same_routes_with_the_same_auth() {
    let template = deployed();
    let said: BTreeSet<_> = triggers(&template, "ControlFunction")
        .iter()
        .map(|trigger| match trigger {
            Trigger::Http { method, path, auth, .. } => (method.as_str(), path.as_str(), *auth == Auth::Signed),
            other => panic!("{other:?}"),
        })
        .collect();
    let answered =
        control::ROUTES.iter().map(|route| (route.method, route.path, route.auth == control::Auth::Operator));
    assert_eq!(said, answered.collect());
}

#[test]
fn queues_keep_what_is_accepted_and_every_dead_letter_queue_keeps_14_days() {
    let template = deployed();
    assert_eq!(template.queues.len(), 15);
    for tier in ["critical", "high", "normal", "low"] {
        let queue = template.queue(&format!("streammanager-dev-{tier}")).unwrap();
        assert_eq!(queue.retention, seconds(14 * 86_400));
        assert_eq!(queue.visibility, seconds(30));
        assert_eq!(queue.url(), format!("local:streammanager-dev-{tier}"));
        let dead = queue.dead_letter.as_ref().unwrap();
        assert_eq!(
            (dead.queue.as_str(), dead.max_receives),
            (&*format!("streammanager-dev-{tier}-dead-letters"), 1000)
        );
    }
    for queue in &template.queues {
        if let Some(dead) = &queue.dead_letter {
            assert_eq!(template.queue(&dead.queue).unwrap().retention, seconds(14 * 86_400));
        }
    }
}

#[test]
fn a_queue_that_starts_a_function_stays_hidden_six_times_its_timeout() {
    let template = deployed();
    for function in &template.functions {
        for trigger in &function.triggers {
            if let Trigger::Queue { queue, .. } = trigger {
                assert!(template.queue(queue).unwrap().visibility >= 6 * function.timeout, "{queue}");
            }
        }
    }
}

#[test]
fn the_table_and_the_bucket_are_there() {
    let template = deployed();
    let [table] = template.tables.as_slice() else { panic!("{:?}", template.tables) };
    let key = (table.partition_key.as_str(), table.sort_key.as_deref(), table.expires.as_deref());
    assert_eq!(key, ("pk", Some("sk"), Some("expires")));
    assert_eq!(template.buckets.len(), 1);
}

#[test]
fn sensors_go_to_the_stream_and_alerts_to_express() {
    let template = deployed();
    let rule = |id: &str| template.rules.iter().find(|rule| rule.logical_id == id).unwrap();
    let (sensors, alerts) = (rule("SensorsRule"), rule("AlertsRule"));
    assert_eq!((sensors.filter.as_str(), alerts.filter.as_str()), ("sensors/+/+/state", "alerts/+"));
    assert_eq!(sensors.select, alerts.select);
    assert!(sensors.enabled && alerts.enabled);
    let key = Text::parse("${topic()}").unwrap();
    let stream = "streammanager-SensorStream".into();
    assert_eq!(sensors.actions, [Action::Kinesis { stream, partition_key: Some(key) }]);
    assert_eq!(alerts.actions, [Action::Lambda { function: "ExpressFunction".into() }]);
    let to = |name: &str| Some(Action::Queue { queue: format!("streammanager-dev-{name}"), base64: false });
    assert_eq!(
        (sensors.error_action.clone(), alerts.error_action.clone()),
        (to("sensor-failures"), to("express-retry"))
    );

    let message = Message { topic: "alerts/x", payload: b"{", principal: "p", client: "c", now_ms: 5 };
    let event = alerts.select.evaluate(&message).unwrap().unwrap();
    let expected = serde_json::json!({
        "payload": "ew==", "topic": "alerts/x", "principal": "p", "client": "c", "received_at": 5,
    });
    assert_eq!(event, expected);
}

#[test]
fn what_is_not_honoured_is_named_in_a_few_lines() {
    let template = deployed();
    let lines: Vec<_> = template.unsupported.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 14, "{lines:#?}");
    let said = |words: &[&str]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(said(&["ExpressFunction", "ProvisionedConcurrencyConfig", "never start cold"]), "{lines:#?}");
    assert!(said(&["Key", "no secret store"]), "{lines:#?}");
    assert!(said(&["permissions, encryption", "not enforced"]), "{lines:#?}");
    assert!(said(&["DeploymentPreference", "without a canary"]), "{lines:#?}");
    assert!(said(&["deployment: nothing is checked", "(2 resources)"]), "{lines:#?}");
    assert!(said(&["BatchFunction and 7 more", "MemorySize"]), "{lines:#?}");
    for honoured in ["MaximumBatchingWindowInSeconds", "ParallelizationFactor"] {
        assert!(!said(&[honoured]), "the template asks for what is done here: {lines:#?}");
    }
    for honoured in ["BisectBatchOnFunctionError", "RetentionPeriodHours", "EventInvokeConfig"] {
        assert!(!said(&[honoured]), "{lines:#?}");
    }
    assert!(said(&["DestinationConfig.OnFailure", "has no longer"]), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("is ignored") || line.contains("is not run here")), "{lines:#?}");
}

#[test]
fn parameters_stand_over_defaults() {
    let mut parameters = parameters();
    parameters.insert("Stage".into(), "other".into());
    parameters.insert("FirmsBaseUrl".into(), "http://127.0.0.1:9".into());
    let template = load(&path(), &parameters).unwrap();
    let environment = &template.function("BatchFunction").unwrap().environment;
    assert_eq!(environment["FIRMS_BASE_URL"], "http://127.0.0.1:9");
    assert_eq!(environment["STAGE"], "other");
}

/// Nothing that two stages of an account or of a cluster share a service in has one name in both.
#[test]
fn d1_stages_share_no_topic_no_rule_and_no_name() {
    let stage = |name: &str, more: &[(&str, &str)]| {
        let all: Vec<_> = [("Stage", name)].into_iter().chain(more.iter().copied()).collect();
        load(&path(), &given(&all)).unwrap()
    };
    let topics = |template: &Template| {
        let environment = &template.function("ExpressFunction").unwrap().environment;
        let filters = template.rules.iter().map(|rule| rule.filter.clone()).collect::<Vec<_>>();
        (environment["TOPIC_PREFIX"].clone(), environment["MQTT_PREFIX"].clone(), filters)
    };
    let of = |kafka: &str, mqtt: &str| {
        (kafka.to_owned(), mqtt.to_owned(), vec![format!("{mqtt}alerts/+"), format!("{mqtt}sensors/+/+/state")])
    };
    assert_eq!(topics(&stage("prod", &[])), of("", ""));
    assert_eq!(topics(&stage("dev", &[])), of("dev-", "dev/"));
    assert_eq!(topics(&stage("test", &[])), of("test-", "test/"));
    assert_eq!(topics(&stage("prod", &[("StageInTopics", "always")])), of("prod-", "prod/"));
    assert_eq!(topics(&stage("dev", &[("StageInTopics", "never")])), of("", ""));
    assert_eq!(topics(&stage("dev", &[("TopicPrefix", "mine.")])), of("mine.", "dev/"));

    let text = std::fs::read_to_string(path()).unwrap();
    let given = ["FunctionName: !Sub", "            Name: ", "DashboardName: ", "AlarmName: ", "PolicyName: !"];
    for line in text.lines().filter(|line| given.iter().any(|name| line.contains(name))) {
        assert!(line.contains("${StackPrefix}-${Stage}"), "another stage has the same name: {line}");
    }
}

#[test]
fn d1_what_is_retained_blocks_no_create_and_can_be_imported_by_itself() {
    let text = std::fs::read_to_string(path()).unwrap();
    let resources = &text[text.find("\nResources:\n").unwrap()..text.find("\nOutputs:\n").unwrap()];
    let retained: Vec<&str> =
        resources.split("\n\n").filter(|resource| resource.contains("DeletionPolicy: RetainExceptOnCreate")).collect();
    assert!(
        !resources.contains("DeletionPolicy: Retain\n"),
        "a create that fails leaves it behind, and the next one fails"
    );
    let id = |resource: &str| {
        let head =
            resource.lines().find(|line| line.starts_with("  ") && line.ends_with(':') && !line.starts_with("   "));
        head.unwrap_or_else(|| panic!("{resource}")).trim_end_matches(':').trim().to_owned()
    };
    let ids: BTreeSet<String> = retained.iter().map(|resource| id(resource)).collect();
    let parameters = &text[text.find("\nParameters:\n").unwrap()..text.find("\nRules:\n").unwrap()];
    let given = |name: &str| parameters.contains(&format!("\n  {name}:\n"));
    assert!(ids.len() >= 18, "{ids:?}");
    for resource in retained {
        for name in ["QueueName:", "TableName:", "BucketName:", "      Name:", "LogGroupName:"] {
            // The streams that are written to are known by their names: the next stack is told that they exist.
            let own = resource.contains("AWS::StackId") || resource.contains("Condition: NewStreams");
            assert!(!resource.contains(name) || own, "what an earlier stack left has this name already: {resource}");
        }
        for named in resource.split("!GetAtt ").skip(1).chain(resource.split("!Ref ").skip(1)) {
            let named = named.split(['.', '\n', ',', ']', '}']).next().unwrap_or_default();
            let stays = ids.contains(named) || given(named) || named.starts_with("AWS::");
            assert!(stays, "{} cannot be imported without {named}", id(resource));
        }
    }
}

#[test]
fn k1_senders_are_told_the_secret_of_their_user() {
    let secret = "arn:aws:secretsmanager:us-west-2:000000000000:secret:AmazonMSK_fire-AbCdEf";
    let told = |template: &Template, function: &str| {
        template.function(function).unwrap().environment.get("KAFKA_SECRET_ARN").cloned()
    };
    let template = load(&path(), &given(&[("KafkaSecurity", "scram"), ("KafkaSecretArn", secret)])).unwrap();
    for function in ["ExpressFunction", "DeliverFunction"] {
        assert_eq!(told(&template, function).as_deref(), Some(secret));
    }
    assert_eq!(told(&template, "BatchFunction"), None);
    let made = load(&path(), &BTreeMap::from([("KafkaSecurity".to_owned(), "scram".to_owned())])).unwrap();
    assert!(told(&made, "ExpressFunction").unwrap().contains(":secret:AmazonMSK_streammanager-dev-"));
}

#[test]
fn k1_senders_that_log_in_by_their_roles_are_told_no_secret() {
    let cluster = "arn:aws:kafka:us-west-2:000000000000:cluster/fire/0a1b-2";
    let named = load(&path(), &given(&[("KafkaSecurity", "iam"), ("KafkaClusterArn", cluster)])).unwrap();
    let made = load(&path(), &BTreeMap::from([("KafkaSecurity".to_owned(), "iam".to_owned())])).unwrap();
    for template in [named, made] {
        for function in ["ExpressFunction", "DeliverFunction"] {
            let environment = &template.function(function).unwrap().environment;
            assert_eq!((&*environment["KAFKA_SECURITY"], environment.get("KAFKA_SECRET_ARN")), ("iam", None));
        }
    }
}

/// Given nothing, the stack makes brokers and their network; what is given of them has to go together.
#[test]
fn d1_brokers_and_network_are_created_or_named_and_rules_check_which() {
    let made = load(&path(), &BTreeMap::new()).unwrap();
    let environment = &made.function("ExpressFunction").unwrap().environment;
    assert_eq!(environment["KAFKA_BROKERS"], "streammanager-BrokerAddresses.Brokers");
    let lines: Vec<_> = made.unsupported.iter().map(ToString::to_string).collect();
    let network = lines.iter().find(|line| line.contains("network: ")).unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(network.contains("handlers use this host's network (1"), "{network}");
    assert!(lines.iter().any(|line| line.contains("Brokers") && line.contains("AWS::MSK::Cluster is not run here")));
    assert!(lines.iter().any(|line| line.contains("ControlFunction") && line.contains("VpcConfig")), "{lines:#?}");

    let refusal = |given: &[(&str, &str)]| {
        let given = given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        load(&path(), &given).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let brokers = ("KafkaBrokers", "b-1.example.org:9094,b-2.example.org:9094");
    let existing = [brokers, ("Network", "existing")];
    let named = [("VpcId", "vpc-0a1b2c3d"), ("SubnetIds", "subnet-0a1b2c3d,subnet-1a1b2c3d")];
    let routes = [("RouteTableIds", "rtb-1")];
    let interfaces = [("EndpointOfSqs", "existing"), ("EndpointOfSecrets", "existing"), ("EndpointOfIot", "existing")];
    let gateways = [("EndpointOfDynamoDb", "existing"), ("EndpointOfS3", "existing")];
    for (given, says) in [
        (vec![brokers], "Rules.NewNetworkIsForNewBrokers: Brokers that exist already are not reached from a new VPC"),
        (vec![("Network", "none")], "Rules.NewBrokersNeedANetwork: Without KafkaBrokers"),
        (vec![("KafkaSecurity", "plaintext")], "Rules.NewBrokersNeedANetwork: The cluster that the stack creates"),
        (
            vec![brokers, ("Network", "none"), ("KafkaSecurity", "scram")],
            "Rules.ScramNeedsItsUser: KafkaSecurity=scram needs KafkaSecretArn",
        ),
        (
            vec![brokers, ("Network", "none"), ("KafkaSecurity", "iam")],
            "Rules.IamNeedsItsCluster: KafkaSecurity=iam needs KafkaClusterArn",
        ),
        (existing.to_vec(), "Rules.ExistingNetworkIsNamed: Network=existing needs VpcId"),
        ([&existing[..], &named[..1]].concat(), "Network=existing needs SubnetIds"),
        ([&existing[..], &named].concat(), "Network=existing needs RouteTableIds, or EndpointOfDynamoDb=existing"),
        (
            [&existing[..], &named, &routes].concat(),
            "Network=existing needs ExistingVpcCidr, or existing endpoints of SQS",
        ),
        ([&existing[..], &named, &routes, &[("ExistingVpcCidr", "10.9.0.0/16")]].concat(), ""),
        ([&existing[..], &named, &routes, &interfaces].concat(), ""),
        ([&existing[..], &named, &interfaces, &gateways].concat(), ""),
        (
            vec![brokers, ("Network", "none"), ("Stage", "prod"), ("KafkaSecurity", "plaintext")],
            "Rules.ProductionIsEncrypted: Stage prod speaks to no broker without TLS",
        ),
    ] {
        let said = refusal(&given);
        assert!(said.contains(says) && said.is_empty() == says.is_empty(), "{given:?}: {said:?}");
    }
}

/// K1: with Kinesis nothing of Kafka is needed, told or made; the streams are the stack's, one a topic, or were there before.
#[test]
fn k1_with_kinesis_the_stack_has_a_stream_a_topic_and_nothing_of_kafka() {
    let kinesis = |more: &[(&str, &str)]| {
        let all = [("Sink", "kinesis")].into_iter().chain(more.iter().copied());
        load(&path(), &all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    };
    let names = |template: &Template| {
        let written = template.streams.iter().filter(|stream| stream.logical_id != "SensorStream");
        written.map(|stream| stream.name.clone()).collect::<BTreeSet<_>>()
    };
    for (given, prefix) in [
        (&[][..], "dev-"),
        (&[("Stage", "prod")][..], ""),
        (&[("TopicPrefix", "fire."), ("Network", "none")][..], "fire."),
    ] {
        let made = kinesis(given).unwrap();
        assert_eq!(names(&made), Topic::ALL.iter().map(|topic| format!("{prefix}{}", topic.name())).collect());
        for function in &made.functions {
            let get = |name: &str| function.environment.get(name).map(String::as_str);
            assert_eq!((get("SINK"), get("TOPIC_PREFIX")), (Some("kinesis"), Some(prefix)), "{}", function.binary);
            assert_eq!(function.environment.keys().find(|name| name.starts_with("KAFKA_")), None);
            assert_eq!(get("CONSUMER_GROUPS").unwrap_or_default(), "");
        }
        let lines: Vec<_> = made.unsupported.iter().map(ToString::to_string).collect();
        let of_kafka = ["AWS::MSK", "AWS::EC2", "VpcConfig"];
        assert!(!lines.iter().any(|line| of_kafka.iter().any(|kind| line.contains(kind))), "{lines:#?}");
    }
    assert_eq!(names(&kinesis(&[("SinkStreams", "existing")]).unwrap()), BTreeSet::new());
    assert_eq!(names(&load(&path(), &BTreeMap::new()).unwrap()), BTreeSet::new(), "Kafka has no streams");
    let needs = "Rules.KinesisTakesNothingOfKafka: Sink=kinesis needs neither";
    let vpc =
        [("Network", "existing"), ("VpcId", "vpc-0a1b"), ("SubnetIds", "subnet-0a1b"), ("RouteTableIds", "rtb-1")];
    for (given, says) in [
        (&[("KafkaBrokers", "b-1.example.org:9094")][..], needs),
        (&[("KafkaSecretArn", "arn:aws:secretsmanager:us-west-2:000000000000:secret:u")], needs),
        (&[&vpc[..], &[("ExistingVpcCidr", "10.9.0.0/16")]].concat(), needs),
        (&[("ConsumerGroups", "desk")], "Rules.KinesisTakesNothingOfKafka: Kinesis keeps no positions"),
        (&[("SinkStreams", "none")], "Parameters.SinkStreams: "),
        (&[("Sink", "kinesys")], "Parameters.Sink: "),
    ] {
        let refused = kinesis(given).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains(says), "{given:?}: {refused}");
    }
}

/// D1: what speaks to Kafka, and what asks nobody outside AWS: a poller inside would need a way out.
#[test]
fn d1_pollers_and_their_schedule_stay_outside_of_the_vpc() {
    let text = std::fs::read_to_string(path()).unwrap();
    for function in deployed().functions {
        let begin = text.find(&format!("\n  {}:\n", function.logical_id)).unwrap() + 1;
        let section = text[begin..].split("\n\n").next().unwrap_or_default();
        let inside = ["express", "deliver", "redrive", "control"].contains(&function.binary.as_str());
        assert_eq!(section.contains("VpcConfig: !If\n        - InVpc\n"), inside, "{}", function.binary);
    }
}

#[test]
fn a_deleted_schedule_is_gone() {
    let hourly = "        EveryHour:\n          Type: ScheduleV2\n          Properties:\n            \
                  Name: !Sub ${StackPrefix}-${Stage}-redrive\n            \
                  ScheduleExpression: rate(1 hour)\n            RetryPolicy:\n              \
                  MaximumRetryAttempts: 2\n              MaximumEventAgeInSeconds: 600\n";
    let template = changed(hourly, "").unwrap();
    assert_eq!(triggers(&template, "RedriveFunction"), []);
    assert_eq!(template.functions.len(), 8);
}

#[test]
fn a_renamed_queue_is_renamed_for_all_who_use_it() {
    let head = "  RealtimeTicksQueue:\n    Type: AWS::SQS::Queue\n    DeletionPolicy: Delete\n    UpdateReplacePolicy: Delete\n    Properties:\n";
    let template = changed(head, &format!("{head}      QueueName: other\n")).unwrap();
    assert!(template.queue("streammanager-dev-realtime-ticks").is_none());
    let queue = template.queue("other").unwrap();
    assert_eq!(template.function("ScheduleFunction").unwrap().environment["REALTIME_TICKS_QUEUE_URL"], queue.url());
    assert!(matches!(triggers(&template, "RealtimeFunction"), [Trigger::Queue { queue, .. }] if queue == "other"));
}

#[test]
fn a_renamed_queue_s_old_logical_id_is_an_error_wherever_it_is_still_used() {
    let error = changed("  HighQueue:\n", "  UpperQueue:\n").unwrap_err().to_string();
    assert!(error.contains("refers to \"HighQueue\", which is neither"), "{error}");
}

#[test]
fn a_changed_topic_filter_and_a_disabled_schedule_are_read() {
    let template = changed("FROM '${MqttPrefix}sensors/+/+/state'", "FROM 'telemetry/#'").unwrap();
    assert!(template.rules.iter().any(|rule| rule.filter == "telemetry/#"));
    assert!(!template.rules.iter().any(|rule| rule.filter.starts_with("sensors")));
    let template = changed("rate(1 hour)", "rate(2 hours)\n            State: DISABLED").unwrap();
    let expected = Trigger::Schedule {
        id: "EveryHour".into(),
        every: seconds(7200),
        flexible: Duration::ZERO,
        input: None,
        enabled: false,
    };
    assert_eq!(triggers(&template, "RedriveFunction"), [expected]);
}

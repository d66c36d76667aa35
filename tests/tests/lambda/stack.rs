//! The template deployed on an AWS endpoint that is not ours: its queues, table, bucket and secret under names of their own,
//! and each function with the environment that the template gives it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::Value;
use streammanager::aws::Aws;
use streammanager::time::Clock;
use streammanager_host::template::{self, Template};
use streammanager_tests::kafka_clients::rd;
use streammanager_tests::kafka_clients::target::{Embedded, Target};
use streammanager_tests::lambda_runtime::{Answer, Function};
use streammanager_tests::{aws, kafka, published, skip, workspace};
use tempfile::TempDir;

use crate::events;
use crate::outside::{Firms, Iot, MAP_KEY, Mood};

pub const REGION: &str = "us-west-2";

pub struct Stack {
    endpoint: String,
    aws: Aws,
    template: Template,
    /// URLs by the names that the template's queues have on a host.
    queues: BTreeMap<String, String>,
    /// What a stack's resources put into environments, by variable.
    resources: BTreeMap<&'static str, String>,
    prefix: String,
    pub firms: Firms,
    pub iot: Iot,
    kafka: Target,
    _embedded: Option<(Embedded, TempDir)>,
}

/// The template with these parameters, for brokers of its own outside of a VPC.
pub fn template(parameters: &[(&str, &str)]) -> Template {
    let alone = [("StageInTopics", "never"), ("Network", "none")];
    let parameters =
        alone.iter().chain(parameters).map(|(name, value)| (name.to_string(), value.to_string())).collect();
    template::load(&workspace().join("infra/template.yaml"), &parameters).unwrap()
}

impl Stack {
    /// `None`: the test is skipped, there is no AWS endpoint.
    pub async fn create(what: &str) -> Option<Stack> {
        Stack::with_iot(what, Mood::Well).await
    }

    pub async fn with_iot(what: &str, mood: Mood) -> Option<Stack> {
        let Some(endpoint) = aws() else {
            skip(what, "STREAMMANAGER_TEST_AWS is not set");
            return None;
        };
        let prefix = format!("l{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos());
        let (kafka, embedded) = match kafka() {
            Some(address) => (Target { address }, None),
            None => {
                let folder = tempfile::tempdir().unwrap();
                let broker = Embedded::start(folder.path()).await;
                (Target { address: broker.target.address.clone() }, Some((broker, folder)))
            }
        };
        let (firms, firms_url) = Firms::serve().await;
        let (iot, iot_url) = Iot::serve(mood).await;
        let template = template(&[
            ("StackPrefix", &prefix),
            ("TopicPrefix", &format!("{prefix}-")),
            ("KafkaBrokers", &kafka.address),
            ("KafkaSecurity", "plaintext"),
            ("FirmsBaseUrl", &firms_url),
            ("LogLevel", "info"),
        ]);
        let aws = Aws::connect(Some(&endpoint), REGION).await;
        let resources = BTreeMap::from([
            ("STATE_TABLE", create_table(&aws, &prefix).await),
            ("BLOBS_BUCKET", create_bucket(&aws, &prefix).await),
            ("FIRMS_MAP_KEY_SECRET", create_secret(&aws, &prefix).await),
            ("IOT_ENDPOINT", iot_url),
        ]);
        let queues = create_queues(&aws, &template, &prefix).await;
        Some(Stack { endpoint, aws, template, queues, resources, prefix, firms, iot, kafka, _embedded: embedded })
    }

    /// The function's variables in the template, with what the resources are called here.
    pub fn environment(&self, binary: &str) -> Vec<(String, String)> {
        let function = self.template.functions.iter().find(|function| function.binary == binary).unwrap();
        let mut environment: Vec<(String, String)> = function
            .environment
            .iter()
            .map(|(name, value)| {
                let queue = value.strip_prefix("local:").map(|queue| self.queues[queue].clone());
                let value = queue.or_else(|| self.resources.get(name.as_str()).cloned()).unwrap_or(value.clone());
                (name.clone(), value)
            })
            .collect();
        environment.push(("AWS_REGION".into(), REGION.into()));
        environment.push(("AWS_ENDPOINT_URL".into(), self.endpoint.clone()));
        environment
    }

    pub async fn start(&self, binary: &str) -> Function {
        self.start_with(binary, &[]).await
    }

    /// With some variables set otherwise.
    pub async fn start_with(&self, binary: &str, other: &[(&str, &str)]) -> Function {
        let mut environment: BTreeMap<String, String> = self.environment(binary).into_iter().collect();
        environment.extend(other.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        Function::start(binary, &environment).await.unwrap_or_else(|e| panic!("{binary} did not start: {e:#?}"))
    }

    /// `name` without the `Queue` at the end of its logical id.
    fn queue(&self, name: &str) -> &str {
        let is_meant = |id: &str| id.strip_suffix("Queue") == Some(name);
        let queue = self.template.queues.iter().find(|queue| is_meant(&queue.logical_id)).unwrap();
        &self.queues[&queue.name]
    }

    /// What an event source mapping does with one message: receive, invoke, delete unless it failed. `None`: there is none.
    pub async fn one_message(&self, queue: &str, function: &Function) -> Option<Answer> {
        let (sqs, url) = (aws_sdk_sqs::Client::new(self.aws.config()), self.queue(queue));
        let received = sqs.receive_message().queue_url(url).max_number_of_messages(1).send().await.unwrap();
        let message = received.messages.unwrap_or_default().pop()?;
        let (id, body) = (message.message_id.unwrap(), message.body.unwrap());
        let answer = function.invoke(events::sqs(queue, &[(&id, body)])).await;
        if answer.as_ref().is_ok_and(|answer| answer["batchItemFailures"] == serde_json::json!([])) {
            let receipt = message.receipt_handle.unwrap();
            sqs.delete_message().queue_url(url).receipt_handle(receipt).send().await.unwrap();
        }
        Some(answer)
    }

    /// Messages that could be received now.
    pub async fn waiting(&self, queue: &str) -> u32 {
        let sqs = aws_sdk_sqs::Client::new(self.aws.config());
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let of = sqs.get_queue_attributes().queue_url(self.queue(queue)).attribute_names(name.clone());
        of.send().await.unwrap().attributes.unwrap()[&name].parse().unwrap()
    }

    /// Returns when the state table holds this item.
    pub async fn wait_for_item(&self, partition: &str, sort: &str) {
        let client = aws_sdk_dynamodb::Client::new(self.aws.config());
        let text = |text: &str| AttributeValue::S(text.to_owned());
        for _ in 0..300 {
            let item = client.get_item().table_name(&self.resources["STATE_TABLE"]).consistent_read(true);
            if item.key("pk", text(partition)).key("sk", text(sort)).send().await.unwrap().item.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the state table never held {partition} {sort}");
    }

    /// A secret of this text; gives its ARN.
    pub async fn secret(&self, name: &str, text: &str) -> String {
        let secrets = aws_sdk_secretsmanager::Client::new(self.aws.config());
        let created = secrets.create_secret().name(format!("{}-{name}", self.prefix)).secret_string(text);
        created.send().await.unwrap().arn.unwrap()
    }

    /// The secret has this text from now on.
    pub async fn rotate(&self, secret: &str, text: &str) {
        let secrets = aws_sdk_secretsmanager::Client::new(self.aws.config());
        secrets.put_secret_value().secret_id(secret).secret_string(text).send().await.unwrap();
    }

    /// The ARN of the secret with the FIRMS map key.
    pub fn map_key_secret(&self) -> &str {
        &self.resources["FIRMS_MAP_KEY_SECRET"]
    }

    /// Each item of the state table, by its keys.
    pub async fn state(&self) -> BTreeMap<(String, String), String> {
        let client = aws_sdk_dynamodb::Client::new(self.aws.config());
        let scanned =
            client.scan().table_name(&self.resources["STATE_TABLE"]).consistent_read(true).send().await.unwrap();
        let text = |item: &HashMap<String, AttributeValue>, name: &str| item[name].as_s().unwrap().clone();
        let entry = |item: &HashMap<String, AttributeValue>| {
            let sorted: BTreeMap<_, _> = item.iter().collect();
            ((text(item, "pk"), text(item, "sk")), format!("{sorted:?}"))
        };
        scanned.items().iter().map(entry).collect()
    }

    /// The values of a topic, read by another client than the sink's; each is as published.
    pub async fn values(&self, topic: &str) -> Vec<Value> {
        let records = rd::read_all(&self.kafka, &format!("{}-{topic}", self.prefix)).await;
        let values: Vec<Value> = records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect();
        values.iter().for_each(|value| published::assert_valid(topic, value));
        values
    }

    pub async fn partitions(&self, topic: &str) -> usize {
        rd::partitions(&rd::consumer(&self.kafka, &[]), &format!("{}-{topic}", self.prefix)).unwrap().len()
    }
}

async fn create_queues(aws: &Aws, template: &Template, prefix: &str) -> BTreeMap<String, String> {
    use QueueAttributeName as Name;
    let sqs = aws_sdk_sqs::Client::new(aws.config());
    let mut urls = BTreeMap::new();
    for queue in &template.queues {
        let created = sqs
            .create_queue()
            .queue_name(format!("{prefix}-{}", queue.logical_id))
            .attributes(Name::VisibilityTimeout, queue.visibility.as_secs().to_string())
            .attributes(Name::MessageRetentionPeriod, queue.retention.as_secs().to_string())
            .attributes(Name::DelaySeconds, queue.delay.as_secs().to_string());
        urls.insert(queue.name.clone(), created.send().await.unwrap().queue_url.unwrap());
    }
    for queue in &template.queues {
        let Some(dead) = &queue.dead_letter else { continue };
        let arn = sqs.get_queue_attributes().queue_url(&urls[&dead.queue]).attribute_names(Name::QueueArn);
        let arn = arn.send().await.unwrap().attributes.unwrap()[&Name::QueueArn].clone();
        let policy =
            serde_json::json!({ "deadLetterTargetArn": arn, "maxReceiveCount": dead.max_receives.to_string() });
        let set = sqs.set_queue_attributes().queue_url(&urls[&queue.name]);
        set.attributes(Name::RedrivePolicy, policy.to_string()).send().await.unwrap();
    }
    urls
}

/// With the template's key schema.
async fn create_table(aws: &Aws, prefix: &str) -> String {
    let client = aws_sdk_dynamodb::Client::new(aws.config());
    let text = std::fs::read_to_string(workspace().join("infra/template.yaml")).unwrap();
    let (name, mut create) =
        (format!("{prefix}-state"), client.create_table().billing_mode(BillingMode::PayPerRequest));
    for (attribute, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        assert!(text.contains(&format!("{{AttributeName: {attribute}, KeyType: {}}}", kind.as_str())), "{attribute}");
        let definition = AttributeDefinition::builder().attribute_name(attribute);
        create = create
            .attribute_definitions(definition.attribute_type(ScalarAttributeType::S).build().unwrap())
            .key_schema(KeySchemaElement::builder().attribute_name(attribute).key_type(kind).build().unwrap());
    }
    create.table_name(&name).send().await.unwrap();
    name
}

async fn create_bucket(aws: &Aws, prefix: &str) -> String {
    let name = format!("{prefix}-blobs");
    aws.make_bucket(&name, Clock::system()).await.unwrap();
    name
}

/// As an operator puts it in, with a line's end behind it.
async fn create_secret(aws: &Aws, prefix: &str) -> String {
    let secrets = aws_sdk_secretsmanager::Client::new(aws.config());
    let created = secrets.create_secret().name(format!("{prefix}-firms")).secret_string(format!("{MAP_KEY}\n"));
    created.send().await.unwrap().arn.unwrap()
}

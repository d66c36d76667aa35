//! What the template says and this host does not do, gathered so that one sentence stands for all resources it holds for.

use std::collections::BTreeMap;

use super::model::Unsupported;
use super::properties::Properties;
use super::scope::{Declared, kind};

/// How a property that the reader does not act on is treated.
#[derive(Debug, Clone, Copy)]
pub(super) enum Treatment {
    /// Acted on, or without any meaning on one host.
    Quiet,
    /// Permissions, encryption, log retention: named once for all.
    Security,
    /// Named, with what happens instead.
    Instead(&'static str),
}
use Treatment::{Instead, Quiet, Security};

/// Per type, the properties that are known; any other is named as ignored.
type Known = [(&'static str, Treatment)];

pub(super) const FUNCTION: &Known = &[
    ("Architectures", Quiet),
    ("AutoPublishAlias", Quiet),
    ("AutoPublishAliasAllProperties", Quiet),
    ("CodeUri", Quiet),
    ("DeploymentPreference", Instead("a new build runs from its start, without a canary")),
    ("Description", Quiet),
    ("Environment", Quiet),
    ("EventInvokeConfig", Quiet),
    ("Events", Quiet),
    ("FunctionName", Quiet),
    ("Handler", Quiet),
    ("LoggingConfig", Security),
    ("MemorySize", Instead("handlers share this process's memory, without a limit of their own")),
    ("PermissionsBoundary", Security),
    ("Policies", Security),
    ("ProvisionedConcurrencyConfig", Instead("handlers run in this process and never start cold")),
    ("ReservedConcurrentExecutions", Instead("calls at a time have no limit")),
    ("Role", Security),
    ("Runtime", Quiet),
    ("Tags", Quiet),
    ("Timeout", Quiet),
    ("Tracing", Instead("no traces are taken; `streammanager trace` tells a record's way")),
    ("VersionDescription", Quiet),
    ("VpcConfig", Instead("handlers use this host's network")),
];
pub(super) const SCHEDULE_EVENT: &Known = &[
    ("Description", Quiet),
    ("Enabled", Quiet),
    // What cannot be handed over to Lambda: inside one process nothing.
    ("DeadLetterConfig", Quiet),
    ("FlexibleTimeWindow", Quiet),
    ("Input", Quiet),
    ("Name", Quiet),
    // It retries the hand-over to Lambda, which cannot fail inside one process.
    ("RetryPolicy", Quiet),
    ("Schedule", Quiet),
    ("ScheduleExpression", Quiet),
    ("ScheduleExpressionTimezone", Quiet),
    ("State", Quiet),
];
pub(super) const QUEUE_EVENT: &Known = &[
    ("BatchSize", Quiet),
    ("Enabled", Quiet),
    ("FilterCriteria", Instead("every message is passed on")),
    ("FunctionResponseTypes", Quiet),
    ("MaximumBatchingWindowInSeconds", Quiet),
    ("Queue", Quiet),
    ("ScalingConfig", Quiet),
];
pub(super) const STREAM_EVENT: &Known = &[
    ("BatchSize", Quiet),
    ("BisectBatchOnFunctionError", Quiet),
    ("DestinationConfig", Quiet),
    ("Enabled", Quiet),
    ("FilterCriteria", Instead("every record is passed on")),
    ("FunctionResponseTypes", Quiet),
    ("MaximumBatchingWindowInSeconds", Quiet),
    ("MaximumRecordAgeInSeconds", Quiet),
    ("MaximumRetryAttempts", Quiet),
    ("ParallelizationFactor", Quiet),
    ("StartingPosition", Quiet),
    ("StartingPositionTimestamp", Quiet),
    ("Stream", Quiet),
    ("TumblingWindowInSeconds", Instead("batches carry no window state")),
];
pub(super) const HTTP_EVENT: &Known = &[
    ("ApiId", Quiet),
    ("Auth", Quiet),
    ("Method", Quiet),
    ("Path", Quiet),
    ("PayloadFormatVersion", Instead("requests have format version 2.0")),
    ("TimeoutInMillis", Quiet),
];
pub(super) const QUEUE: &Known = &[
    ("DelaySeconds", Quiet),
    ("FifoQueue", Instead("messages are neither ordered nor deduplicated")),
    ("KmsMasterKeyId", Security),
    ("MaximumMessageSize", Instead("a message may have 1 MiB")),
    ("MessageRetentionPeriod", Quiet),
    ("QueueName", Quiet),
    ("ReceiveMessageWaitTimeSeconds", Quiet),
    ("RedriveAllowPolicy", Security),
    ("RedrivePolicy", Quiet),
    ("SqsManagedSseEnabled", Security),
    ("Tags", Quiet),
    ("VisibilityTimeout", Quiet),
];
pub(super) const STREAM: &Known = &[
    ("Name", Quiet),
    ("RetentionPeriodHours", Quiet),
    ("ShardCount", Quiet),
    ("StreamEncryption", Security),
    ("StreamModeDetails", Quiet),
    ("Tags", Quiet),
];
pub(super) const TABLE: &Known = &[
    ("AttributeDefinitions", Quiet),
    ("BillingMode", Quiet),
    ("DeletionProtectionEnabled", Security),
    ("GlobalSecondaryIndexes", Instead("the table has its own key only")),
    ("KeySchema", Quiet),
    ("LocalSecondaryIndexes", Instead("the table has its own key only")),
    ("PointInTimeRecoverySpecification", Security),
    ("ProvisionedThroughput", Instead("reads and writes have no limit")),
    ("SSESpecification", Security),
    ("StreamSpecification", Instead("changes of the table start nothing")),
    ("TableName", Quiet),
    ("Tags", Quiet),
    ("TimeToLiveSpecification", Quiet),
];
pub(super) const BUCKET: &Known = &[
    ("BucketEncryption", Security),
    ("BucketName", Quiet),
    ("LifecycleConfiguration", Instead("stored bytes are kept until the data folder is deleted")),
    ("NotificationConfiguration", Instead("new objects start nothing")),
    ("OwnershipControls", Security),
    ("PublicAccessBlockConfiguration", Security),
    ("Tags", Quiet),
    ("VersioningConfiguration", Security),
];
pub(super) const HTTP_API: &Known = &[
    ("Auth", Instead("the control key stands for a request that IAM signed")),
    ("AccessLogSettings", Security),
    ("DefaultRouteSettings", Instead("requests are not throttled")),
    ("RouteSettings", Instead("requests are not throttled")),
    ("Description", Quiet),
    ("FailOnWarnings", Quiet),
    ("Name", Quiet),
    ("StageName", Quiet),
    ("Tags", Quiet),
];
pub(super) const RULE: &Known = &[("RuleName", Quiet), ("Tags", Quiet), ("TopicRulePayload", Quiet)];

/// Types that say who may do what, and how it is kept safe.
const SECURITY_TYPES: [&str; 8] = [
    "AWS::IAM::",
    "AWS::IoT::Policy",
    "AWS::KMS::",
    "AWS::Lambda::Permission",
    "AWS::Logs::",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
];

/// Types that one sentence stands for: the beginnings of their names, what they are, and what happens instead.
const FAMILIES: [(&[&str], &str, &str); 3] = [
    (&["AWS::CloudWatch::", "AWS::SNS::"], "alarms and dashboards", "nobody is paged; GET /metrics has the figures"),
    (&["AWS::EC2::", "AWS::Route53::"], "network", "handlers use this host's network"),
    // Functions that are none of SAM's do something for the deployment.
    (
        &["AWS::CodeDeploy::", "AWS::Lambda::Function"],
        "deployment",
        "nothing is checked before it runs, and nothing turned back",
    ),
];

#[derive(Default)]
pub(super) struct Gathered {
    said: BTreeMap<(String, String), Vec<String>>,
    security: Vec<String>,
    /// Resources of each of the families.
    families: [usize; FAMILIES.len()],
}

impl Gathered {
    pub(super) fn say(&mut self, id: &str, property: &str, instead: impl Into<String>) {
        let ids = self.said.entry((property.to_owned(), instead.into())).or_default();
        if ids.last().is_none_or(|last| last != id) {
            ids.push(id.to_owned());
        }
    }

    /// Names whatever of these properties is not acted on. `prefix` is the path from the resource's own properties.
    pub(super) fn properties(&mut self, id: &str, prefix: &str, properties: &Properties<'_>, known: &Known) {
        for name in properties.names() {
            let treatment = known.iter().find(|(known, _)| *known == name).map(|(_, treatment)| *treatment);
            match treatment.unwrap_or(Instead("is ignored")) {
                Quiet => {}
                Security => self.security.push(format!("{id}.{prefix}{name}")),
                Instead(instead) => self.say(id, &format!("{prefix}{name}"), instead),
            }
        }
    }

    /// A resource of a type that the reader does not act on.
    pub(super) fn resource(&mut self, id: &str, resource: &Declared) {
        let kind = resource.kind.as_str();
        if SECURITY_TYPES.iter().any(|security| kind.starts_with(security)) {
            self.security.push(id.to_owned());
        } else if let Some(family) =
            FAMILIES.iter().position(|(types, ..)| types.iter().any(|begin| kind.starts_with(begin)))
        {
            self.families[family] += 1;
        } else if kind == kind::SECRET {
            self.say(id, "", "there is no secret store here; the value comes from this host's environment");
        } else {
            self.say(id, "", format!("{kind} is not run here"));
        }
    }

    pub(super) fn finish(self) -> Vec<Unsupported> {
        let mut all: Vec<_> = self
            .said
            .into_iter()
            .map(|((property, instead), resources)| Unsupported { resources, property, instead })
            .collect();
        for ((_, what, instead), count) in FAMILIES.iter().zip(self.families).filter(|(_, count)| *count > 0) {
            let instead = format!("{instead} ({count} resources)");
            all.push(Unsupported { resources: Vec::new(), property: (*what).into(), instead });
        }
        if !self.security.is_empty() {
            let count = self.security.len();
            all.push(Unsupported {
                resources: Vec::new(),
                property: "permissions, encryption, backups and log retention".into(),
                instead: format!("not enforced here ({count} properties and resources)"),
            });
        }
        all
    }
}

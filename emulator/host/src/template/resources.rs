//! Queues, streams, tables and buckets.

use std::time::Duration;

use super::error::Fault;
use super::model::{Bucket, DeadLetter, Queue, Standing, Stream, Table};
use super::properties::Properties;
use super::scope::{Scope, kind};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn queue(scope: &Scope<'_>, id: &str, properties: &Properties<'_>) -> Result<Queue, Fault> {
    let dead_letter = match properties.inner("RedrivePolicy")? {
        None => None,
        Some(policy) => {
            let queue = policy.required("deadLetterTargetArn", policy.text("deadLetterTargetArn")?)?;
            let max_receives = policy.required("maxReceiveCount", policy.count("maxReceiveCount", 1..=1000)?)?;
            let queue = queue_named(scope, &policy, "deadLetterTargetArn", &queue)?;
            Some(DeadLetter { queue, max_receives })
        }
    };
    // Defaults and bounds of SQS.
    Ok(Queue {
        logical_id: id.into(),
        name: scope.name_of(id)?,
        visibility: properties.seconds("VisibilityTimeout", 0..=43_200)?.unwrap_or(Duration::from_secs(30)),
        retention: properties.seconds("MessageRetentionPeriod", 60..=1_209_600)?.unwrap_or(96 * HOUR),
        delay: properties.seconds("DelaySeconds", 0..=900)?.unwrap_or_default(),
        receive_wait: properties.seconds("ReceiveMessageWaitTimeSeconds", 0..=20)?.unwrap_or_default(),
        dead_letter,
    })
}

/// The name of the queue that `text`, the value of that property, addresses by URL or ARN.
pub(super) fn queue_named(
    scope: &Scope<'_>,
    properties: &Properties<'_>,
    property: &str,
    text: &str,
) -> Result<String, Fault> {
    match scope.named(kind::QUEUE, text)? {
        Some(id) => scope.name_of(id),
        None => Err(properties.fault(property, format!("{text:?} is not a queue of this template"))),
    }
}

pub(super) fn stream(scope: &Scope<'_>, id: &str, properties: &Properties<'_>) -> Result<Stream, Fault> {
    let mode = match properties.inner("StreamModeDetails")? {
        Some(details) => details.text("StreamMode")?,
        None => None,
    };
    let shards = properties.count("ShardCount", 1..=10_000)?;
    let shards = match (mode.as_deref(), shards) {
        (Some("ON_DEMAND"), None) => None,
        (Some("ON_DEMAND"), Some(_)) => {
            return Err(properties.fault("ShardCount", "has no place in a stream on demand"));
        }
        (_, shards) => Some(properties.required("ShardCount", shards)?),
    };
    let hours = properties.count("RetentionPeriodHours", 24..=8760)?.unwrap_or(24);
    let (name, arn) = (scope.name_of(id)?, scope.arn(id)?);
    Ok(Stream { logical_id: id.into(), name, shards, arn, retention: hours * HOUR })
}

pub(super) fn table(scope: &Scope<'_>, id: &str, properties: &Properties<'_>) -> Result<Table, Fault> {
    let key = |wanted: &str| -> Result<Option<String>, Fault> {
        for part in properties.inners("KeySchema")? {
            if part.text("KeyType")?.as_deref() == Some(wanted) {
                return part.text("AttributeName");
            }
        }
        Ok(None)
    };
    let partition_key = properties.required("KeySchema", key("HASH")?)?;
    let sort_key = key("RANGE")?;
    let expires = match properties.inner("TimeToLiveSpecification")? {
        Some(spec) if spec.flag("Enabled")?.unwrap_or(false) => spec.text("AttributeName")?,
        _ => None,
    };
    Ok(Table { logical_id: id.into(), name: scope.name_of(id)?, partition_key, sort_key, expires })
}

pub(super) fn bucket(scope: &Scope<'_>, id: &str) -> Result<Bucket, Fault> {
    Ok(Bucket { logical_id: id.into(), name: scope.name_of(id)? })
}

/// Counts a resource that is paid for by the month.
pub(super) fn stands(kind: &str, properties: &Properties<'_>, standing: &mut Standing) -> Result<(), Fault> {
    let counted = match kind {
        // Each metric that it computes with is paid for.
        "AWS::CloudWatch::Alarm" => {
            let metrics = properties.inners("Metrics")?;
            let stats = metrics.iter().filter(|metric| metric.names().any(|name| name == "MetricStat")).count();
            standing.alarmed_metrics += stats.max(1) as u32;
            return Ok(());
        }
        "AWS::CloudWatch::Dashboard" => &mut standing.dashboards,
        kind::SECRET => &mut standing.secrets,
        "AWS::KMS::Key" => &mut standing.keys,
        "AWS::Route53::HostedZone" => &mut standing.hosted_zones,
        // Gateways cost nothing.
        "AWS::EC2::VPCEndpoint" if properties.text("VpcEndpointType")?.as_deref() == Some("Interface") => {
            standing.endpoint_zones += properties.list("SubnetIds")?.len() as u32;
            return Ok(());
        }
        "AWS::Logs::LogGroup" => {
            let days = properties.count("RetentionInDays", 1..=3653)?.unwrap_or_default();
            standing.log_days = standing.log_days.max(days);
            return Ok(());
        }
        _ => return Ok(()),
    };
    *counted += 1;
    Ok(())
}

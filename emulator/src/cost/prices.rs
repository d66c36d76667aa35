//! AWS's list prices in US dollars, from `infra/prices.json`, without free tiers and savings plans.

use serde::Deserialize;
use streammanager_host::template::Architecture;

const PRICES: &str = include_str!("../../../infra/prices.json");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    pub region: String,
    /// The month in which they were looked up.
    pub recorded: String,
    pub lambda: Lambda,
    pub sqs: Sqs,
    pub dynamodb: DynamoDb,
    pub s3: S3,
    pub kinesis: Kinesis,
    pub iot: Iot,
    pub scheduler: Scheduler,
    pub http_api: HttpApi,
    pub cloudwatch: CloudWatch,
    pub xray: XRay,
    pub secrets: Secrets,
    pub kms: Kms,
    pub route53: Route53,
    pub vpc: Vpc,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lambda {
    pub requests_per_million: f64,
    pub x86_64: Processors,
    pub arm64: Processors,
}

/// A second of a GB of a function's memory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Processors {
    pub gb_second: f64,
    /// Kept ready.
    pub ready_gb_second: f64,
    /// Of one that was kept ready, while it runs.
    pub ready_running_gb_second: f64,
}

impl Lambda {
    pub(crate) fn of(&self, architecture: Architecture) -> &Processors {
        match architecture {
            Architecture::X86 => &self.x86_64,
            Architecture::Arm => &self.arm64,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sqs {
    pub requests_per_million: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DynamoDb {
    pub writes_per_million: f64,
    pub reads_per_million: f64,
    pub gb_month: f64,
    /// Point-in-time recovery.
    pub recovery_gb_month: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3 {
    pub puts_per_thousand: f64,
    pub gets_per_thousand: f64,
    pub gb_month: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kinesis {
    pub on_demand_hour: f64,
    pub on_demand_gb_in: f64,
    pub on_demand_gb_out: f64,
    /// What is kept beyond a day.
    pub on_demand_gb_month_kept: f64,
    pub shard_hour: f64,
    pub puts_per_million: f64,
    pub shard_hour_kept: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Iot {
    pub messages_per_million: f64,
    pub rules_per_million: f64,
    pub actions_per_million: f64,
    pub connected_minutes_per_million: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scheduler {
    pub calls_per_million: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpApi {
    pub requests_per_million: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloudWatch {
    /// Taken in.
    pub log_gb: f64,
    pub log_gb_month: f64,
    pub metric_month: f64,
    pub alarm_month: f64,
    pub dashboard_month: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct XRay {
    pub traces_per_million: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Secrets {
    pub secret_month: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kms {
    pub key_month: f64,
    pub requests_per_ten_thousand: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route53 {
    pub zone_month: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vpc {
    /// One endpoint in one availability zone.
    pub endpoint_hour: f64,
    pub endpoint_gb: f64,
}

impl Prices {
    /// Those in this program.
    pub(crate) fn built_in() -> Result<Prices, String> {
        serde_json::from_str(PRICES).map_err(|e| format!("infra/prices.json: {e}"))
    }
}

//! A year's bill of one load.

use std::fmt;

use serde::Serialize;
use streammanager_host::template::{Architecture, Template};
use streammanager_simulate::usage::{Billed, Load, Usage};

use super::Prices;

const YEAR_S: f64 = 365.0 * 86_400.0;
const MONTHS: f64 = 12.0;
const HOURS: f64 = 8_760.0;
const DAYS_OF_YEAR: f64 = 365.0;
const GIB: f64 = 1_073_741_824.0;
/// What a processor that computes for a second is billed as, whatever the function's memory: Lambda gives a whole one for 1,769 MiB.
const CPU_GB: f64 = 1_769.0 / 1_024.0;
/// What Lambda itself logs of a call: three lines of JSON.
const LOG_BYTES_A_CALL: f64 = 900.0;
/// X-Ray takes the first call in each second and one in twenty of the others.
const TRACED_SHARE: f64 = 0.05;
/// Kinesis and DynamoDB ask KMS anew for a key that is AWS's own, but one's account's, after so long: DynamoDB for each function, Kinesis
/// for each shard as it is written and as it is read.
const KEY_KNOWN_S: f64 = 300.0;
/// Kinesis keeps a day without asking more.
const KEPT_DAYS_FREE: f64 = 1.0;

/// One line of a bill.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub service: &'static str,
    /// What is paid for.
    pub of: &'static str,
    /// In the unit that it is called by.
    pub a_year: f64,
    pub dollars: f64,
}

/// What a load costs in a year, without brokers.
#[derive(Debug, Serialize)]
pub(crate) struct Bill {
    pub load: Load,
    /// Delivered.
    pub records_a_year: f64,
    pub lines: Vec<Line>,
    pub dollars: f64,
}

/// The bill of what `usage` shows. `shards`: of the sensors' stream. `cpu_s`: what computing it all took on this host.
pub(crate) fn bill(load: Load, shards: u32, usage: &Usage, cpu_s: f64, template: &Template, prices: &Prices) -> Bill {
    let scale = YEAR_S / usage.seconds;
    let count = |what: Billed| usage.counts.get(&what).copied().unwrap_or_default() as f64 * scale;
    let mut lines = Vec::new();
    let mut line = |service, of, a_year: f64, price: f64| {
        lines.push(Line { service, of, a_year, dollars: a_year * price });
    };
    let million = 1e-6;

    let calls: f64 = usage.calls.values().map(|calls| calls.calls as f64 * scale).sum();
    // They are all of one kind.
    let architecture = template.functions.first().map_or(Architecture::X86, |function| function.architecture);
    let processors = prices.lambda.of(architecture);
    let (mut gb_s, mut express_gb_s, mut provisioned_gb) = (cpu_s * scale * CPU_GB, 0.0, 0.0);
    for function in &template.functions {
        let gb = f64::from(function.memory) / 1_024.0;
        let billed = usage.calls.get(function.binary.as_str()).map_or(0, |calls| calls.billed_ms) as f64;
        let ran = billed / 1_000.0 * scale * gb;
        if function.provisioned > 0 {
            express_gb_s += ran;
            provisioned_gb += gb * f64::from(function.provisioned);
        } else {
            gb_s += ran;
        }
    }
    line("Lambda", "requests", calls, prices.lambda.requests_per_million * million);
    line("Lambda", "GB s", gb_s, processors.gb_second);
    line("Lambda", "GB s, kept ready", provisioned_gb * YEAR_S, processors.ready_gb_second);
    line("Lambda", "GB s, of those at work", express_gb_s, processors.ready_running_gb_second);

    line("SQS", "requests", count(Billed::SqsRequests), prices.sqs.requests_per_million * million);

    line("DynamoDB", "write units", count(Billed::DynamoWrites), prices.dynamodb.writes_per_million * million);
    line("DynamoDB", "read units", count(Billed::DynamoReads), prices.dynamodb.reads_per_million * million);
    let stored = usage.stored_bytes as f64 / GIB * MONTHS;
    line("DynamoDB", "GB months", stored, prices.dynamodb.gb_month + prices.dynamodb.recovery_gb_month);

    line("S3", "objects written", count(Billed::S3Puts), prices.s3.puts_per_thousand / 1_000.0);
    line("S3", "objects read", count(Billed::S3Gets), prices.s3.gets_per_thousand / 1_000.0);
    // They are kept for the whole year at the most.
    line("S3", "GB months", count(Billed::S3Bytes) / GIB * MONTHS / 2.0, prices.s3.gb_month);

    let records = count(Billed::KinesisRecords);
    let gb = count(Billed::KinesisBytes) / GIB;
    let mut key_users = template.functions.len() as f64;
    for stream in &template.streams {
        key_users += 2.0 * f64::from(shards);
        let kept_days = (stream.retention.as_secs_f64() / 86_400.0 - KEPT_DAYS_FREE).max(0.0);
        if let Some(shards) = stream.shards.map(f64::from) {
            line("Kinesis", "shard hours", shards * HOURS, prices.kinesis.shard_hour);
            line("Kinesis", "records", records, prices.kinesis.puts_per_million * million);
            if kept_days > 0.0 {
                line("Kinesis", "shard hours, kept longer", shards * HOURS, prices.kinesis.shard_hour_kept);
            }
        } else {
            line("Kinesis", "hours", HOURS, prices.kinesis.on_demand_hour);
            line("Kinesis", "GB in", gb, prices.kinesis.on_demand_gb_in);
            line("Kinesis", "GB out", gb, prices.kinesis.on_demand_gb_out);
            let kept = gb / DAYS_OF_YEAR * kept_days * MONTHS;
            line("Kinesis", "GB months, kept longer", kept, prices.kinesis.on_demand_gb_month_kept);
        }
    }

    let messages = count(Billed::IotMessages);
    let connected = f64::from(load.devices) * YEAR_S / 60.0;
    line("IoT Core", "messages by topic", count(Billed::IotTopicMessages), prices.iot.messages_per_million * million);
    line("IoT Core", "rules triggered", messages, prices.iot.rules_per_million * million);
    line("IoT Core", "actions", messages, prices.iot.actions_per_million * million);
    line("IoT Core", "connected minutes", connected, prices.iot.connected_minutes_per_million * million);

    line("Scheduler", "calls", count(Billed::Scheduled), prices.scheduler.calls_per_million * million);
    line("API Gateway", "requests", count(Billed::HttpRequests), prices.http_api.requests_per_million * million);

    let of_calls: f64 = template
        .functions
        .iter()
        .filter(|function| function.calls_logged)
        .filter_map(|function| usage.calls.get(function.binary.as_str()))
        .map(|calls| calls.calls as f64 * scale * LOG_BYTES_A_CALL)
        .sum();
    let logged = (of_calls + count(Billed::LineBytes)) / GIB;
    line("CloudWatch", "GB of logs", logged, prices.cloudwatch.log_gb);
    let kept = logged * f64::from(template.standing.log_days) / DAYS_OF_YEAR * MONTHS;
    line("CloudWatch", "GB months of logs", kept, prices.cloudwatch.log_gb_month);
    line("CloudWatch", "metric months", usage.metrics as f64 * MONTHS, prices.cloudwatch.metric_month);
    let standing = template.standing;
    line("CloudWatch", "alarm months", f64::from(standing.alarmed_metrics) * MONTHS, prices.cloudwatch.alarm_month);
    line("CloudWatch", "dashboard months", f64::from(standing.dashboards) * MONTHS, prices.cloudwatch.dashboard_month);
    let traced: f64 = template
        .functions
        .iter()
        .filter(|function| function.traced)
        .filter_map(|function| usage.calls.get(function.binary.as_str()))
        .map(|calls| {
            let a_second = calls.calls as f64 / usage.seconds;
            (a_second.min(1.0) + (a_second - 1.0).max(0.0) * TRACED_SHARE) * YEAR_S
        })
        .sum();
    line("X-Ray", "traces", traced, prices.xray.traces_per_million * million);

    line("Secrets Manager", "secret months", f64::from(standing.secrets) * MONTHS, prices.secrets.secret_month);
    line("KMS", "key months", f64::from(standing.keys) * MONTHS, prices.kms.key_month);
    line("KMS", "requests", key_users * YEAR_S / KEY_KNOWN_S, prices.kms.requests_per_ten_thousand / 10_000.0);
    line("Route 53", "zone months", f64::from(standing.hosted_zones) * MONTHS, prices.route53.zone_month);
    line("VPC", "endpoint hours", f64::from(standing.endpoint_zones) * HOURS, prices.vpc.endpoint_hour);
    let passed = if standing.endpoint_zones > 0 { count(Billed::EndpointBytes) / GIB } else { 0.0 };
    line("VPC", "GB through endpoints", passed, prices.vpc.endpoint_gb);

    lines.retain(|line| line.dollars >= 0.005);
    let dollars = lines.iter().map(|line| line.dollars).sum();
    Bill { load, records_a_year: count(Billed::Records), lines, dollars }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "  {:<16} {:<24} {:>18} {:>12.2}", line.service, line.of, grouped(line.a_year), line.dollars)?;
        }
        writeln!(
            f,
            "  {:<16} {:<24} {:>18} {:>12.2}",
            "in all",
            "records delivered",
            grouped(self.records_a_year),
            self.dollars
        )
    }
}

/// 1234567.8 as 1,234,568.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use streammanager_host::template;
    use streammanager_simulate::usage::Calls;

    use super::*;

    fn of(counts: &[(Billed, u64)], calls: &[(&'static str, Calls)]) -> Bill {
        with(&[], counts, calls)
    }

    fn with(parameters: &[(&str, &str)], counts: &[(Billed, u64)], calls: &[(&'static str, Calls)]) -> Bill {
        let usage = Usage {
            seconds: 3_600.0,
            counts: counts.iter().copied().collect(),
            calls: calls.iter().copied().collect(),
            stored_bytes: 0,
            metrics: 3,
        };
        let parameters = parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let template = template::built_in(&parameters.collect()).unwrap();
        bill(Load { devices: 0, ..Load::REFERENCE }, 4, &usage, 0.0, &template, &Prices::built_in().unwrap())
    }

    fn dollars(bill: &Bill, service: &str, of: &str) -> f64 {
        bill.lines.iter().find(|line| line.service == service && line.of == of).map_or(0.0, |line| line.dollars)
    }

    #[test]
    fn f10_an_hours_counts_are_a_years_dollars() {
        let deliver = Calls { calls: 1_000, billed_ms: 3_600_000 };
        let bill = of(&[(Billed::SqsRequests, 1_000_000), (Billed::DynamoWrites, 1_000_000)], &[("deliver", deliver)]);
        let about =
            |dollars: f64, expected: f64| assert!((dollars - expected).abs() < 0.01, "{dollars}, not {expected}");
        about(dollars(&bill, "SQS", "requests"), 8_760.0 * 0.40);
        about(dollars(&bill, "DynamoDB", "write units"), 8_760.0 * 0.625);
        about(dollars(&bill, "Lambda", "requests"), 8.76 * 0.20);
        // One environment of 512 MiB at work all the year.
        about(dollars(&bill, "Lambda", "GB s"), YEAR_S / 2.0 * 0.0000166667);
        about(bill.dollars, bill.lines.iter().map(|line| line.dollars).sum());
    }

    #[test]
    fn f10_arm64_is_a_fifth_cheaper() {
        let calls = ["deliver", "express"].map(|name| (name, Calls { calls: 1, billed_ms: 3_600_000 }));
        let [x86, arm] = ["x86_64", "arm64"].map(|architecture| with(&[("Architecture", architecture)], &[], &calls));
        for of in ["GB s", "GB s, kept ready", "GB s, of those at work"] {
            let (x86, arm) = (dollars(&x86, "Lambda", of), dollars(&arm, "Lambda", of));
            assert!(arm > 0.0 && (arm / x86 - 0.8).abs() < 0.001, "{of}: {arm} against {x86}");
        }
    }

    /// Bytes are paid for by what is told, not by what a record might have.
    #[test]
    fn f10_bytes_are_paid_for_where_they_pass_and_where_they_lie() {
        let gib = GIB as u64;
        let bytes = [Billed::KinesisBytes, Billed::EndpointBytes, Billed::LineBytes].map(|what| (what, gib));
        let bill = of(&bytes, &[]);
        let about = |service, of, expected: f64| {
            let found = dollars(&bill, service, of);
            assert!((found - expected).abs() < 0.01, "{service}, {of}: {found}, not {expected}");
        };
        about("Kinesis", "GB in", 8_760.0 * 0.08);
        about("VPC", "GB through endpoints", 8_760.0 * 0.01);
        about("CloudWatch", "GB of logs", 8_760.0 * 0.50);
        // A month's lines lie there all the year.
        about("CloudWatch", "GB months of logs", 8_760.0 * 30.0 / 365.0 * 12.0 * 0.03);
        // Eight functions, and four shards that are written and read.
        about("KMS", "requests", 16.0 * 12.0 * 8_760.0 * 0.03 / 10_000.0);
    }

    /// What is there costs something also while nothing happens, and only what the parameters ask for.
    #[test]
    fn f10_an_idle_stack_is_paid_for_by_what_it_has() {
        let bill = of(&[], &[]);
        let all = template::built_in(&BTreeMap::new()).unwrap().standing;
        assert!(all.alarmed_metrics >= 40 && all.secrets >= 4 && all.endpoint_zones == 6, "{all:?}");
        assert!((dollars(&bill, "VPC", "endpoint hours") - 6.0 * 87.6).abs() < 0.01);
        assert!((dollars(&bill, "CloudWatch", "alarm months") - f64::from(all.alarmed_metrics) * 1.2).abs() < 0.01);
        let without: BTreeMap<_, _> = [("KafkaBrokers", "b.test:9092"), ("Network", "none")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        let none = template::built_in(&without).unwrap().standing;
        assert_eq!((none.endpoint_zones, none.hosted_zones), (0, 0));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0.4, 999.0, 1_000.0, 1_234_567.8].map(grouped), ["0", "999", "1,000", "1,234,568"]);
    }
}

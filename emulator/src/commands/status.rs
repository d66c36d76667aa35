//! `status`: queues, waits and the sink at a glance [O8].

use reqwest::Method;
use serde_json::Value;
use streammanager::record::Tier;
use streammanager::sink::Kind;
use streammanager::time::Timestamp;
use streammanager_host::exit::{Exit, Failure};

use super::api::call;
use super::operate::{cell, items, one_line, show, table};
use crate::cli::EndpointArgs;

/// A delivery on duty reports every few seconds.
const REPORT_SECONDS: i64 = 60;
/// Messages of a queue that takes 10,000: sources that feed it wait already [Q3].
const MANY: u64 = 8_000;
/// A longest wait beyond this is worth a person's look: the bound that no record should reach [P6].
const LONG_SECONDS: f64 = 12.0 * 60.0;

pub(crate) async fn status(endpoint: EndpointArgs) -> Result<Exit, Failure> {
    let status = call(&endpoint, Method::GET, "/status", None).await?;
    show(&endpoint, &status, lines)
}

pub(super) fn lines(status: &Value) -> Vec<String> {
    let heads = ["tier", "waiting", "oldest", "expected wait", "longest possible", "longest seen"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for tier in Tier::ALL.map(Tier::name) {
        let wait = &status["waits"]["tiers"][tier];
        let mut row = vec![tier.to_owned(), waiting(status, tier).to_string()];
        row.extend(
            ["oldest_s", "expected_s", "longest_possible_s", "longest_seen_s"].map(|field| seconds(&wait[field])),
        );
        rows.push(row);
    }
    let mut lines = table(&rows);
    let breaker = |lane: &str| {
        let state = status["circuit_breaker"][lane].as_str().unwrap_or("unknown").replace('_', "-");
        let since = status["circuit_breaker_since"][lane].as_str();
        since.map_or(state.clone(), |since| format!("{state} since {since}"))
    };
    lines.push(String::new());
    lines.push(format!("sink     alerts: breaker {}; other records: breaker {}", breaker("critical"), breaker("bulk")));
    lines.push(format!("streams  {} of {} active", status["streams"]["active"], status["streams"]["registered"]));
    lines.extend(items(&status["streams"]["waiting"]).iter().map(|stream| {
        let [id, until, because] = ["stream_id", "not_before", "because"].map(|field| cell(&stream[field]));
        let stale = match stream["stale_s"].as_u64() {
            Some(_) => format!("; its last good answer is stale, {} old", seconds(&stream["stale_s"])),
            None => String::new(),
        };
        format!("         {id} is not asked before {until}: {because}{stale}")
    }));
    lines.push(match status["waits"]["at"].as_str() {
        Some(at) => format!("waits    in messages and in the sink's time, as of {at}"),
        None => "waits    not known yet: nobody has been on duty to deliver".to_owned(),
    });
    lines.extend(items(&status["consumers"]["lags"]).iter().map(|lag| {
        let behind = match lag["records"].as_u64() {
            Some(0) => "has read everything".to_owned(),
            _ => format!("is {} behind, {} records", seconds(&lag["seconds"]), lag["records"]),
        };
        format!("readers  {} {behind} of {}", cell(&lag["group"]), cell(&lag["topic"]))
    }));
    lines.extend(items(&status["mqtt"]).iter().map(|broker| {
        let [id, since, problem] = ["id", "since", "problem"].map(|field| cell(&broker[field]));
        match broker["connected"].as_bool() {
            Some(true) => format!("mqtt     {id} connected since {since}"),
            _ => format!("mqtt     {id} NOT connected since {since}: {problem}"),
        }
    }));
    lines.push(action(status));
    lines
}

/// The one thing to do now.
fn action(status: &Value) -> String {
    let is_open = |lane: &str| status["circuit_breaker"][lane].as_str().is_some_and(|state| state != "closed");
    let long = Tier::ALL.map(Tier::name).into_iter().find(|tier| {
        status["waits"]["tiers"][*tier]["longest_possible_s"].as_f64().is_some_and(|possible| possible > LONG_SECONDS)
    });
    let many = Tier::ALL.map(Tier::name).into_iter().find(|tier| waiting(status, tier) > MANY);
    let anything = Tier::ALL.map(Tier::name).into_iter().any(|tier| waiting(status, tier) > 0);
    if let Some(closed) = status["intake_closed"].as_str() {
        format!("do       nothing new is taken in: {}", one_line(closed))
    } else if anything && !is_reported(status) {
        "do       nobody delivers what waits: look whether the system's deliver function runs".to_owned()
    } else if is_open("critical") || is_open("bulk") {
        let sink = status["sink"].as_str().and_then(|name| name.parse().ok()).map_or("the sink", Kind::proper_name);
        format!("do       look at {sink}: what comes is queued and goes out by itself when it takes records again")
    } else if let Some(tier) = long {
        format!(
            "do       {tier} may wait longer than 12 minutes: give the sink more room, or stop streams that feed this tier"
        )
    } else if let Some(tier) = many {
        format!(
            "do       the {tier} queue is nearly full: give the sink more room, or stop streams that feed this tier"
        )
    } else if let Some(broker) = items(&status["mqtt"]).iter().find(|broker| broker["connected"] == false) {
        let [id, problem] = ["id", "problem"].map(|field| cell(&broker[field]));
        format!("do       look at the MQTT broker {id}, of which nothing comes: {problem}")
    } else {
        "do       nothing: all is well".to_owned()
    }
}

/// Whether the delivery on duty has reported lately, by the system's own clock.
fn is_reported(status: &Value) -> bool {
    let at = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let age = at(&status["at"]).zip(at(&status["waits"]["at"])).map(|(now, then)| now.duration_since(then).as_secs());
    age.is_some_and(|seconds| seconds < REPORT_SECONDS)
}

fn waiting(status: &Value, tier: &str) -> u64 {
    let depth = &status["queues"][tier];
    ["visible", "in_flight", "delayed"].iter().filter_map(|part| depth[*part].as_u64()).sum()
}

pub(super) fn seconds(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1000.0),
        Some(seconds) if seconds < 120.0 => format!("{seconds:.1} s"),
        Some(seconds) => format!("{:.0} min", seconds / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(breaker: &str, low_possible: f64) -> Value {
        let wait = |possible: f64| json!({ "oldest_s": 0.004, "expected_s": 3.25, "longest_possible_s": possible, "longest_seen_s": 130.0 });
        json!({
            "at": "2026-09-01T19:00:03.000Z",
            "queues": { "LOW": { "visible": 7, "in_flight": 2, "delayed": 1 } },
            "circuit_breaker": { "critical": "closed", "bulk": breaker },
            "circuit_breaker_since": { "critical": null, "bulk": "2026-09-01T18:50:00.000Z" },
            "streams": { "registered": 5, "active": 4, "waiting": [
                { "stream_id": "snpp", "not_before": "2026-09-01T19:01:00.000Z", "throttled": true, "because": "LOW is 61 % used" },
            ] },
            "consumers": { "at": "2026-09-01T19:00:00.000Z", "lags": [
                { "group": "desk", "topic": "wildfire-weather", "records": 12, "seconds": 61.5 },
                { "group": "map", "topic": "wildfire-weather", "records": 0, "seconds": 0.0 },
            ] },
            "waits": { "at": "2026-09-01T19:00:00.000Z", "tiers": { "LOW": wait(low_possible) } },
        })
    }

    #[test]
    fn o8_waits_stand_beside_what_was_seen_and_the_one_thing_to_do_is_named() {
        let shown = lines(&status("closed", 40.0)).join("\n");
        let low = shown.lines().find(|line| line.starts_with("LOW")).unwrap_or_default();
        let cells: Vec<&str> = low.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["LOW", "10", "4 ms", "3.2 s", "40.0 s", "2 min"], "{shown}");
        let high = shown.lines().find(|line| line.starts_with("HIGH")).unwrap_or_default();
        assert!(high.contains('-'), "nothing is known of it: {high}");
        assert!(
            shown.contains("alerts: breaker closed; other records: breaker closed since 2026-09-01T18:50"),
            "{shown}"
        );
        assert!(shown.contains("4 of 5 active") && shown.ends_with("nothing: all is well"), "{shown}");
        assert!(shown.contains("snpp is not asked before 2026-09-01T19:01:00.000Z: LOW is 61 % used\n"), "{shown}");
        assert!(shown.contains("desk is 61.5 s behind, 12 records of wildfire-weather\n"), "{shown}");
        assert!(shown.contains("map has read everything of wildfire-weather\n"), "{shown}");
        let mut open = status("half_open", 40.0);
        for sink in Kind::ALL {
            open["sink"] = sink.name().into();
            let wanted = format!("look at {}: what comes is queued", sink.proper_name());
            assert!(lines(&open).join("\n").contains(&wanted), "{sink:?}");
        }
        let mut stale = status("closed", 40.0);
        stale["at"] = "2026-09-01T19:02:00.000Z".into();
        assert!(lines(&stale).join("\n").contains("nobody delivers"));
        let mut closed = status("open", 40.0);
        closed["intake_closed"] = "an fsync failed: check the disk".into();
        assert!(lines(&closed).join("\n").ends_with("nothing new is taken in: an fsync failed: check the disk"));
        let mut full = status("closed", 40.0);
        full["queues"]["HIGH"] = json!({ "visible": 8_001 });
        assert!(lines(&full).join("\n").contains("the HIGH queue is nearly full"));
        let mut apart = status("closed", 40.0);
        apart["mqtt"] =
            json!([{ "id": "butte", "connected": false, "since": "2026-09-01T18:50:00.000Z", "problem": "no route" }]);
        let shown = lines(&apart).join("\n");
        assert!(shown.ends_with("look at the MQTT broker butte, of which nothing comes: no route"), "{shown}");
        assert!(lines(&status("closed", 721.0)).join("\n").contains("LOW may wait longer than 12 minutes"));
    }
}

//! The deployed topic rules' statements, and what is near to them.

use serde_json::json;

use super::*;

const STATEMENT: &str = "SELECT encode(*, 'base64') AS payload, topic() AS topic, principal() AS principal, \
                         clientid() AS client, timestamp() AS received_at FROM 'sensors/+/+/state'";

fn message(payload: &[u8]) -> Message<'_> {
    Message {
        topic: "sensors/smoke/s-7/state",
        payload,
        principal: "ab12",
        client: "gateway-1",
        now_ms: 1_700_000_000_123,
    }
}

fn select(sql: &str, payload: &[u8]) -> Option<Value> {
    parse(sql).unwrap().select.evaluate(&message(payload)).unwrap()
}

fn refusal(sql: &str) -> String {
    parse(sql).unwrap_err().to_string()
}

#[test]
fn the_template_s_statement_wraps_any_bytes() {
    let query = parse(STATEMENT).unwrap();
    assert_eq!(query.filter, "sensors/+/+/state");
    let event = query.select.evaluate(&message(&[0xff, 0x00, b'{'])).unwrap().unwrap();
    let expected = json!({
        "payload": "/wB7",
        "topic": "sensors/smoke/s-7/state",
        "principal": "ab12",
        "client": "gateway-1",
        "received_at": 1_700_000_000_123_u64,
    });
    assert_eq!(event, expected);
}

#[test]
fn keywords_and_functions_ignore_case_and_layout() {
    let folded = STATEMENT.replace("SELECT", "select\n ").replace(" AS ", "\tas ").replace("clientid", "clientId");
    assert_eq!(parse(&folded), parse(STATEMENT));
}

#[test]
fn a_topic_s_levels_count_from_one_and_a_missing_one_is_left_out() {
    let sql = "SELECT topic(1) AS a, topic(3) AS b, topic(9) AS c, 'x' AS d, 1.5 AS e, true AS f FROM '#'";
    assert_eq!(select(sql, b""), Some(json!({ "a": "sensors", "b": "s-7", "d": "x", "e": 1.5, "f": true })));
    assert!(refusal("SELECT topic(0) AS a FROM '#'").contains("from 1"));
}

#[test]
fn a_star_takes_the_payload_s_own_fields_and_needs_an_object() {
    let sql = "SELECT *, topic(2) AS kind FROM 'a'";
    assert_eq!(select(sql, br#"{"pm":1,"kind":"old"}"#), Some(json!({ "pm": 1, "kind": "smoke" })));
    let star = parse(sql).unwrap().select;
    assert!(star.evaluate(&message(b"offline")).unwrap_err().to_string().contains("JSON object"));
    assert_eq!(select("SELECT site.id, pm AS level FROM 'a'", br#"{"site":{"id":4}}"#), Some(json!({ "id": 4 })));
}

#[test]
fn where_holds_back_what_is_false_or_undefined() {
    let taken = |condition: &str| {
        let sql = format!("SELECT topic() AS t FROM 'a' WHERE {condition}");
        select(&sql, br#"{"pm":12.5,"text":"9","ok":true}"#).is_some()
    };
    assert!(taken("pm > 12"));
    assert!(!taken("pm > 12.5"));
    assert!(taken("pm >= 12.5 AND NOT pm <> 12.5"));
    assert!(taken("text < 10"), "a text that is a number compares as one with a number");
    assert!(!taken("text > '10'"), "and so do two such texts");
    assert!(taken("ok = true AND topic(2) = 'smoke'"));
    assert!(!taken("absent = 1"));
    assert!(!taken("NOT absent = 1"), "undefined stays undefined");
    assert!(taken("absent = 1 OR pm = 12.5"));
    assert!(taken("(pm = 1 OR pm = 12.5) AND client != 'x' OR clientid() = 'gateway-1'"));
    assert!(!taken("pm = 1 AND ok = true OR pm = 2"));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    assert!(refusal("SELECT get_thing_shadow('a','b') AS s FROM 'a'").contains("get_thing_shadow()"));
    assert!(refusal("SELECT encode(pm, 'base64') AS s FROM 'a'").contains("encode(*, 'base64')"));
    assert!(refusal("SELECT encode(*, 'hex') AS s FROM 'a'").contains("encode(*, 'base64')"));
    assert!(refusal("SELECT topic() FROM 'a'").contains("needs AS"));
    assert!(refusal("SELECT pm AS a.b FROM 'a'").contains("nested"));
    assert!(refusal("SELECT pm + 1 AS a FROM 'a'").contains("'+'"));
    assert!(refusal("SELECT * FROM a").contains("in quotes; found a"));
    assert!(refusal("SELECT * FROM 'a").contains("no closing '"));
    assert!(refusal("SELECT * 'a'").contains("FROM is missing"));
    assert!(refusal("SELECT * FROM 'a' LIMIT 3").contains("found LIMIT"));
    assert!(refusal("SELECT FROM 'a'").contains("FROM stands where a value should"));
    assert!(refusal("").contains("SELECT is missing"));
    assert!(refusal("DELETE FROM 'a'").contains("found DELETE"));
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |depth: usize| format!("SELECT * FROM 'a' WHERE {}pm = 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(30)).is_ok());
    assert!(refusal(&nested(3000)).contains("nested more than"));
    assert!(refusal(&format!("SELECT * FROM 'a' WHERE {} ok", "NOT ".repeat(2000))).contains("nested more than"));
    assert!(refusal(&format!("SELECT '{}' AS a FROM 'a'", "x".repeat(9000))).contains("at most 8192"));
}

#[test]
fn filters_have_wildcards_as_whole_levels_only() {
    for good in ["a", "+/b", "a/#", "#", "$aws/things/+/shadow"] {
        assert_eq!(parse(&format!("SELECT * FROM '{good}'")).unwrap().filter, good);
    }
    for bad in ["", "a+/b", "a/#/b", "a#", "1/2/3/4/5/6/7/8/9"] {
        assert!(refusal(&format!("SELECT * FROM '{bad}'")).contains("topic filter"), "{bad}");
    }
}

#[test]
fn a_partition_key_is_filled_in_from_the_message() {
    let key = |text: &str| Text::parse(text).unwrap().evaluate(&message(br#"{"n":3}"#));
    assert_eq!(key("${topic()}"), "sensors/smoke/s-7/state");
    assert_eq!(key("k-${topic(3)}-${n}-${absent}."), "k-s-7-3-.");
    assert_eq!(key("plain"), "plain");
    assert!(Text::parse("${newuuid()}").unwrap_err().to_string().contains("newuuid()"));
    assert!(Text::parse("${topic()").is_err());
}

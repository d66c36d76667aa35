//! Rules of AWS IoT: its SQL, topic filters, actions, error actions, Basic Ingest, and what MQTT clients are answered.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use streammanager::faults::Fault;
use streammanager::time::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::case::{Case, Outcome, Unmet, cases, holds};
use super::lab::{World, fine, function, pass, queue, refused, rule, to_queue};

pub type Check = fn(()) -> BoxFuture<'static, Outcome>;

const SELECT: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-select.html";
const FROM: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-from.html";
const WHERE: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-where.html";
const OPERATORS: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-operators.html";
const TYPES: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-data-types.html";
const FUNCTIONS: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html";
const BINARY: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/binary-payloads.html";
const TEMPLATES: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-substitution-templates.html";
const TOPICS: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/topics.html";
const RULES: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-rules.html";
const CREATE: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-create-rule.html";
const ERRORS: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html";
const INGEST: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-basic-ingest.html";
const MQTT: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/mqtt.html";
const TO_SQS: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/sqs-rule-action.html";
const TO_KINESIS: &str = "https://docs.aws.amazon.com/iot/latest/developerguide/kinesis-rule-action.html";

/// What of a message on this topic a statement hands on.
async fn selected(sql: &str, topic: &str, payload: &str) -> Result<Vec<Value>, Unmet> {
    let world = World::new(&(queue("out", "") + &rule("r", sql, &to_queue("out"), "")), fine).await?;
    world.publish(topic, payload).await?;
    world.bodies("out").await?.iter().map(|body| Ok(serde_json::from_str(body)?)).collect()
}

/// Whether a condition lets this message through.
async fn passes(condition: &str, payload: &str) -> Result<bool, Unmet> {
    Ok(!selected(&format!("SELECT * FROM 'a/b' WHERE {condition}"), "a/b", payload).await?.is_empty())
}

/// Whether a topic filter takes a topic.
async fn takes(filter: &str, topic: &str) -> Result<bool, Unmet> {
    Ok(!selected(&format!("SELECT * FROM '{filter}'"), topic, "{}").await?.is_empty())
}

const LAMP: &str = r#"{"color":"red","temperature":50}"#;

/// Two rules of one topic, and a queue for each.
fn two_rules() -> String {
    queue("one", "")
        + &queue("two", "")
        + &rule("one", "SELECT *, topic() AS t, topic(2) AS level FROM 'Buildings/#'", &to_queue("one"), "")
        + &rule("two", "SELECT * FROM 'Buildings/#'", &to_queue("two"), "")
}

/// A rule of two actions with an error action, of which so many fail.
async fn failing(failures: usize) -> Result<World, Unmet> {
    let actions = format!("{}, {}", to_queue("one"), to_queue("two"));
    let more = format!(", ErrorAction: {}", to_queue("failed"));
    let resources = queue("one", "")
        + &queue("two", "")
        + &queue("failed", "")
        + &rule("TestAction", "SELECT * FROM 'in'", &actions, &more);
    let world = World::new(&resources, fine).await?;
    world.faults.script(vec![Fault::Before; failures]);
    world.publish("in", r#"{"n":1}"#).await?;
    Ok(world)
}

async fn failure() -> Result<Value, Unmet> {
    Ok(serde_json::from_str(failing(1).await?.bodies("failed").await?.first().ok_or("no error action ran")?)?)
}

/// A client of MQTT 3.1.1 that says what it is told to, byte by byte.
struct Client(TcpStream);

impl Client {
    async fn connect(world: &World, id: &str) -> Result<Client, Unmet> {
        let mut client = Client(TcpStream::connect(world.lab.mqtt()).await?);
        let mut rest = b"\x00\x04MQTT\x04\x02\x00\x3c".to_vec();
        rest.extend(text(id));
        client.send(0x10, &rest).await?;
        let (kind, _) = client.packet().await?.ok_or("no CONNACK")?;
        holds!(kind, 0x20);
        Ok(client)
    }

    async fn send(&mut self, kind: u8, rest: &[u8]) -> Result<(), Unmet> {
        let mut packet = vec![kind, u8::try_from(rest.len())?];
        packet.extend(rest);
        Ok(self.0.write_all(&packet).await?)
    }

    async fn publish(&mut self, qos: u8, topic: &str, payload: &str) -> Result<(), Unmet> {
        let mut rest = text(topic);
        if qos > 0 {
            rest.extend([0, 7]);
        }
        rest.extend(payload.as_bytes());
        self.send(0x30 | qos << 1, &rest).await
    }

    async fn subscribe(&mut self, filter: &str) -> Result<(), Unmet> {
        let mut rest = vec![0, 9];
        rest.extend(text(filter));
        rest.push(0);
        self.send(0x82, &rest).await?;
        holds!(self.packet().await?.map(|(kind, _)| kind), Some(0x90));
        Ok(())
    }

    /// The next packet, kind and rest; none when the connection has ended.
    async fn packet(&mut self) -> Result<Option<(u8, Vec<u8>)>, Unmet> {
        let read = async {
            let mut head = [0; 2];
            if self.0.read_exact(&mut head).await.is_err() {
                return Ok(None);
            }
            let mut rest = vec![0; usize::from(head[1])];
            self.0.read_exact(&mut rest).await?;
            Ok::<_, Unmet>(Some((head[0], rest)))
        };
        tokio::time::timeout(Duration::from_secs(5), read)
            .await
            .map_err(|_| Unmet::Broken("no answer in 5 s".into()))?
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// With real connections, on a real clock.
async fn connected(resources: &str) -> Result<World, Unmet> {
    World::start(resources, Clock::system(), Duration::ZERO, Box::new(fine)).await
}

fn one_rule() -> String {
    queue("out", "") + &rule("r", "SELECT * FROM 'in/#'", &to_queue("out"), "")
}

/// Those that need a paused clock, or none.
pub const CASES: &[Case<Check>] = cases![
    "iot-sql/star", SELECT, "SELECT * hands on the whole payload.", |()| {
        holds!(selected("SELECT * FROM 'a/b'", "a/b", LAMP).await?, [json!({ "color": "red", "temperature": 50 })]);
    }
    "iot-sql/field", SELECT, "A selected key of the payload is handed on with its value.", |()| {
        holds!(selected("SELECT color FROM 'a/b'", "a/b", LAMP).await?, [json!({ "color": "red" })]);
    }
    "iot-sql/as", SELECT, "AS gives a selected value another name.", |()| {
        holds!(selected("SELECT color AS my_color FROM 'a/b'", "a/b", LAMP).await?, [json!({ "my_color": "red" })]);
    }
    "iot-sql/several", SELECT, "Several items are selected with commas between.", |()| {
        let sql = "SELECT color as my_color, temperature as fahrenheit FROM 'a/b'";
        holds!(selected(sql, "a/b", LAMP).await?, [json!({ "my_color": "red", "fahrenheit": 50 })]);
    }
    "iot-sql/star-and-more", SELECT, "Items beside * are added to the payload.", |()| {
        let expected = json!({ "color": "red", "temperature": 50, "speed": 15 });
        holds!(selected("SELECT *, 15 as speed FROM 'a/b'", "a/b", LAMP).await?, [expected]);
    }
    "iot-sql/nested", SELECT, "A dot reaches into an object of the payload.", |()| {
        let payload = r#"{"color":{"red":255,"green":0},"temperature":50}"#;
        holds!(selected("SELECT color.red as red_value FROM 'a/b'", "a/b", payload).await?, [json!({ "red_value": 255 })]);
    }
    "iot-sql/null", TYPES, "A key whose value is null is handed on as null.", |()| {
        holds!(selected("SELECT foo FROM 'a/b'", "a/b", r#"{"foo":null}"#).await?, [json!({ "foo": null })]);
    }
    "iot-sql/undefined", TYPES, "A key that the payload does not have is Undefined, and left out.", |()| {
        holds!(selected("SELECT foo, bar FROM 'a/b'", "a/b", r#"{"foo":1}"#).await?, [json!({ "foo": 1 })]);
    }
    "iot-sql/null-literal", TYPES, "NULL in a statement is the value null.", |()| {
        holds!(selected("SELECT NULL AS n FROM 'a/b'", "a/b", "{}").await?, [json!({ "n": null })]);
    }
    "iot-sql/no-match", WHERE, "No action runs for a message that the condition does not hold for.", |()| {
        holds!(passes("color = 'blue'", LAMP).await?, false);
        holds!(passes("color = 'red'", LAMP).await?, true);
    }
    "iot-sql/undefined-condition", WHERE, "No action runs for a message that the condition is Undefined for.", |()| {
        holds!(passes("absent > 1", LAMP).await?, false);
        holds!(passes("NOT absent > 1", LAMP).await?, false);
    }
    "iot-sql/condition-on-unselected", WHERE, "A condition sees the payload, not only what is selected.", |()| {
        holds!(selected("SELECT color FROM 'a/b' WHERE temperature > 40", "a/b", LAMP).await?, [json!({ "color": "red" })]);
    }
    "iot-sql/equal-numbers", OPERATORS, "= holds for equal numbers, also of Int and Decimal.", |()| {
        holds!(passes("temperature = 50", LAMP).await?, true);
        holds!(passes("temperature = 50.0", LAMP).await?, true);
        holds!(passes("temperature = 51", LAMP).await?, false);
    }
    "iot-sql/equal-texts", OPERATORS, "= holds for equal texts, in the same case.", |()| {
        holds!(passes("color = 'red'", LAMP).await?, true);
        holds!(passes("color = 'Red'", LAMP).await?, false);
    }
    "iot-sql/equal-arrays", OPERATORS, "= holds for arrays with equal items in the same order.", |()| {
        holds!(passes("x = y", r#"{"x":[1,2],"y":[1,2]}"#).await?, true);
        holds!(passes("x = y", r#"{"x":[1,2],"y":[2,1]}"#).await?, false);
    }
    "iot-sql/equal-objects", OPERATORS, "= holds for objects with equal keys and values, in any order.", |()| {
        holds!(passes("x = y", r#"{"x":{"a":1,"b":2},"y":{"b":2,"a":1}}"#).await?, true);
        holds!(passes("x = y", r#"{"x":{"a":1},"y":{"a":2}}"#).await?, false);
    }
    "iot-sql/equal-mismatched", OPERATORS, "= of different types is false: a text is not the number that it is written as.", |()| {
        holds!(passes("temperature = '50'", LAMP).await?, false);
        holds!(passes("NOT temperature = '50'", LAMP).await?, true);
    }
    "iot-sql/equal-undefined", OPERATORS, "= with Undefined is Undefined.", |()| {
        holds!(passes("absent = 50", LAMP).await?, false);
        holds!(passes("NOT absent = 50", LAMP).await?, false);
    }
    "iot-sql/unequal", OPERATORS, "<> holds for values that are not equal.", |()| {
        holds!(passes("temperature <> 51 AND color <> 'blue'", LAMP).await?, true);
        holds!(passes("temperature <> 50", LAMP).await?, false);
    }
    "iot-sql/unequal-mismatched", OPERATORS, "<> of different types is true.", |()| {
        holds!(passes("temperature <> '50'", LAMP).await?, true);
    }
    "iot-sql/unequal-null", OPERATORS, "<> of two nulls is false.", |()| {
        holds!(passes("x <> NULL", r#"{"x":null}"#).await?, false);
    }
    "iot-sql/unequal-undefined", OPERATORS, "<> with Undefined is Undefined.", |()| {
        holds!(passes("absent <> 50", LAMP).await?, false);
        holds!(passes("NOT absent <> 50", LAMP).await?, false);
    }
    "iot-sql/greater", OPERATORS, "> compares numbers.", |()| {
        holds!(passes("temperature > 49.5", LAMP).await?, true);
        holds!(passes("temperature > 50", LAMP).await?, false);
    }
    "iot-sql/greater-or-equal", OPERATORS, ">= compares numbers.", |()| {
        holds!(passes("temperature >= 50", LAMP).await?, true);
        holds!(passes("temperature >= 50.1", LAMP).await?, false);
    }
    "iot-sql/less", OPERATORS, "< compares numbers.", |()| {
        holds!(passes("temperature < 51", LAMP).await?, true);
        holds!(passes("temperature < 50", LAMP).await?, false);
    }
    "iot-sql/less-or-equal", OPERATORS, "<= compares numbers.", |()| {
        holds!(passes("temperature <= 50", LAMP).await?, true);
        holds!(passes("temperature <= 49", LAMP).await?, false);
    }
    "iot-sql/order-of-numeric-text", OPERATORS, "Texts that are numbers are compared as numbers by < and >, with a number or with each other.", |()| {
        holds!(passes("x > 9", r#"{"x":"10"}"#).await?, true);
        holds!(passes("x > y", r#"{"x":"10","y":"9"}"#).await?, true);
        holds!(passes("x < y", r#"{"x":"10","y":"9"}"#).await?, false);
    }
    "iot-sql/order-of-text", OPERATORS, "< and > of a text that is not a number are Undefined.", |()| {
        for condition in ["x > 'a'", "NOT x > 'a'", "x < 5", "NOT x < 5"] {
            holds!(passes(condition, r#"{"x":"b"}"#).await?, false);
        }
    }
    "iot-sql/order-of-flags", OPERATORS, "< and > of Booleans are Undefined.", |()| {
        holds!(passes("x > false", r#"{"x":true}"#).await?, false);
        holds!(passes("NOT x > false", r#"{"x":true}"#).await?, false);
    }
    "iot-sql/decimal-texts", TYPES, "A text is a number when it has digits, at most one sign before them, a fraction and an exponent.", |()| {
        for (text, is_number) in [("-1.2", true), ("5E-12", true), ("5e2", true), ("+1", false), (" 1", false), (".5", false), ("1.", false), ("inf", false), ("0x1", false)] {
            holds!((text, passes("x < 1000", &json!({ "x": text }).to_string()).await?), (text, is_number));
        }
    }
    "iot-sql/and", OPERATORS, "AND holds when both sides do.", |()| {
        holds!(passes("temperature = 50 AND color = 'red'", LAMP).await?, true);
        holds!(passes("temperature = 50 AND color = 'blue'", LAMP).await?, false);
    }
    "iot-sql/or", OPERATORS, "OR holds when either side does.", |()| {
        holds!(passes("temperature = 0 OR color = 'red'", LAMP).await?, true);
        holds!(passes("temperature = 0 OR color = 'blue'", LAMP).await?, false);
    }
    "iot-sql/not", OPERATORS, "NOT holds when its operand does not.", |()| {
        holds!(passes("NOT color = 'blue'", LAMP).await?, true);
        holds!(passes("NOT color = 'red'", LAMP).await?, false);
    }
    "iot-sql/and-texts", OPERATORS, "AND takes the texts true and false, in any case, as Booleans.", |()| {
        holds!(passes("x AND y", r#"{"x":"TRUE","y":true}"#).await?, true);
        holds!(passes("x AND y", r#"{"x":"false","y":true}"#).await?, false);
    }
    "iot-sql/or-texts", OPERATORS, "OR takes the texts true and false, in any case, as Booleans.", |()| {
        holds!(passes("x OR y", r#"{"x":"False","y":"True"}"#).await?, true);
    }
    "iot-sql/not-texts", OPERATORS, "NOT of the text false, in any case, is true.", |()| {
        holds!(passes("NOT x", r#"{"x":"False"}"#).await?, true);
        holds!(passes("NOT x", r#"{"x":"TRUE"}"#).await?, false);
    }
    "iot-sql/and-others", OPERATORS, "AND, OR and NOT of anything that is no Boolean are Undefined.", |()| {
        for condition in ["x AND x", "x OR x", "NOT x", "NOT (x AND x)"] {
            holds!(passes(condition, r#"{"x":1}"#).await?, false);
            holds!(passes(condition, r#"{"x":"yes"}"#).await?, false);
        }
    }
    "iot-sql/brackets", SELECT, "Brackets group a condition's parts.", |()| {
        let payload = r#"{"x":1,"y":2,"z":3}"#;
        holds!(passes("(x = 1 OR y = 0) AND z = 0", payload).await?, false);
        holds!(passes("x = 1 OR (y = 0 AND z = 0)", payload).await?, true);
    }
    "iot-sql/topic", FUNCTIONS, "topic() is the topic that the message was sent to.", |()| {
        holds!(selected("SELECT topic() AS t FROM '#'", "things/myThings/thingOne", "{}").await?, [json!({ "t": "things/myThings/thingOne" })]);
    }
    "iot-sql/topic-level", FUNCTIONS, "topic(n) is a level of the topic, counted from 1.", |()| {
        holds!(selected("SELECT topic(1) AS a, topic(3) AS c FROM '#'", "foo/bar/baz", "{}").await?, [json!({ "a": "foo", "c": "baz" })]);
    }
    "iot-sql/clientid", FUNCTIONS, "clientid() is the id of the MQTT client that sent the message.", |()| {
        holds!(selected("SELECT clientid() AS c FROM '#'", "a", "{}").await?, [json!({ "c": "client" })]);
    }
    "iot-sql/timestamp", FUNCTIONS, "timestamp() is the time in milliseconds since 1970.", |()| {
        let selected = selected("SELECT timestamp() AS t FROM '#'", "a", "{}").await?;
        holds!(selected[0]["t"].as_u64().map(|at| at / 1_000_000), Some(1_573_690));
    }
    "iot-sql/encode", FUNCTIONS, "encode(*, 'base64') is the base64 of the payload, whatever it is.", |()| {
        holds!(selected("SELECT encode(*, 'base64') AS data FROM '#'", "a", "\u{1}no JSON").await?, [json!({ "data": "AW5vIEpTT04=" })]);
    }
    "iot-sql/encode-json", BINARY, "encode(*, 'base64') keeps the bytes of a JSON payload as they are.", |()| {
        holds!(selected("SELECT encode(*, 'base64') AS data FROM '#'", "a", "{ \"a\" : 1 }").await?, [json!({ "data": "eyAiYSIgOiAxIH0=" })]);
    }
    "iot-sql/functions-on-binary", BINARY, "Functions that name no key of the payload work on one that is not JSON.", |()| {
        let selected = selected("SELECT encode(*, 'base64') AS data, topic() AS t FROM '#' WHERE topic(1) = 'a'", "a", "offline").await?;
        holds!(selected, [json!({ "data": "b2ZmbGluZQ==", "t": "a" })]);
    }
    "iot-sql/binary-condition", BINARY, "A condition that names a key of the payload does not hold for one that is not JSON.", |()| {
        holds!(selected("SELECT encode(*, 'base64') AS data FROM '#' WHERE device_type = 'thermostat'", "a", "offline").await?.len(), 0);
    }
    "iot-sql/filter-bounds", FROM, "A statement's topic filter has # as its last level and + as a whole level.", |()| {
        for bad in ["a/#/b", "a#", "a+/b"] {
            refused(&(queue("out", "") + &rule("r", &format!("SELECT * FROM '{bad}'"), &to_queue("out"), "")), "Sql").await?;
        }
    }
    "iot-topic/exact", TOPICS, "A filter without wildcards takes one topic.", |()| {
        holds!(takes("sensor/a", "sensor/a").await?, true);
        holds!(takes("sensor/a", "sensor/a/b").await?, false);
        holds!(takes("sensor/a", "sensor").await?, false);
    }
    "iot-topic/case", TOPICS, "Topics and filters tell upper from lower case.", |()| {
        holds!(takes("sensor/#", "Sensor/a").await?, false);
    }
    "iot-topic/hash", TOPICS, "# takes everything at and below its level.", |()| {
        for topic in ["sensor/", "sensor/temperature", "sensor/temperature/room1"] {
            holds!((topic, takes("sensor/#", topic).await?), (topic, true));
        }
        holds!(takes("sensor/#", "other/a").await?, false);
    }
    "iot-topic/plus", TOPICS, "+ takes any text of one level.", |()| {
        holds!(takes("sensor/+/room1", "sensor/temperature/room1").await?, true);
        holds!(takes("sensor/+/room1", "sensor/humidity/room1").await?, true);
        holds!(takes("sensor/+/room1", "sensor/temperature/room2").await?, false);
        holds!(takes("sensor/+/room1", "sensor/a/b/room1").await?, false);
    }
    "iot-topic/several-plus", TOPICS, "+ can stand in several levels, also together with #.", |()| {
        holds!(takes("+/+/room1", "sensor/a/room1").await?, true);
        holds!(takes("+/a/#", "sensor/a/room1/x").await?, true);
        holds!(takes("+/a/#", "sensor/b/room1/x").await?, false);
    }
    "iot-template/topic", TEMPLATES, "A substitution template in an action is replaced by its expression's value.", |()| {
        holds!(keyed("k-${topic(2)}-${n}", "in/abc", r#"{"n":3}"#).await?, json!("k-abc-3"));
    }
    "iot-template/payload-not-alias", TEMPLATES, "A substitution template sees the payload, and no alias of the statement.", |()| {
        holds!(keyed("${n}/${renamed}", "in/abc", r#"{"n":3}"#).await?, json!("3/"));
    }
    "iot-template/undefined", TYPES, "Undefined by itself becomes an empty text.", |()| {
        holds!(keyed("k${absent}", "in/abc", "{}").await?, json!("k"));
    }
    "iot-action/kinesis", TO_KINESIS, "A Kinesis action puts what the statement selects into the stream, with its partition key.", |()| {
        let world = World::new(&to_stream("${topic(2)}"), fine).await?;
        world.publish("in/k7", r#"{"n":3}"#).await?;
        pass(2).await;
        let record = world.events().first().ok_or("no record")?["Records"][0]["kinesis"].clone();
        holds!([&record["partitionKey"], &record["data"]], [&json!("k7"), &json!("eyJuIjozLCJyZW5hbWVkIjozfQ==")]);
    }
    "iot-action/sqs", TO_SQS, "An SQS action sends what the statement selects as a message's body.", |()| {
        holds!(selected("SELECT * FROM 'in'", "in", r#"{"n":1}"#).await?, [json!({ "n": 1 })]);
    }
    "iot-action/sqs-base64", TO_SQS, "With useBase64 the message's body is base64.", |()| {
        let action = "{Sqs: {QueueUrl: !Ref Qout, RoleArn: r, UseBase64: true}}";
        let world = World::new(&(queue("out", "") + &rule("r", "SELECT * FROM 'in'", action, "")), fine).await?;
        world.publish("in", r#"{"n":1}"#).await?;
        holds!(world.bodies("out").await?, ["eyJuIjoxfQ=="]);
    }
    "iot-rule/every-match", RULES, "Every rule whose filter takes the topic is evaluated.", |()| {
        let world = World::new(&two_rules(), fine).await?;
        world.publish("Buildings/5", "{}").await?;
        holds!((world.left("one").await?, world.left("two").await?), (1, 1));
    }
    "iot-rule/every-action", CREATE, "All actions of a rule run.", |()| {
        let actions = format!("{}, {}", to_queue("one"), to_queue("two"));
        let world = World::new(&(queue("one", "") + &queue("two", "") + &rule("r", "SELECT * FROM 'in'", &actions, "")), fine).await?;
        world.publish("in", "{}").await?;
        holds!((world.left("one").await?, world.left("two").await?), (1, 1));
    }
    "iot-rule/disabled", CREATE, "A disabled rule takes no message.", |()| {
        let world = World::new(&(queue("out", "") + &rule("r", "SELECT * FROM 'in'", &to_queue("out"), ", RuleDisabled: true")), fine).await?;
        world.publish("in", "{}").await?;
        holds!(world.left("out").await?, 0);
    }
    "iot-error/runs", ERRORS, "The error action runs when an action cannot be started.", |()| {
        holds!(failing(1).await?.left("failed").await?, 1);
    }
    "iot-error/not-otherwise", ERRORS, "The error action does not run when all actions were started.", |()| {
        holds!(failing(0).await?.left("failed").await?, 0);
    }
    "iot-error/others-run", ERRORS, "An action that fails does not keep the rule's other actions from running.", |()| {
        let world = failing(1).await?;
        holds!((world.left("one").await?, world.left("two").await?), (0, 1));
    }
    "iot-error/one-message", ERRORS, "Two actions of one rule that fail are one message of the error action, with both failures.", |()| {
        let messages = failing(2).await?.bodies("failed").await?;
        holds!(messages.len(), 1);
        let message: Value = serde_json::from_str(&messages[0])?;
        holds!(message["failures"].as_array().map(Vec::len), Some(2));
    }
    "iot-error/rule-and-topic", ERRORS, "The error action is told the rule's name, the topic and the publisher's client id.", |()| {
        let message = failure().await?;
        holds!([&message["ruleName"], &message["topic"], &message["clientId"]], [&json!("TestAction"), &json!("in"), &json!("client")]);
    }
    "iot-error/payload", ERRORS, "The error action is given the original payload as base64.", |()| {
        holds!(failure().await?["base64OriginalPayload"], json!("eyJuIjoxfQ=="));
    }
    "iot-error/failures", ERRORS, "Each failure has the kind of action, its resource, and what went wrong.", |()| {
        let failed = failure().await?["failures"][0].clone();
        holds!([&failed["failedAction"], &failed["failedResource"]], [&json!("SqsAction"), &json!("one")]);
        holds!(failed["errorMessage"].as_str().is_some_and(|words| !words.is_empty()));
    }
    "iot-ingest/one-rule", INGEST, "A message on $aws/rules/NAME/TOPIC triggers the rule of that name, and no other.", |()| {
        let world = World::new(&two_rules(), fine).await?;
        world.publish("$aws/rules/one/Buildings/5", "{}").await?;
        holds!((world.left("one").await?, world.left("two").await?), (1, 0));
    }
    "iot-ingest/topic", INGEST, "topic() sees the topic of Basic Ingest without its prefix.", |()| {
        let world = World::new(&two_rules(), fine).await?;
        world.publish("$aws/rules/one/Buildings/Building5/Floor2", "{}").await?;
        let selected: Value = serde_json::from_str(world.bodies("one").await?.first().ok_or("nothing")?)?;
        holds!(selected, json!({ "t": "Buildings/Building5/Floor2", "level": "Building5" }));
    }
    "iot-ingest/error-action", INGEST, "A rule that Basic Ingest triggers has the same error handling.", |()| {
        let more = format!(", ErrorAction: {}", to_queue("failed"));
        let world = World::new(&(queue("one", "") + &queue("failed", "") + &rule("r", "SELECT * FROM 'in'", &to_queue("one"), &more)), fine).await?;
        world.faults.script([Fault::Before]);
        world.publish("$aws/rules/r/in", "{}").await?;
        holds!(world.left("failed").await?, 1);
    }
];

/// Those with real connections.
pub const CONNECTED: &[Case<Check>] = cases![
    "iot-mqtt/puback", MQTT, "A publish of QoS 1 is acknowledged by a PUBACK with its packet id.", |()| {
        let world = connected(&one_rule()).await?;
        let mut client = Client::connect(&world, "c").await?;
        client.publish(1, "in/a", "{}").await?;
        holds!(client.packet().await?, Some((0x40, vec![0, 7])));
        holds!(world.left("out").await?, 1);
    }
    "iot-mqtt/puback-without-rule", MQTT, "A publish of QoS 1 that no rule takes is acknowledged as well.", |()| {
        let world = connected(&one_rule()).await?;
        let mut client = Client::connect(&world, "c").await?;
        client.publish(1, "other/a", "{}").await?;
        holds!(client.packet().await?, Some((0x40, vec![0, 7])));
    }
    "iot-mqtt/qos-0", MQTT, "A publish of QoS 0 is taken and not acknowledged.", |()| {
        let world = connected(&one_rule()).await?;
        let mut client = Client::connect(&world, "c").await?;
        client.publish(0, "in/a", "{}").await?;
        client.send(0xc0, &[]).await?;
        holds!(client.packet().await?.map(|(kind, _)| kind), Some(0xd0));
        for _ in 0..50 {
            if world.left("out").await? == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        holds!(world.left("out").await?, 1);
    }
    "iot-mqtt/subscriber", MQTT, "A publish reaches the clients that subscribed to its topic.", |()| {
        let world = connected(&one_rule()).await?;
        let (mut reader, mut client) = (Client::connect(&world, "r").await?, Client::connect(&world, "c").await?);
        reader.subscribe("in/+").await?;
        client.publish(1, "in/a", "{}").await?;
        let (kind, rest) = reader.packet().await?.ok_or("the connection ended")?;
        holds!((kind & 0xf0, &rest[..]), (0x30, &b"\x00\x04in/a{}"[..]));
    }
    "iot-mqtt/clientid", FUNCTIONS, "clientid() is the id that the client connected with.", |()| {
        let world = connected(&(queue("out", "") + &rule("r", "SELECT clientid() AS c FROM 'in'", &to_queue("out"), ""))).await?;
        let mut client = Client::connect(&world, "tower-7").await?;
        client.publish(1, "in", "{}").await?;
        client.packet().await?;
        holds!(world.bodies("out").await?, [r#"{"c":"tower-7"}"#]);
    }
    "iot-mqtt/wildcard-topic", TOPICS, "A client cannot publish to a topic with wildcards.", |()| {
        let world = connected(&one_rule()).await?;
        let mut client = Client::connect(&world, "c").await?;
        client.publish(1, "in/+", "{}").await?;
        holds!(client.packet().await?, None);
        holds!(world.left("out").await?, 0);
    }
    "iot-ingest/puback", INGEST, "A publish of QoS 1 by Basic Ingest is acknowledged.", |()| {
        let world = connected(&two_rules()).await?;
        let mut client = Client::connect(&world, "c").await?;
        client.publish(1, "$aws/rules/one/Buildings/5", "{}").await?;
        holds!(client.packet().await?, Some((0x40, vec![0, 7])));
        holds!(world.left("one").await?, 1);
    }
    "iot-ingest/no-subscriber", INGEST, "Basic Ingest does not reach subscribers, neither of the topic nor of the reserved one.", |()| {
        let world = connected(&two_rules()).await?;
        let (mut reader, mut client) = (Client::connect(&world, "r").await?, Client::connect(&world, "c").await?);
        reader.subscribe("$aws/rules/#").await?;
        reader.subscribe("Buildings/#").await?;
        client.publish(1, "$aws/rules/one/Buildings/5", "{}").await?;
        client.packet().await?;
        client.publish(1, "Buildings/6", "{}").await?;
        let (_, rest) = reader.packet().await?.ok_or("the connection ended")?;
        holds!(rest.starts_with(b"\x00\x0bBuildings/6"));
    }
];

fn to_stream(key: &str) -> String {
    let stream = "  S:\n    Type: AWS::Kinesis::Stream\n    Properties: {Name: s, ShardCount: 1}\n".to_owned();
    let action = format!("{{Kinesis: {{StreamName: !Ref S, RoleArn: r, PartitionKey: '{key}'}}}}");
    let event = "E: {Type: Kinesis, Properties: {Stream: !GetAtt S.Arn, StartingPosition: TRIM_HORIZON}}";
    stream + &rule("put", "SELECT *, n AS renamed FROM 'in/+'", &action, "") + &function("F", "", event)
}

/// The partition key that this text becomes.
async fn keyed(key: &str, topic: &str, payload: &str) -> Result<Value, Unmet> {
    let world = World::new(&to_stream(key), fine).await?;
    world.publish(topic, payload).await?;
    pass(2).await;
    Ok(world.events().first().ok_or("no record")?["Records"][0]["kinesis"]["partitionKey"].clone())
}

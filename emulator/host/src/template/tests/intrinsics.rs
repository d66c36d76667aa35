//! Each function in both spellings, parameters, conditions, mappings and globals: read off a function's environment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{read, read_with};
use crate::template::{Action, Trigger};

/// A template whose one function has `X` set to this expression.
fn with_x(expression: &str) -> String {
    format!(
        r#"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {{Type: String, Default: dev}}
  Count: {{Type: Number, Default: 3}}
  Zones: {{Type: CommaDelimitedList, Default: "a, b,c"}}
Mappings:
  Sizes: {{dev: {{memory: 128, name: small}}, prod: {{memory: 1024, name: large}}}}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  IsDev: !Not [!Condition IsProd]
  Three: {{"Fn::And": [{{"Condition": IsDev}}, {{"Fn::Equals": [{{Ref: Count}}, "3"]}}]}}
  Either: !Or [!Condition IsProd, !Equals [!FindInMap [Sizes, !Ref Stage, name], small]]
Resources:
  Work: {{Type: AWS::SQS::Queue, Properties: {{QueueName: !Sub "${{Stage}}-work"}}}}
  Items: {{Type: AWS::DynamoDB::Table, Properties: {{KeySchema: [{{AttributeName: id, KeyType: HASH}}]}}}}
  Key: {{Type: AWS::SecretsManager::Secret}}
  Only: {{Type: AWS::SQS::Queue, Condition: IsProd}}
  F:
    Type: AWS::Serverless::Function
    Metadata: {{BuildProperties: {{Binary: f}}}}
    Properties:
      AutoPublishAlias: live
      Environment:
        Variables:
          Y: kept
          X: {expression}
"#
    )
}

fn x_with(expression: &str, parameters: &[(&str, &str)]) -> Option<String> {
    // Of its own, so that it may refer to F too.
    let text = with_x(expression).replace("  F:\n", "  G:\n") + FUNCTION;
    let template = read_with(&text, parameters).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let function = template.function("G").unwrap();
    assert_eq!(function.environment["Y"], "kept");
    function.environment.get("X").cloned()
}

const FUNCTION: &str = r#"
  F:
    Type: AWS::Serverless::Function
    Metadata: {BuildProperties: {Binary: f}}
    Properties: {AutoPublishAlias: live}
"#;

fn x(expression: &str) -> String {
    x_with(expression, &[]).unwrap_or_else(|| panic!("{expression}: nothing"))
}

fn refusal(expression: &str) -> String {
    read_with(&with_x(expression), &[]).unwrap_err().to_string()
}

#[test]
fn ref_gives_a_parameter_a_pseudo_parameter_or_a_resource_s_name() {
    assert_eq!(x("!Ref Stage"), "dev");
    assert_eq!(x("{Ref: Count}"), "3");
    assert_eq!(x("!Ref AWS::Region"), "us-west-2");
    assert_eq!(x("!Ref AWS::AccountId"), "000000000000");
    assert_eq!(x("!Ref AWS::StackName"), "streammanager");
    assert_eq!(x("!Ref AWS::Partition"), "aws");
    assert_eq!(x("!Ref AWS::URLSuffix"), "amazonaws.com");
    assert_eq!(x("!Ref Work"), "local:dev-work");
    assert_eq!(x("!Ref Items"), "streammanager-Items");
    assert_eq!(x("!Ref F.Alias"), "arn:aws:lambda:us-west-2:000000000000:function:streammanager-F:live");
    assert_eq!(x("!Ref Key"), "arn:aws:secretsmanager:us-west-2:000000000000:secret:streammanager-Key");
    assert_eq!(x_with("!Ref AWS::NoValue", &[]), None);
}

#[test]
fn get_att_gives_arns_whose_last_part_is_the_name() {
    assert_eq!(x("!GetAtt Work.Arn"), "arn:aws:sqs:us-west-2:000000000000:dev-work");
    assert_eq!(x("{'Fn::GetAtt': [Work, Arn]}"), "arn:aws:sqs:us-west-2:000000000000:dev-work");
    assert_eq!(x("{'Fn::GetAtt': Work.QueueName}"), "dev-work");
    assert_eq!(x("!GetAtt Items.Arn"), "arn:aws:dynamodb:us-west-2:000000000000:table/streammanager-Items");
    assert_eq!(x("!GetAtt FRole.Arn"), "arn:aws:iam::000000000000:role/streammanager-FRole");
    assert!(refusal("!GetAtt Work.Colour").contains("no attribute \"Colour\""));
}

#[test]
fn sub_fills_in_names_attributes_and_its_own_values() {
    assert_eq!(
        x(r#"!Sub "${Stage}/${AWS::Region}/${Work.QueueName}/${Work}""#),
        "dev/us-west-2/dev-work/local:dev-work"
    );
    assert_eq!(x(r#"{"Fn::Sub": ["${A}-${Stage}", {A: !Ref Count}]}"#), "3-dev");
    assert_eq!(x(r#"!Sub "${!topic()} and $5""#), "${topic()} and $5");
    assert!(refusal(r#"!Sub "${Stage""#).contains("without a }"));
    assert!(refusal(r#"!Sub "${Nobody}""#).contains("\"Nobody\""));
}

#[test]
fn join_split_select_and_base64_work_on_lists_and_texts() {
    assert_eq!(x(r#"!Join ["-", [x, !Ref Stage, 7]]"#), "x-dev-7");
    assert_eq!(x("!Join ['+', !Ref Zones]"), "a+b+c");
    assert_eq!(x(r#"!Select [1, !Split ["/", "a/b/c"]]"#), "b");
    assert_eq!(x("!Select ['2', !Ref Zones]"), "c");
    assert_eq!(x("{'Fn::Base64': hi}"), "aGk=");
    assert!(refusal("!Select [3, !Ref Zones]").contains("beyond its list"));
    assert!(refusal("!Join [!Ref Zones, [a]]").contains("needs a string"));
}

#[test]
fn conditions_choose_and_may_name_each_other() {
    for (condition, dev, prod) in
        [("IsProd", "no", "yes"), ("IsDev", "yes", "no"), ("Three", "yes", "no"), ("Either", "yes", "yes")]
    {
        let expression = format!("!If [{condition}, 'yes', 'no']");
        assert_eq!(x(&expression), dev, "{condition}");
        assert_eq!(x_with(&expression, &[("Stage", "prod")]).as_deref(), Some(prod), "{condition}");
    }
    assert_eq!(x_with("!If [IsProd, a, !Ref AWS::NoValue]", &[]), None);
    assert_eq!(
        x_with("!If [IsProd, !Ref Only, none]", &[("Stage", "prod")]).as_deref(),
        Some("local:streammanager-Only")
    );
    assert!(refusal("!Ref Only").contains("whose condition is false"));
    assert!(refusal("!If [Whether, a, b]").contains("\"Whether\""));
    assert!(refusal("!Equals [a, a]").contains("only under Conditions"));
}

#[test]
fn mappings_are_looked_up() {
    assert_eq!(x("!FindInMap [Sizes, !Ref Stage, memory]"), "128");
    assert!(refusal("!FindInMap [Sizes, !Ref Stage, colour]").contains("no Sizes.dev.colour"));
}

#[test]
fn a_function_that_is_not_understood_is_named_with_its_place() {
    let error = refusal("!ImportValue other-stack");
    let place = "t.yaml: Resources.F.Properties.Environment.Variables.X: Fn::ImportValue is not understood";
    assert!(error.starts_with(place), "{error}");
}

#[test]
fn a_resource_whose_condition_is_false_is_not_there() {
    assert_eq!(read(&with_x("a")).queues.len(), 1);
    assert_eq!(read_with(&with_x("a"), &[("Stage", "prod")]).unwrap().queues.len(), 2);
}

#[test]
fn globals_lie_under_a_function_s_own_properties() {
    let text = r#"
Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]
Globals:
  Function:
    Timeout: 20
    Environment: {Variables: {A: global, B: global, C: !Sub "${AWS::Region}"}}
    EventInvokeConfig: {MaximumRetryAttempts: 1}
Resources:
  Plain:
    Type: AWS::Serverless::Function
    Metadata: {BuildProperties: {Binary: plain}}
  Own:
    Type: AWS::Serverless::Function
    Metadata: {BuildProperties: {Binary: own}}
    Properties:
      Timeout: 5
      Environment: {Variables: {B: own, C: plain}}
"#;
    let template = read(text);
    let environment = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    let (plain, own) = (template.function("Plain").unwrap(), template.function("Own").unwrap());
    assert_eq!(plain.environment, environment(&[("A", "global"), ("B", "global"), ("C", "us-west-2")]));
    assert_eq!(own.environment, environment(&[("A", "global"), ("B", "own"), ("C", "plain")]));
    assert_eq!((plain.timeout, own.timeout), (Duration::from_secs(20), Duration::from_secs(5)));
    assert_eq!((plain.retries, own.retries), (1, 1));
}

#[test]
fn defaults_are_those_of_the_services() {
    let text = r#"
Transform: AWS::Serverless-2016-10-31
Resources:
  Q: {Type: AWS::SQS::Queue}
  S: {Type: AWS::Kinesis::Stream, Properties: {ShardCount: 2}}
  F:
    Type: AWS::Serverless::Function
    Metadata: {BuildProperties: {Binary: f}}
    Properties:
      Events:
        Q: {Type: SQS, Properties: {Queue: !GetAtt Q.Arn}}
        S: {Type: Kinesis, Properties: {Stream: !GetAtt S.Arn, StartingPosition: LATEST, MaximumRetryAttempts: 4}}
        Off: {Type: SQS, Properties: {Queue: !GetAtt Q.Arn, Enabled: false}}
        Cron: {Type: ScheduleV2, Properties: {ScheduleExpression: cron(0 * * * ? *)}}
        Daily: {Type: Schedule, Properties: {Schedule: rate(1 day), Input: '{"a":1}'}}
        Topic: {Type: SNS, Properties: {Topic: arn}}
        Things: {Type: IoTRule, Properties: {Sql: "SELECT * FROM 'things/+'", AwsIotSqlVersion: "2016-03-23"}}
"#;
    let template = read(text);
    let queue = template.queue("streammanager-Q").unwrap();
    assert_eq!((queue.visibility, queue.retention), (Duration::from_secs(30), Duration::from_secs(345_600)));
    assert_eq!(template.streams[0].shards, Some(2));
    let function = template.function("F").unwrap();
    assert_eq!((function.timeout, function.retries), (Duration::from_secs(3), 2));
    assert_eq!(function.triggers.len(), 3, "{:?}", function.triggers);
    let daily = Trigger::Schedule {
        id: "Daily".into(),
        every: Duration::from_secs(86_400),
        flexible: Duration::ZERO,
        input: Some(serde_json::json!({ "a": 1 })),
        enabled: true,
    };
    assert!(function.triggers.contains(&daily));
    assert!(matches!(function.triggers[1], Trigger::Queue { batch_size: 10, report_failures: false, .. }));
    assert!(matches!(function.triggers[2], Trigger::Stream { batch_size: 100, retries: Some(4), bisect: false, .. }));
    assert_eq!(template.rules[0].actions, [Action::Lambda { function: "F".into() }]);
    let lines: Vec<_> = template.unsupported.iter().map(ToString::to_string).collect();
    let said = |words: &str| assert!(lines.iter().any(|line| line.contains(words)), "{words:?} is not in {lines:?}");
    said("F: Events.Cron.ScheduleExpression: cron(0 * * * ? *) never fires");
    said("F: Events.Topic: SNS events");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

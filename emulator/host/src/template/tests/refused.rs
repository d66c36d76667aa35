//! Broken templates: the error names the file, the place and the rule.

use super::{read, read_with, with_resources};
use crate::template::{TemplateError, load};

fn refusal(text: &str) -> String {
    match read_with(text, &[]) {
        Ok(template) => panic!("accepted: {template:?}"),
        Err(error) => error.to_string(),
    }
}

fn function(properties: &str) -> String {
    with_resources(&format!(
        "  Q: {{Type: AWS::SQS::Queue, Properties: {{VisibilityTimeout: 10}}}}\n  F:\n    \
         Type: AWS::Serverless::Function\n    Metadata: {{BuildProperties: {{Binary: f}}}}\n    \
         Properties: {properties}\n"
    ))
}

#[track_caller]
fn refused(text: &str, wanted: &str) {
    let error = refusal(text);
    assert!(error.contains(wanted), "{error:?} does not say {wanted:?}");
}

#[test]
fn broken_yaml_is_named_by_line_and_column() {
    let error = refusal("Transform: x\nResources:\n  Q: {Type: AWS::SQS::Queue\n  R: 1\n");
    assert!(error.starts_with("t.yaml:4:4: "), "{error}");
    let twice = with_resources("  Q: {Type: AWS::SQS::Queue}\n  Q: {Type: AWS::SQS::Queue}\n");
    let error = refusal(&twice);
    assert!(error.starts_with("t.yaml:") && error.contains("duplicate entry"), "{error}");
    refused("- a\n- b\n", "mapping of sections");
    refused(&format!("A: '{}'", "x".repeat(1024 * 1024)), "at most 1048576");
}

#[test]
fn deep_nesting_is_an_error_not_a_crash() {
    let nested = |depth: usize| format!("A: {}{}", "[".repeat(depth), "]".repeat(depth));
    refused(&nested(20_000), "t.yaml:1:1: more than 500 brackets are open at a time");
    refused(&nested(400), "recursion limit");
}

#[test]
fn f10_a_function_is_built_for_processors_that_lambda_has() {
    let built_for = |architectures: &str| {
        with_resources(&format!(
            "  F: {{Type: AWS::Serverless::Function, Metadata: {{BuildProperties: {{Binary: batch}}}}, \
             Properties: {{Architectures: {architectures}}}}}\n"
        ))
    };
    for architectures in ["[riscv]", "[x86_64, arm64]", "[1]"] {
        let rule = "Resources.F.Properties.Architectures: must be x86_64 or arm64, one of them";
        refused(&built_for(architectures), rule);
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = load(std::path::Path::new("/nowhere/t.yaml"), &Default::default()).unwrap_err();
    assert!(matches!(error, TemplateError::Unreadable { .. }));
    assert!(error.to_string().starts_with("/nowhere/t.yaml: cannot be read: "), "{error}");
}

#[test]
fn the_transform_and_the_resources_must_be_there() {
    refused("Resources: {}\n", "t.yaml: Transform: must name AWS::Serverless-2016-10-31");
    refused("Transform: AWS::Serverless-2016-10-31\n", "t.yaml: Resources: is missing");
    refused(&with_resources("  Q: {Properties: {}}\n"), "Resources.Q.Type: is missing");
    let globals = with_resources("  Q: {Type: AWS::SQS::Queue}\n") + "Globals: {Functon: {Timeout: 3}}\n";
    refused(&globals, "Globals.Functon: no such section");
}

#[test]
fn an_unknown_name_is_refused_wherever_it_stands() {
    let in_policy = with_resources(
        "  P: {Type: AWS::IAM::ManagedPolicy, Properties: {PolicyDocument: {Statement: [{Resource: !GetAtt Q.Arn}]}}}\n",
    );
    refused(&in_policy, "Resources.P.Properties.PolicyDocument.Statement[0].Resource: refers to \"Q\"");
    let in_output = with_resources("  Q: {Type: AWS::SQS::Queue}\n") + "Outputs: {U: {Value: !Sub 'x${R.Arn}'}}\n";
    refused(&in_output, "Outputs.U.Value: refers to \"R.Arn\"");
}

#[test]
fn resources_that_wait_for_each_other_are_refused() {
    let circle = "  A: {Type: AWS::SQS::Queue, Properties: {QueueName: !Sub '${B.QueueName}x'}}\n  \
                  B: {Type: AWS::SQS::Queue, Properties: {QueueName: !GetAtt A.QueueName}}\n";
    refused(&with_resources(circle), "Resources.A: refers to itself: A → B → A");
    let itself = "  A: {Type: AWS::SQS::Queue, Properties: {QueueName: !GetAtt A.QueueName}}\n";
    refused(&with_resources(itself), "Resources.A: refers to itself: A → A");
}

#[test]
fn conditions_in_a_circle_are_refused() {
    let text = with_resources("  Q: {Type: AWS::SQS::Queue}\n")
        + "Conditions: {A: !Not [!Condition B], B: !Not [!Condition A]}\n";
    refused(&text, "Conditions.A: is circular: A → B → A");
    let text = with_resources("  Q: {Type: AWS::SQS::Queue, Condition: C}\n");
    refused(&text, "Resources.Q.Condition: \"C\" is not a condition");
}

#[test]
fn a_section_that_cloudformation_does_not_know_is_refused() {
    refused(&(with_resources("  Q: {Type: AWS::SQS::Queue}\n") + "Ouptuts: {}\n"), "t.yaml: Ouptuts: no such section");
}

#[test]
fn what_rules_assert_of_the_parameters_is_held_to() {
    let text = |assertion: &str| {
        with_resources("  Q: {Type: AWS::SQS::Queue}\n")
            + "Parameters:\n  Network: {Type: String, Default: none}\n  \
               Subnets: {Type: CommaDelimitedList, Default: ''}\nRules:\n  Named:\n    \
               RuleCondition: !Equals [!Ref Network, existing]\n    \
               Assertions: [{Assert: "
            + assertion
            + ", AssertDescription: name the subnets}]\n"
    };
    let asserted = |assertion: &str, parameters: &[(&str, &str)]| {
        read_with(&text(assertion), parameters).map(drop).map_err(|error| error.to_string())
    };
    let existing = |subnets| [("Network", "existing"), ("Subnets", subnets)];
    let refusal = Err("t.yaml: Rules.Named: name the subnets".to_owned());
    let (given, either) =
        ("!Not [!Contains [!Ref Subnets, '']]", "!Or [!Equals [!Ref Network, x], !Contains [[a, b], a]]");
    assert_eq!(asserted(given, &[]), Ok(()), "the rule does not apply");
    assert_eq!(asserted(given, &existing("")), refusal);
    assert_eq!(asserted(given, &existing("a, b")), Ok(()));
    assert_eq!(asserted("!EachMemberIn [!Ref Subnets, [a, b]]", &existing("a,b")), Ok(()));
    assert_eq!(asserted("!EachMemberIn [!Ref Subnets, [a, b]]", &existing("a,c")), refusal);
    assert_eq!(asserted("!EachMemberEquals [!Ref Subnets, a]", &existing("a,a")), Ok(()));
    assert_eq!(asserted("!EachMemberEquals [!Ref Subnets, a]", &existing("a,b")), refusal);
    assert_eq!(asserted(either, &existing("")), Ok(()));
    let unknown = asserted("!ValueOf [Subnets, VpcId]", &existing("a")).unwrap_err();
    assert!(unknown.contains("Rules.Named: Fn::ValueOf is not a rule function that is understood here"), "{unknown}");
}

#[test]
fn parameters_are_held_to_their_rules() {
    let text = with_resources("  Q: {Type: AWS::SQS::Queue}\n")
        + "Parameters:\n  Level: {Type: String, Default: low, AllowedValues: [low, high]}\n  \
           Count: {Type: Number, Default: 2, MinValue: 2, MaxValue: 9}\n  Name: {Type: String, Default: abc, MinLength: 3, AllowedPattern: \"[a-z]+|(x[0-9]{2})?\"}\n";
    let refusal = |name, value| read_with(&text, &[(name, value)]).unwrap_err().to_string();
    read(&text);
    assert_eq!(refusal("Level", "mid"), "t.yaml: Parameters.Level: \"mid\" is not one of low, high");
    assert_eq!(refusal("Count", "1"), "t.yaml: Parameters.Count: the value must be at least 2");
    assert_eq!(refusal("Count", "10"), "t.yaml: Parameters.Count: the value must be at most 9");
    assert_eq!(refusal("Count", "x"), "t.yaml: Parameters.Count: \"x\" is not a number");
    assert_eq!(refusal("Name", "ab"), "t.yaml: Parameters.Name: the length must be at least 3");
    assert!(read_with(&text, &[("Name", "x07")]).is_ok());
    for part in ["abc1", "1abc", "x070", "abc\n"] {
        let refused = refusal("Name", part);
        assert_eq!(refused, format!("t.yaml: Parameters.Name: {part:?} does not match [a-z]+|(x[0-9]{{2}})?"));
    }
    let broken = read_with(&text.replace("[a-z]+|", "[a-z+|"), &[]).unwrap_err().to_string();
    assert!(broken.contains("Parameters.Name.AllowedPattern: ") && broken.contains("cannot be read"), "{broken}");
    let unknown = refusal("Nmae", "abc");
    assert_eq!(unknown, "t.yaml: Parameters.Nmae: is given a value, but the template only has Count, Level, Name");
}

#[test]
fn rates_are_whole_minutes_hours_or_days() {
    let schedule = |rate: &str| {
        function(&format!("{{Events: {{E: {{Type: ScheduleV2, Properties: {{ScheduleExpression: '{rate}'}}}}}}}}"))
    };
    read(&schedule("rate(5 minutes)"));
    for bad in
        ["rate(1 houer)", "rate(0 minutes)", "rate(1.5 hours)", "rate(-1 hours)", "every minute", "rate(1minute)"]
    {
        refused(&schedule(bad), "Resources.F.Properties.Events.E.Properties.ScheduleExpression: ");
        refused(&schedule(bad), "is not a rate");
    }
}

#[test]
fn numbers_and_flags_are_held_to_the_services_bounds() {
    let queue =
        |properties: &str| with_resources(&format!("  Q: {{Type: AWS::SQS::Queue, Properties: {properties}}}\n"));
    let place = "t.yaml: Resources.Q.Properties.VisibilityTimeout: must be 0 to 43200, not";
    refused(&queue("{VisibilityTimeout: 43201}"), &format!("{place} 43201"));
    refused(&queue("{VisibilityTimeout: soon}"), &format!("{place} soon"));
    refused(&queue("{MessageRetentionPeriod: 5}"), "60 to 1209600");
    refused(&queue("{RedrivePolicy: {maxReceiveCount: 3}}"), "RedrivePolicy.deadLetterTargetArn: is missing");
    let elsewhere = "{RedrivePolicy: {maxReceiveCount: 3, deadLetterTargetArn: 'arn:aws:sqs:us-west-2:1:x'}}";
    refused(&queue(elsewhere), "is not a queue of this template");
    refused(&queue("{QueueName: ''}"), "QueueName: must be a string that is not empty");
    refused(&function("{Timeout: 901}"), "Resources.F.Properties.Timeout: must be 1 to 900");
}

#[test]
fn a_message_may_not_come_back_while_its_function_still_runs() {
    let event = "Events: {E: {Type: SQS, Properties: {Queue: !GetAtt Q.Arn}}}";
    read(&function(&format!("{{Timeout: 10, {event}}}")));
    let wanted = "Resources.Q.Properties.VisibilityTimeout: 10 s is shorter than the 11 s that F";
    refused(&function(&format!("{{Timeout: 11, {event}}}")), wanted);
}

#[test]
fn events_are_held_to_their_rules() {
    let event = |kind: &str, settings: &str| {
        function(&format!("{{Events: {{E: {{Type: {kind}, Properties: {{{settings}}}}}}}}}"))
    };
    refused(&event("SQS", "Queue: !GetAtt Q.Arn, BatchSize: 11"), "needs a MaximumBatchingWindowInSeconds");
    refused(&event("SQS", "Queue: nowhere"), "\"nowhere\" is not a queue of this template");
    refused(&event("SQS", "Queue: !GetAtt Q.Arn, FunctionResponseTypes: [Report]"), "ReportBatchItemFailures");
    refused(&event("SQS", "Queue: !GetAtt Q.Arn, Enabled: perhaps"), "must be true or false");
    refused(&event("Kinesis", "Stream: nowhere, StartingPosition: LATEST"), "is not a stream of this template");
    refused(&event("HttpApi", "Method: fetch, Path: /a"), "Method: must be one of");
    refused(&event("HttpApi", "Method: get, Path: a"), "Path: must begin with /");
    refused(&event("ScheduleV2", "ScheduleExpression: rate(1 hour), Input: '{'"), "Input: is not JSON");
    let twice = "{Events: {A: {Type: HttpApi, Properties: {Method: get, Path: /a}}, \
                 B: {Type: HttpApi, Properties: {Method: GET, Path: /a}}}}";
    refused(&function(twice), "GET /a already starts F");
}

#[test]
fn a_queue_url_of_a_function_must_be_a_queue_s() {
    let with = |url: &str| function(&format!("{{Environment: {{Variables: {{LOW_QUEUE_URL: {url}}}}}}}"));
    read(&with("!Ref Q"));
    let place = "t.yaml: Resources.F.Properties.Environment.Variables.LOW_QUEUE_URL: ";
    for other in ["https://sqs.us-west-2.amazonaws.com/1/Q", "!GetAtt Q.Arn", "!GetAtt Q.QueueName", "local:P"] {
        refused(&with(other), place);
        refused(&with(other), "is not a queue of this template");
    }
}

#[test]
fn a_function_must_name_its_binary() {
    let text = with_resources("  F: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.13}}\n");
    refused(&text, "Resources.F.Metadata.BuildProperties.Binary: is missing");
}

#[test]
fn two_queues_may_not_share_a_name() {
    let text = with_resources(
        "  A: {Type: AWS::SQS::Queue, Properties: {QueueName: x}}\n  B: {Type: AWS::SQS::Queue, Properties: {QueueName: x}}\n",
    );
    refused(&text, "Resources.B.Properties.QueueName: \"x\" is the name of A too");
}

#[test]
fn a_rule_s_sql_and_actions_are_checked() {
    let rule = |payload: &str| {
        with_resources(&format!(
            "  R:\n    Type: AWS::IoT::TopicRule\n    Properties: {{TopicRulePayload: {{{payload}}}}}\n"
        ))
    };
    let version = "AwsIotSqlVersion: '2016-03-23'";
    let sql = "Sql: \"SELECT * FROM 'a'\"";
    read(&rule(&format!("{version}, {sql}, Actions: []")));
    let at = "Resources.R.Properties.TopicRulePayload";
    refused(&rule(&format!("{version}, Sql: \"SELECT md5(*) AS a FROM 'a'\"")), &format!("{at}.Sql: function md5()"));
    refused(&rule(sql), &format!("{at}.AwsIotSqlVersion: must be"));
    let to_nowhere = format!("{version}, {sql}, Actions: [{{Lambda: {{FunctionArn: x}}}}]");
    refused(&rule(&to_nowhere), &format!("{at}.Actions[0].Lambda.FunctionArn: \"x\" is not a function"));
    let two = format!("{version}, {sql}, Actions: [{{Lambda: {{}}, Sqs: {{}}}}]");
    refused(&rule(&two), &format!("{at}.Actions[0]: must name exactly one kind"));
}

#[test]
fn an_unknown_property_or_type_is_named_not_dropped_in_silence() {
    let text = with_resources(
        "  Q: {Type: AWS::SQS::Queue, Properties: {VisibiltyTimeout: 3}}\n  T: {Type: AWS::Events::EventBus}\n  \
         R:\n    Type: AWS::IoT::TopicRule\n    Properties:\n      TopicRulePayload:\n        Sql: SELECT * FROM 'a'\n        \
         AwsIotSqlVersion: '2016-03-23'\n        Actions: [{S3: {}}]\n",
    );
    let lines: Vec<_> = read(&text).unsupported.iter().map(ToString::to_string).collect();
    assert!(lines.contains(&"Q: VisibiltyTimeout: is ignored".to_owned()), "{lines:?}");
    assert!(lines.contains(&"T: AWS::Events::EventBus is not run here".to_owned()), "{lines:?}");
    assert!(lines.contains(&"R: S3 action: does nothing".to_owned()), "{lines:?}");
}

/// A function of one queue and one stream.
fn reading(events: &str) -> String {
    with_resources(&format!(
        "  Q: {{Type: AWS::SQS::Queue, Properties: {{VisibilityTimeout: 60}}}}\n  \
         K: {{Type: AWS::Kinesis::Stream, Properties: {{ShardCount: 1, RetentionPeriodHours: 48}}}}\n  \
         G:\n    Type: AWS::Serverless::Function\n    Metadata: {{BuildProperties: {{Binary: stream}}}}\n    Properties:\n      \
         Timeout: 10\n      EventInvokeConfig: {{MaximumRetryAttempts: 1, MaximumEventAgeInSeconds: 60}}\n      \
         Events:\n{events}"
    ))
}

#[test]
fn l5_what_a_trigger_asks_for_is_done_and_what_is_done_otherwise_is_named() {
    let text = reading(
        "        FromQueue: {Type: SQS, Properties: {Queue: !GetAtt Q.Arn, BatchSize: 100, MaximumBatchingWindowInSeconds: 5, \
         ScalingConfig: {MaximumConcurrency: 2}}}\n        \
         FromStream: {Type: Kinesis, Properties: {Stream: !GetAtt K.Arn, StartingPosition: LATEST, \
         MaximumBatchingWindowInSeconds: 5, BisectBatchOnFunctionError: true, MaximumRetryAttempts: 3, \
         DestinationConfig: {OnFailure: {Destination: !GetAtt Q.Arn}}, TumblingWindowInSeconds: 5, \
         MaximumRecordAgeInSeconds: 60, ParallelizationFactor: 2}}\n        \
         Hourly: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 hour), \
         FlexibleTimeWindow: {Mode: FLEXIBLE, MaximumWindowInMinutes: 15}}}\n",
    );
    let lines: Vec<_> = read(&text).unsupported.iter().map(ToString::to_string).collect();
    let fields = [
        "G: EventInvokeConfig.MaximumRetryAttempts",
        "G: Events.FromStream.DestinationConfig.OnFailure",
        "G: Events.FromStream.TumblingWindowInSeconds",
    ];
    assert_eq!(lines.len(), fields.len(), "{lines:#?}");
    for (field, line) in fields.iter().zip(&lines) {
        assert!(line.starts_with(&format!("{field}: ")), "{field} in {lines:#?}");
    }
}

#[test]
fn l5_a_stream_has_one_reader_and_a_flexible_window_its_minutes() {
    let stream = "Type: Kinesis, Properties: {Stream: !GetAtt K.Arn, StartingPosition: LATEST}";
    refused(&reading(&format!("        A: {{{stream}}}\n        B: {{{stream}}}\n")), "has one reader on this host");
    let young = "StartingPosition: LATEST, MaximumRecordAgeInSeconds: 59";
    refused(
        &reading(&format!("        A: {{{}}}\n", stream.replace("StartingPosition: LATEST", young))),
        "must be -1 or 60",
    );
    let hourly = |window: &str| {
        let properties = format!("ScheduleExpression: rate(1 hour), FlexibleTimeWindow: {{{window}}}");
        reading(&format!("        H: {{Type: ScheduleV2, Properties: {{{properties}}}}}\n"))
    };
    let at = "Events.H.Properties.FlexibleTimeWindow";
    refused(&hourly("Mode: FLEXIBLE"), &format!("{at}.MaximumWindowInMinutes"));
    refused(
        &hourly("Mode: FLEXIBLE, MaximumWindowInMinutes: 1441"),
        &format!("{at}.MaximumWindowInMinutes: must be 1 to 1440"),
    );
    refused(&hourly("Mode: SOMETIMES"), &format!("{at}.Mode: must be OFF or FLEXIBLE"));
}

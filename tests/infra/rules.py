"""This project's own rules for the transformed template: what the transform and cfn-lint take, and what fails on AWS all the
same, or lets in somebody who should stay outside. Each rule gives its findings as texts."""
import json
import re

import deployments
import told
from reading import FUNCTIONS, IN_VPC, NO_VALUE, POLLERS, Template, arn, listed, ref, text

FOURTEEN_DAYS = 1209600
TIERS = ["Critical", "High", "Normal", "Low"]
OPEN_ROUTES = {"post /alerts", "get /schemas/{name}"}
QUEUE_VARIABLES = {f"{tier.upper()}_QUEUE_URL": f"{tier}Queue" for tier in TIERS} | {
    "BATCH_TICKS_QUEUE_URL": "BatchTicksQueue",
    "REALTIME_TICKS_QUEUE_URL": "RealtimeTicksQueue",
    "STREAM_TICKS_QUEUE_URL": "StreamTicksQueue",
    "EXPRESS_RETRY_QUEUE_URL": "ExpressRetryQueue",
}
SECRETS = {"FIRMS_MAP_KEY_SECRET": "FirmsMapKey", "SYNOPTIC_TOKEN_SECRET": "SynopticToken",
           "PURPLEAIR_API_KEY_SECRET": "PurpleAirKey", "AIRNOW_API_KEY_SECRET": "AirNowKey"}
LETTERS = {"dead-letters", "dead-letter-blobs", "dead-letter-counts"}
INGESTED = {"audit/*", "express/*", "fires/*", "leases", "seen-turns", "seen/*"} | LETTERS
# Which partitions of the state table a function writes; redrive is held to less than that.
WRITES = {
    "Schedule": {"stream-plans"},
    **{name: INGESTED | {"hosts", "seen-shard/*", "stream-polls"} for name in POLLERS},
    "Express": {"audit/*", "breaker", "express/*"} | LETTERS,
    "Deliver": {"breaker", "deliver", "express/*", "leases", "reports"} | LETTERS,
    "Control": INGESTED | {"connectors", "mqtt-sources", "sensor-mappings", "stream-seed", "streams"},
}


def routes(t):
    found = {}
    for properties in t.of("AWS::ApiGatewayV2::Api").values():
        for path, methods in properties.get("Body", {}).get("paths", {}).items():
            for method, operation in methods.items():
                found[f"{method} {path}"] = operation
    for route, operation in found.items():
        signed = any("AWS_IAM" in way for way in operation.get("security", []))
        if not signed and route not in OPEN_ROUTES:
            yield f"routes: {route} answers whoever asks, without a signature"
        if signed and route in OPEN_ROUTES:
            yield f"routes: {route} wants a signature that its callers do not have"
    for route in OPEN_ROUTES - found.keys():
        yield f"routes: there is no {route}"


def throttling(t):
    for name, properties in t.of("AWS::ApiGatewayV2::Stage").items():
        usual, alerts = properties.get("DefaultRouteSettings", {}), properties.get("RouteSettings", {}).get("POST /alerts", {})
        for limit in ("ThrottlingBurstLimit", "ThrottlingRateLimit"):
            if limit not in usual:
                yield f"throttling: {name} has no {limit}"
            elif alerts.get(limit, 0) < 10 * usual[limit]:
                yield f"throttling: all senders of alerts together have no larger {limit} than an operator at {name}"
        if not properties.get("AccessLogSettings", {}).get("DestinationArn"):
            yield f"access log: {name} has none"


def queue_urls(t):
    for name in FUNCTIONS:
        environment = t.environment(name)
        for variable, queue in QUEUE_VARIABLES.items():
            if environment.get(variable) != ref(queue):
                yield f"queue urls: {variable} of {name} is not {queue}"


def sources(t):
    for name in FUNCTIONS:
        for mapping in t.mappings(name):
            if mapping.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
                yield f"partial failures: one failure of {name} brings back its whole batch"
            source = mapping["EventSourceArn"]["Fn::GetAtt"][0]
            kind = t.resources[source]["Type"]
            if kind == "AWS::SQS::Queue":
                visibility, timeout = t.properties(source).get("VisibilityTimeout", 30), t.function(name).get("Timeout", 3)
                if visibility < 6 * timeout:
                    yield f"visibility: {source} hides a message {visibility} s, {name} may take {timeout} s: six times as long is due"
                denied = [s.get("NotResource") for s in t.statements(name)
                          if s["Effect"] == "Deny" and "sqs:ReceiveMessage" in listed(s.get("Action"))]
                if denied != [arn(source)]:
                    yield f"permissions: {name} may read other queues than {source}, or not its own"
                if mapping.get("BatchSize") != 1:
                    yield f"batch size: one failing source holds up the others in a batch of {name}"
                most = 5 if name == "Express" else 20
                if not 2 <= mapping.get("ScalingConfig", {}).get("MaximumConcurrency", 0) <= most:
                    yield f"concurrency: {source} may take every environment of {name if name == 'Express' else 'the account'}"
                policy = t.properties(source).get("RedrivePolicy", {})
                if policy.get("maxReceiveCount", 0) < 5:
                    yield f"redrive: {source} gives a message up after {policy.get('maxReceiveCount')} receives, throttled ones too"
            else:
                lost = [mapping.get("MaximumRetryAttempts") != -1, mapping.get("StartingPosition") != "TRIM_HORIZON",
                        mapping.get("MaximumRecordAgeInSeconds", -1) != -1, not mapping.get("BisectBatchOnFunctionError"),
                        not mapping.get("DestinationConfig", {}).get("OnFailure")]
                if any(lost):
                    yield f"stream: {name} loses readings of {source} that it could not take"
    for name, queues in {"Batch": ["BatchTicksQueue"], "Realtime": ["RealtimeTicksQueue"],
                         "Stream": ["StreamTicksQueue", "SensorStream"], "Express": ["ExpressRetryQueue"]}.items():
        read = sorted(mapping["EventSourceArn"]["Fn::GetAtt"][0] for mapping in t.mappings(name))
        if read != sorted(queues):
            yield f"sources: {name} reads {read}"


def permissions(t):
    needed = {
        "Schedule": [(action, f"{mode}TicksQueue") for mode in POLLERS for action in ("sqs:SendMessage", "sqs:GetQueueAttributes")],
        "Deliver": [(action, f"{tier}Queue") for tier in TIERS
                    for action in ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:SendMessage")],
        "Express": [(action, f"{tier}Queue") for tier in TIERS for action in ("sqs:SendMessage", "sqs:GetQueueAttributes")],
    } | {name: [(action, f"{tier}Queue") for tier in TIERS for action in ("sqs:SendMessage", "sqs:GetQueueAttributes")]
         for name in ("Control", *POLLERS)}
    for name, wanted in needed.items():
        for action, resource in wanted:
            if not t.allows(name, action, arn(resource)):
                yield f"permissions: {name} may not {action} on {resource}"
    for name in FUNCTIONS:
        reads = {"dynamodb:GetItem", "dynamodb:Query"}
        if not all(t.allows(name, action, arn("StateTable")) for action in reads):
            yield f"permissions: {name} may not read the state table"
        may_delete = any("s3:DeleteObject" in listed(s.get("Action")) and s["Effect"] == "Allow" for s in t.statements(name))
        if may_delete != (name in ("Redrive", "Control")):
            yield f"permissions: {name} {'deletes' if may_delete else 'may not delete'} stored bytes"
        sends = any("sqs:SendMessage" in listed(s.get("Action")) for s in t.statements(name))
        if name == "Redrive" and sends:
            yield "permissions: redrive sends"
    for name in ("Batch", "Realtime", "Stream", "Express", "Deliver", "Control"):
        if not any("s3:PutObject" in listed(s.get("Action")) for s in t.statements(name)):
            yield f"permissions: {name} may not write stored bytes"
        # What is missing would be "access denied".
        if not t.allows(name, "s3:ListBucket", arn("BlobsBucket")) or not t.allows(name, "s3:GetObject", {"Fn::Sub": "${BlobsBucket.Arn}/*"}):
            yield f"permissions: {name} may not see which stored bytes there are"
    elsewhere = [s.get("NotResource") for s in t.statements("Stream")
                 if s["Effect"] == "Deny" and {"kinesis:GetRecords", "kinesis:GetShardIterator"} <= set(listed(s.get("Action")))]
    if elsewhere != [arn("SensorStream")]:
        yield "permissions: Stream may read other streams than SensorStream"
    deletes = [s.get("Condition", {}).get("ForAllValues:StringEquals", {}).get("dynamodb:LeadingKeys")
               for s in t.statements("Redrive") if "dynamodb:DeleteItem" in listed(s.get("Action"))]
    if deletes != [["dead-letter-blobs"]]:
        yield "permissions: redrive deletes more than the notes of stored bytes"
    published = [text(s["Resource"]) for s in t.statements("Express") if "iot:Publish" in listed(s.get("Action"))]
    for topic in ("alerts/ack/*", "alerts/refused/*"):
        if not any("${MqttPrefix}" + topic in resource for resource in published):
            yield f"permissions: express may not publish {topic}"
    for name in FUNCTIONS:
        for statement in t.statements(name):
            if statement["Effect"] != "Allow":
                continue
            for action in listed(statement.get("Action")):
                if action == "*" or action.endswith(":*"):
                    yield f"permissions: {name} may {action}"
            if "*" in listed(statement.get("Resource")):
                yield f"permissions: {name} may {statement.get('Action')} everywhere"


def secrets(t):
    for name in FUNCTIONS:
        environment = t.environment(name)
        for variable, secret in SECRETS.items():
            told = environment.get(variable)
            if (told == ref(secret)) != (name in POLLERS) or (told is not None and told != ref(secret)):
                yield f"secrets: {variable} of {name} is not as it should be"
            reads = any("secretsmanager:GetSecretValue" in listed(s.get("Action")) and f'"{secret}"' in text(s.get("Resource"))
                        for s in t.statements(name))
            if reads != (name in POLLERS):
                yield f"secrets: {name} {'may' if reads else 'may not'} read {secret}"
        sends = name in ("Express", "Deliver")
        if ("KAFKA_BROKERS" in environment) != sends or ("KAFKA_SECRET_ARN" in environment) != sends:
            yield f"secrets: {name} speaks to the brokers, or may not"
        for variable, value in environment.items():
            if "secretsmanager" in text(value) or re.search(r"(KEY|TOKEN|PASSWORD)$", variable):
                yield f"secrets: {variable} of {name} stands in its environment"
    user = t.properties("KafkaUserPolicy")
    may = all(action in text(user.get("PolicyDocument")) for action in ("secretsmanager:GetSecretValue", "kms:Decrypt"))
    readers = {name for name in FUNCTIONS if "KafkaUserPolicy" in text(t.properties(f"{name}FunctionRole").get("ManagedPolicyArns"))}
    if not may or readers != {"Express", "Deliver"}:
        yield "secrets: who sends may not read the brokers' user, or others may"
    # Environments that start while the stack is made.
    for name in ("Express", "Deliver"):
        if '"SecretsEndpoint"' not in text(t.function(name)):
            yield f"secrets: {name} may start before it can read its secret"
    if '"BrokersUserOfCluster"' not in text(t.properties("BrokerAddresses")):
        yield "secrets: the brokers' addresses are told before their user can log in"
    for name, properties in t.of("AWS::SecretsManager::Secret").items():
        if "SecretString" in properties:
            yield f"secrets: the value of {name} stands in the template"


def state(t):
    for policy, resource in [*t.of("AWS::IAM::ManagedPolicy").items(), *t.of("AWS::IAM::Role").items()]:
        documents = [resource["PolicyDocument"]] if "PolicyDocument" in resource else \
            [each["PolicyDocument"] for each in resource.get("Policies", [])]
        for statement in (s for document in documents for s in listed(document["Statement"]) if "Fn::If" not in s):
            writes = {a for a in listed(statement.get("Action")) if a in
                      ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem")}
            if not writes or statement["Effect"] != "Allow":
                continue
            keys = [key for condition in statement.get("Condition", {}).values()
                    for key in listed(condition.get("dynamodb:LeadingKeys"))]
            if not keys or "*" in keys:
                yield f"leading keys: {policy} writes any item of the state table"
            if any(key.startswith("audit") for key in keys) and writes != {"dynamodb:PutItem"}:
                yield f"leading keys: {policy} changes what is audited"
    for name, wanted in WRITES.items():
        allowed = [s for s in t.statements(name) if s["Effect"] == "Allow" and s.get("Resource") == arn("StateTable")]
        for action, keys in (("dynamodb:PutItem", wanted), ("dynamodb:DeleteItem", wanted - {"audit/*"})):
            may = {key for s in allowed if action in listed(s.get("Action"))
                   for key in listed(s.get("Condition", {}).get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys"))}
            for key in sorted(keys - may):
                yield f"leading keys: {name} may not {action} below {key}"
            for key in sorted(may - keys):
                yield f"leading keys: {name} may {action} below {key}"


def rules_of_iot(t):
    for name, prefix, kind, target in (("SensorsRule", "sensors/+/+/state", "Kinesis", "SensorStream"),
                                       ("AlertsRule", "alerts/+", "Lambda", "ExpressFunctionAliaslive")):
        payload = t.properties(name).get("TopicRulePayload", {})
        sql = text(payload.get("Sql"))
        if "FROM '${MqttPrefix}" + prefix + "'" not in sql or "StagedTopics" not in sql:
            yield f"stages: {name} takes other topics than its stage's {prefix}"
        if "encode(*, 'base64')" not in sql or payload.get("AwsIotSqlVersion") != "2016-03-23":
            yield f"iot: {name} does not take any bytes"
        for column in ("topic() AS topic", "principal() AS principal", "timestamp() AS received_at"):
            if column not in sql:
                yield f"iot: {name} does not hand on {column}"
        if payload.get("RuleDisabled"):
            yield f"iot: {name} is disabled"
        actions = text(payload.get("Actions"))
        if f'"{kind}"' not in actions or f'"{target}"' not in actions:
            yield f"iot: {name} does not start {target}" + (": $LATEST" if kind == "Lambda" else "")
        if "Sqs" not in payload.get("ErrorAction", {}):
            yield f"iot: what {name} cannot hand over is gone"
    for name, wanted in (("SensorsRuleRole", [("kinesis:PutRecord", "SensorStream"), ("sqs:SendMessage", "SensorFailuresQueue")]),
                         ("AlertsRuleRole", [("sqs:SendMessage", "ExpressRetryQueue")])):
        role = t.properties(name)
        statements = [s for p in role.get("Policies", []) for s in p["PolicyDocument"]["Statement"]]
        for action, resource in wanted:
            if not any(action in listed(s["Action"]) and arn(resource) in listed(s["Resource"]) for s in statements):
                yield f"iot: {name} may not {action} on {resource}"
        if "aws:SourceAccount" not in text(role.get("AssumeRolePolicyDocument")):
            yield f"iot: another account's rule may use {name}"
    permission = t.properties("AlertsRulePermission")
    if permission.get("FunctionName") != ref("ExpressFunctionAliaslive"):
        yield "iot: the alerts rule may not start express"
    if permission.get("Principal") != "iot.amazonaws.com" or permission.get("SourceArn") != arn("AlertsRule") \
            or "SourceAccount" not in permission:
        yield "iot: not the alerts rule alone may start express"
    for name, properties in t.of("AWS::IoT::Policy").items():
        if "PolicyName" in properties:
            yield f"retained: {name} stays while a certificate has it, and has a name that the next stack cannot have"
        document = text(properties["PolicyDocument"])
        statements = json.loads(properties["PolicyDocument"]["Fn::Sub"][0])["Statement"]
        allowed = [r for s in statements if s["Effect"] == "Allow" for r in listed(s["Resource"])]
        denied = [r for s in statements if s["Effect"] == "Deny" and s["Action"] == "iot:Publish" for r in listed(s["Resource"])]
        alerts = any(r.endswith("topic/${MqttPrefix}alerts/*") for s in statements
                     if s["Effect"] == "Allow" and s["Action"] == "iot:Publish" for r in listed(s["Resource"]))
        for topic in ("alerts/ack/*", "alerts/refused/*"):
            if alerts and not any(r.endswith("${MqttPrefix}" + topic) for r in denied):
                yield f"iot policy: whoever has {name} may publish {topic}"
        for resource in allowed:
            if resource == "*" or resource.endswith("refused/*") or resource.endswith(":client/*"):
                yield f"iot policy: {name} allows {resource}"
            if "topic" in resource and "${MqttPrefix}" not in resource:
                yield f"iot policy: {name} reaches another stage's topics"
        if "StagedTopics" not in document:
            yield f"iot policy: {name} reaches another stage's topics"


def schedules(t):
    expected = {"ScheduleFunction": "rate(1 minute)", "DeliverFunction": "rate(1 minute)", "RedriveFunction": "rate(1 hour)",
                "ExpressFunction": "rate(1 minute)"}
    seen = set()
    for name, properties in t.of("AWS::Scheduler::Schedule").items():
        owner = next((owner for owner in expected if name.startswith(owner)), name)
        seen.add(owner)
        rate = re.fullmatch(r"rate\(([1-9][0-9]*) (minutes?|hours?|days?)\)", str(properties.get("ScheduleExpression")))
        if not rate or (rate[1] == "1") == rate[2].endswith("s"):
            yield f"schedules: {name} has the impossible rate {properties.get('ScheduleExpression')}"
        elif properties["ScheduleExpression"] != expected.get(owner):
            yield f"schedules: {name} runs at {properties['ScheduleExpression']}"
        if properties.get("State") == "DISABLED":
            yield f"schedules: {name} is disabled"
        if "${Stage}" not in text(properties.get("Name")) or "${StackPrefix}" not in text(properties.get("Name")):
            yield f"stages: the schedule {name} has one name in all stages"
        retry = properties.get("Target", {}).get("RetryPolicy", {})
        if retry.get("MaximumRetryAttempts", 185) > 2 or retry.get("MaximumEventAgeInSeconds", 86400) > 600:
            yield f"schedules: stale runs of {name} pile up"
        if owner == "ExpressFunction":
            if json.loads(properties["Target"].get("Input", "{}")) != {"keep_warm": True}:
                yield "schedules: express takes what keeps it warm for an alert"
    for owner in expected.keys() - seen:
        yield f"schedules: nothing starts {owner}"
    for owner in seen - expected.keys():
        yield f"schedules: {owner} has a schedule"


def asynchronous(t):
    configs = t.of("AWS::Lambda::EventInvokeConfig")
    for name in ("Schedule", "Express", "Deliver", "Redrive"):
        config = next((c for c in configs.values() if c.get("FunctionName") == ref(f"{name}Function")), {})
        if config.get("MaximumRetryAttempts") != 0 or config.get("MaximumEventAgeInSeconds", 21600) > 600:
            yield f"asynchronous: a late run of {name} comes again"
        if name == "Express":
            if config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination") != arn("ExpressRetryQueue"):
                yield "asynchronous: an alert that express failed on is gone"
    alias = t.properties("ExpressFunctionAliaslive")
    if not alias.get("ProvisionedConcurrencyConfig"):
        yield "concurrency: express starts cold"
    warm, reserved = (t.parameters[f"Express{kind}Concurrency"] for kind in ("Provisioned", "Reserved"))
    if 0 < reserved["Default"] < warm["Default"] or warm.get("MinValue") != 2 or \
            {"Fn::Not": [{"Fn::Equals": [ref("ExpressReservedConcurrency"), 1]}]} not in \
            [each["Assert"] for rule in t.rules.values() for each in rule["Assertions"]]:
        yield "concurrency: express may have fewer environments than are to be kept warm"
    # One at work and one that stands by: a new version's check needs another.
    both = {"Fn::Not": [{"Fn::Or": [{"Fn::Equals": [ref("DeliverReservedConcurrency"), few]} for few in (1, 2)]}]}
    if 0 < t.parameters["DeliverReservedConcurrency"]["Default"] < 3 or \
            both not in [each["Assert"] for rule in t.rules.values() for each in rule["Assertions"]]:
        yield "concurrency: a new version of deliver may find no room to show that it starts"
    for name in ("Express", "Deliver"):
        if "ReservedConcurrentExecutions" not in t.function(name):
            yield f"concurrency: pollers may starve {name}"
    if t.function("Deliver").get("Timeout") != 900:
        yield "deliver: gaps between two runs are longer than its minute"


def storage(t):
    for name, properties in t.of("AWS::SQS::Queue").items():
        resource = t.resources[name]
        if properties.get("SqsManagedSseEnabled") is not True:
            yield f"encryption: {name} is not encrypted at rest"
        if "QueueName" in properties:
            yield f"retained: {name} has a name that the next stack cannot have"
        if "RedrivePolicy" not in properties and properties.get("MessageRetentionPeriod") != FOURTEEN_DAYS:
            yield f"retention: dead letters of {name} are dropped before 14 days"
        if "Ticks" not in name and resource.get("DeletionPolicy") != "RetainExceptOnCreate":
            yield f"retained: {name} goes with its stack, or blocks the next create"
        if "Ticks" not in name and properties.get("MessageRetentionPeriod") != FOURTEEN_DAYS:
            yield f"retention: what is accepted is dropped from {name} before 14 days"
        target = properties.get("RedrivePolicy", {}).get("deadLetterTargetArn")
        own = {"BatchTicksQueue": "TicksDeadLetters", "RealtimeTicksQueue": "TicksDeadLetters", "StreamTicksQueue": "TicksDeadLetters"}
        if name.endswith("Queue") and name != "SensorFailuresQueue":
            if target != arn(own.get(name, name.removesuffix("Queue") + "DeadLetters")):
                yield f"redrive: {name} does not give up to its own dead letters"
    for name in TIERS:
        policy = t.properties(f"{name}Queue").get("RedrivePolicy", {})
        if policy.get("maxReceiveCount") != 1000:
            yield f"redrive: an outage counts as receives of {name}, and good envelopes go to the dead letters"
    covered = text(t.properties("QueuesPolicy").get("Queues"))
    for name in t.of("AWS::SQS::Queue"):
        if f'"{name}"' not in covered:
            yield f"encryption: {name} is spoken to without TLS"
    for kind, name in (("AWS::DynamoDB::Table", "StateTable"), ("AWS::S3::Bucket", "BlobsBucket"), ("AWS::Kinesis::Stream", "SensorStream"),
                       *(("AWS::SecretsManager::Secret", secret) for secret in SECRETS.values())):
        resource = t.resources.get(name, {})
        if resource.get("DeletionPolicy") != "RetainExceptOnCreate" or resource.get("UpdateReplacePolicy") != "Retain":
            yield f"retained: {name} goes with its stack, or blocks the next create"
        if any(key in resource.get("Properties", {}) for key in ("TableName", "BucketName", "Name")):
            yield f"retained: {name} has a name that the next stack cannot have"
    table = t.properties("StateTable")
    if not table.get("SSESpecification", {}).get("SSEEnabled") or \
            not table.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled"):
        yield "encryption: the state table is not encrypted, or not backed up"
    if table.get("TimeToLiveSpecification") != {"AttributeName": "expires", "Enabled": True}:
        yield "state: nothing expires"
    bucket = t.properties("BlobsBucket")
    if "BucketEncryption" not in bucket or set(bucket.get("PublicAccessBlockConfiguration", {}).values()) != {True}:
        yield "encryption: the bucket is not encrypted, or public"
    if "aws:SecureTransport" not in text(t.properties("BlobsBucketPolicy")):
        yield "encryption: the bucket is spoken to without TLS"
    if "StreamEncryption" not in t.properties("SensorStream"):
        yield "encryption: the sensor stream is not encrypted"


def network(t):
    for name in FUNCTIONS:
        inside = "VpcConfig" in t.function(name) and t.function(name)["VpcConfig"] != NO_VALUE
        if inside != (name in IN_VPC):
            yield f"network: {name} is {'inside' if inside else 'outside'} the VPC"
    services = {"sqs": "Interface", "secretsmanager": "Interface", "iot.data": "Interface", "dynamodb": "Gateway", "s3": "Gateway"}
    found = {p["ServiceName"]["Fn::Sub"].removeprefix("com.amazonaws.${AWS::Region}."): p
             for p in t.of("AWS::EC2::VPCEndpoint").values()}
    for service, kind in services.items():
        endpoint = found.get(service, {})
        if endpoint.get("VpcEndpointType") != kind:
            yield f"network: there is no {kind.lower()} endpoint of {service}"
        elif kind == "Interface" and endpoint.get("PrivateDnsEnabled") != (service != "iot.data"):
            yield f"network: the private name of {service} is wrong"
        elif kind == "Interface" and endpoint.get("SecurityGroupIds") != [ref("EndpointsSecurityGroup")]:
            yield f"network: the endpoint of {service} answers other callers than the rest"
    name = t.properties("IotName")
    if name.get("HostedZoneId") != ref("IotZone") or name.get("Type") != "A" or "IotDataEndpoint" not in text(name.get("AliasTarget")):
        yield "network: IoT's data endpoint has no name in the VPC"
    let_in = t.properties("EndpointsSecurityGroup").get("SecurityGroupIngress", [])
    if any((rule.get("FromPort"), rule.get("ToPort")) != (443, 443) for rule in let_in):
        yield "network: the endpoints are not let into at 443"
    # Private names are those of the whole VPC.
    callers = [rule.get("SourceSecurityGroupId", rule.get("CidrIp")) for rule in let_in]
    if callers != [ref("FunctionsSecurityGroup"), {"Fn::If": ["NewNetwork", ref("VpcCidr"), ref("ExistingVpcCidr")]}]:
        yield "network: the endpoints do not answer the VPC that finds them"
    ways_out = [(rule.get("FromPort"), rule.get("ToPort")) for rule in t.properties("FunctionsSecurityGroup").get("SecurityGroupEgress", [])]
    if (443, 443) not in ways_out:
        yield "network: the functions do not reach AWS"
    if not any(begin <= 9092 and 9098 <= end for begin, end in ways_out):
        yield "network: the functions do not reach the brokers"
    entrance = t.properties("BrokersIngress")
    if (entrance.get("FromPort"), entrance.get("ToPort"), entrance.get("SourceSecurityGroupId")) != (9092, 9098, ref("FunctionsSecurityGroup")):
        yield "network: the brokers let others in than the functions, or not at Kafka's ports"
    conditions = {name: t.resources.get(name, {}).get("Condition") for name in
                  ("SqsEndpoint", "SecretsEndpoint", "IotDataEndpoint", "IotZone", "IotName", "DynamoDbEndpoint", "S3Endpoint")}
    for name, condition in conditions.items():
        if condition != {"IotDataEndpoint": "NewIotEndpoint", "IotZone": "NewIotEndpoint", "IotName": "NewIotEndpoint"}.get(name, f"New{name}"):
            yield f"network: {name} has no switch of its own"
    for name, properties in t.of("AWS::EC2::SecurityGroup").items():
        if name != "EndpointsSecurityGroup" and any("CidrIp" in rule for rule in properties.get("SecurityGroupIngress", [])):
            yield f"network: {name} lets in addresses instead of the functions"
    brokers = t.properties("Brokers")
    if brokers.get("EncryptionInfo", {}).get("EncryptionInTransit") != {"ClientBroker": "TLS", "InCluster": True}:
        yield "encryption: brokers are spoken to without TLS"


def sizes(t):
    """What a parameter takes can be made of it."""
    for parameter, taken, refused in (("BrokerInstanceType", "kafka.m7g.large", "express.m7g.large"), ("VpcCidr", "10.0.0.0/22", "10.0.0.0/23")):
        pattern = t.parameters[parameter]["AllowedPattern"]
        if not re.fullmatch(pattern, taken) or re.fullmatch(pattern, refused):
            yield f"sizes: {parameter} takes {refused}, or does not take {taken}"


def outputs(t):
    """What a new stack has to be told of the one before, and what others have to let in."""
    network = ("NetworkVpcId", "NetworkSubnetIds", "FunctionsSecurityGroupId", "EndpointsSecurityGroupId", "ClusterSecurityGroupId")
    brokers = ("ClusterBrokers", "ClusterArn", "ClusterSecretArn", "ClusterSecretKeyArn")
    kept = [f"{name}Url" for name in (*(f"{tier}Queue" for tier in TIERS), "ExpressRetryQueue", "SensorFailuresQueue")]
    for name in (*network, *brokers, *kept, "StateTableName", "BlobsBucketName", "SensorStreamName", "SendersPolicyName", "SensorsPolicyName",
                 "SinkStreamsPrefix", *(f"{secret}Arn" for secret in SECRETS.values())):
        if name not in t.outputs:
            yield f"outputs: nobody is told {name}"
    # `sam build` and `sam deploy` put the parameter's value in the place of such a name, and end with a TypeError where it is a list.
    for name in t.outputs.keys() & t.parameters.keys():
        yield f"outputs: {name} is a parameter as well"


def users_of_brokers(t):
    """SASL/SCRAM or IAM, and nobody without it."""
    either = lambda condition, yes, no: {"Fn::If": [condition, yes, no]}
    ways = t.properties("Brokers").get("ClientAuthentication", {})
    known = {"Fn::Or": [{"Condition": "ScramBrokers"}, {"Condition": "IamBrokers"}]}
    if ways.get("Unauthenticated", {}).get("Enabled") != either("BrokersKnowUs", False, True) or t.conditions.get("BrokersKnowUs") != known:
        yield "brokers: whoever reaches them needs no user"
    for way, condition in (("Scram", "ScramBrokers"), ("Iam", "IamBrokers")):
        if ways.get("Sasl", {}).get(way, {}).get("Enabled") != either(condition, True, False):
            yield f"brokers: they know nobody by {way}"
    user = t.properties("BrokersUser")
    if not user.get("Name", {}).get("Fn::Sub", [""])[0].startswith("AmazonMSK_"):
        yield "brokers: MSK refuses a user whose secret's name does not begin with AmazonMSK_"
    if user.get("KmsKeyId") != ref("BrokersKey"):
        yield "brokers: MSK refuses a user whose secret has AWS's key"
    asks = [statement for policy in t.properties("BrokerAddressesRole").get("Policies", []) for statement in policy["PolicyDocument"]["Statement"]]
    # Without a reference to the cluster: IAM learns of a new policy too late for who asks at once.
    own = [text(statement["Resource"]) for statement in asks]
    named = "cluster/" + t.properties("Brokers").get("ClusterName", {}).get("Fn::Sub", [""])[0] + "/*"
    if [statement["Action"] for statement in asks] != ["kafka:GetBootstrapBrokers"] or any(named not in each or '"Brokers"' in each for each in own):
        yield "brokers: who asks for their addresses may ask of other clusters, or too early"
    users = either("ScramBrokers", "BootstrapBrokerStringSaslScram", "BootstrapBrokerStringTls")
    if t.properties("BrokerAddresses").get("Answer") != either("IamBrokers", "BootstrapBrokerStringSaslIam", users):
        yield "brokers: the functions are told the addresses of another way in"


def roles_at_brokers(t):
    """What a role may at MSK's brokers, and on whose topics."""
    named = t.properties("Brokers").get("ClusterName", {}).get("Fn::Sub", [""])[0]
    # Of each action the kind of resource that it is asked of, and which of them.
    logs_in = {"Connect": ("cluster", ""), "WriteDataIdempotently": ("cluster", "")}
    ours = ("topic", "/${Topics}wildfire-*")
    may = {
        "Express": logs_in | {"DescribeTopic": ours, "WriteData": ("topic", "/${Topics}wildfire-critical-alerts")},
        "Deliver": logs_in | {"DescribeTopic": ours, "CreateTopic": ours, "WriteData": ours, "DescribeGroup": ("group", "/*")},
    }
    for name in FUNCTIONS:
        found = [(action.removeprefix("kafka-cluster:"), resource) for s in t.statements(name) for action in listed(s.get("Action"))
                 if action.startswith("kafka-cluster:") for resource in listed(s.get("Resource"))]
        wanted = may.get(name, {})
        for action in sorted(wanted.keys() ^ {action for action, _ in found}):
            yield f"brokers: the role of {name} {'may not' if action in wanted else 'may'} {action}"
        for action, resource in found:
            kind, which = wanted.get(action, ("", ""))
            said, end = text(resource), resource.get("Fn::Sub", [""])[0].removeprefix("${Of}")
            # Of a cluster of this stack by its name, of another one by its ARN; and topics of this stage.
            if f":{kind}/{named}/*" not in said or '"KafkaClusterArn"' not in said or end != which:
                yield f"brokers: the role of {name} may {action} elsewhere"
            if kind == "topic" and any(f'"{decides}"' not in said for decides in ("TopicPrefix", "StagedTopics")):
                yield f"stages: the role of {name} may {action} on another stage's topics"
    needed = [rule for rule in t.rules.values() if '"KafkaClusterArn"' in text(rule["Assertions"]) and '"iam"' in text(rule.get("RuleCondition"))]
    if not needed:
        yield "brokers: roles may be let in to no cluster"
    for parameter, security in (("KafkaSecretArn", "scram"), ("KafkaClusterArn", "iam")):
        alone = {"Fn::Or": [{"Fn::Equals": [{"Ref": parameter}, ""]}, {"Fn::Equals": [{"Ref": "KafkaSecurity"}, security]}]}
        if not any(each.get("Assert") == alone for rule in t.rules.values() for each in rule["Assertions"]):
            yield f"brokers: {parameter} may be given and not used"


def written_streams(t):
    """Sink=kinesis: one stream a topic, made by the stack or there before, and written to by nobody who needs it not."""
    prefix = t.environment("Deliver").get("TOPIC_PREFIX")
    named = lambda topic, before="": {"Fn::Sub": [before + "${Prefix}" + topic, {"Prefix": prefix}]}
    by_name = {text(p["Name"]): name for name, p in t.of("AWS::Kinesis::Stream").items() if "Name" in p}
    for topic in told.topics():
        name = by_name.pop(text(named(topic)), None)
        if name is None:
            yield f"streams: there is none of {topic} under the name that the functions write to"
            continue
        resource, properties = t.resources[name], t.properties(name)
        if resource.get("Condition") != "NewStreams":
            yield f"streams: {name} is made where Kafka is the sink, or beside one that exists"
        if resource.get("DeletionPolicy") != "RetainExceptOnCreate" or resource.get("UpdateReplacePolicy") != "Retain":
            yield f"retained: {name} goes with its stack, or blocks the next create"
        if properties.get("RetentionPeriodHours") != 168:
            yield f"retention: {name} keeps its records for another time than seven days"
        if properties.get("StreamEncryption", {}).get("EncryptionType") != "KMS":
            yield f"encryption: {name} is not encrypted at rest"
    for name in by_name.values():
        yield f"streams: {name} is of no topic"
    place = "arn:${AWS::Partition}:kinesis:${AWS::Region}:${AWS::AccountId}:stream/"
    writes = {"Express": ["wildfire-critical-alerts"], "Deliver": told.topics()}
    for name in FUNCTIONS:
        may = {text(resource) for s in t.statements(name) if s["Effect"] == "Allow" and "kinesis:PutRecords" in listed(s.get("Action"))
               for resource in listed(s.get("Resource"))}
        wanted = {text(named(topic, place)) for topic in writes.get(name, [])}
        for resource in sorted(may ^ wanted):
            yield f"streams: {name} {'may' if resource in may else 'may not'} write to {resource}"
        more = {action for s in t.statements(name) if s["Effect"] == "Allow" for action in listed(s.get("Action"))
                if "${Prefix}wildfire-" in text(s.get("Resource"))} - {"kinesis:PutRecords", "kinesis:DescribeStreamSummary"}
        if more or any("kinesis:PutRecords" in listed(s.get("Action")) and "kinesis:DescribeStreamSummary" not in listed(s.get("Action"))
                       for s in t.statements(name)):
            yield f"streams: {name} may do more with them than write and ask, or may not ask"
        if t.environment(name).get("SINK") != ref("Sink"):
            yield f"streams: {name} is not told what the sink is"
        for variable in ("KAFKA_BROKERS", "KAFKA_SECURITY"):
            value = t.environment(name).get(variable)
            if value is not None and (value.get("Fn::If") or [None])[0] != "ToKafka":
                yield f"streams: {name} has {variable} where the sink is Kinesis"
    for policy in ("AlertsStreamPolicy", "SinkStreamsPolicy"):
        if t.resources.get(policy, {}).get("Condition") != "ToKinesis":
            yield f"streams: {policy} is there where Kafka is the sink"
    # What belongs to brokers and their network is not there without them.
    for condition in ("NewBrokers", "ScramBrokers", "IamBrokers", "NewNetwork", "InVpc"):
        if {"Condition": "ToKafka"} not in t.conditions.get(condition, {}).get("Fn::And", []):
            yield f"streams: {condition} may hold where the sink is Kinesis"


def given_up(t):
    """Every queue that no function takes messages from is read by control, and by nobody else."""
    taken = {mapping["EventSourceArn"]["Fn::GetAtt"][0] for name in FUNCTIONS for mapping in t.mappings(name)}
    queues = {name for name in t.of("AWS::SQS::Queue") if name not in taken and name.removesuffix("Queue") not in TIERS}
    named = {value["Ref"] for variable, value in t.environment("Control").items() if variable.endswith("_DEAD_LETTERS_URL")}
    for queue in sorted(queues ^ named):
        yield f"given up: nobody reads {queue}" if queue in queues else f"given up: control takes {queue} for dead letters"
    reads = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes")
    for queue in sorted(queues):
        for action in reads:
            if not t.allows("Control", action, arn(queue)):
                yield f"given up: control may not {action} on {queue}"
        for name in FUNCTIONS:
            if name != "Control" and t.allows(name, "sqs:ReceiveMessage", arn(queue)):
                yield f"given up: {name} may read {queue}"
    for queue in ("BatchTicksQueue", "RealtimeTicksQueue", "StreamTicksQueue", "ExpressRetryQueue"):
        if not t.allows("Control", "sqs:SendMessage", arn(queue)):
            yield f"given up: nothing is moved back to {queue}"


def own_figures(t):
    """What alarms and widgets look at of our own metrics: who looks, where, at what, by which dimensions."""
    for name, properties in t.of("AWS::CloudWatch::Alarm").items():
        if "stream_" in properties.get("MetricName", ""):
            namespace = properties.get("Namespace")
            namespace = namespace.get("Fn::Sub", "") if isinstance(namespace, dict) else namespace
            yield name, namespace, properties["MetricName"], [d["Name"] for d in properties.get("Dimensions", [])]
    for name, properties in t.of("AWS::CloudWatch::Dashboard").items():
        # Of the names in it only the namespace is one of our own.
        body = json.loads(re.sub(r"\$\{(?!StackPrefix\}|Stage\})[^}]*\}", "x", properties["DashboardBody"]["Fn::Sub"]))
        for metric in (metric for widget in body["widgets"] for metric in widget["properties"]["metrics"]):
            if not metric[0].startswith("AWS/"):
                values = [value for value in metric[3::2] if metric[2] == "priority" and value not in map(str.upper, TIERS)]
                yield f"{name}: {metric[1]}", metric[0], metric[1], metric[2::2] if not values else values


def observed(t):
    watched, seen = {}, {}
    for name, properties in t.of("AWS::CloudWatch::Alarm").items():
        figure = properties.get("MetricName"), text([d["Value"] for d in properties.get("Dimensions", [])])
        seen[figure] = (properties.get("Threshold"), properties.get("Period", 0) * properties.get("EvaluationPeriods", 0))
        if ref("AlarmsTopic") not in properties.get("AlarmActions", []):
            yield f"alarms: {name} tells nobody"
        if properties.get("ComparisonOperator") != "GreaterThanThreshold":
            yield f"alarms: {name} compares with {properties.get('ComparisonOperator')}"
        if "${StackPrefix}-${Stage}" not in text(properties.get("AlarmName")):
            yield f"stages: the alarm {name} has one name in all stages"
        for dimension in properties.get("Dimensions", []):
            if dimension["Name"] == "QueueName" and properties["MetricName"] == "ApproximateNumberOfMessagesVisible":
                watched.setdefault(dimension["Value"]["Fn::GetAtt"][0], []).append(properties)
    for name in t.of("AWS::SQS::Queue"):
        of_tier = name.removesuffix("Queue") in TIERS
        if of_tier or name.endswith("DeadLetters") or name == "SensorFailuresQueue":
            alarm = (watched.get(name) or [{}])[0]
            want = (9000, 60, 2) if of_tier else (0, 60, 1)
            if (alarm.get("Threshold"), alarm.get("Period"), alarm.get("EvaluationPeriods")) != want:
                yield f"alarms: nobody is told of {name}"
    for metric, threshold, time in (("stream_circuit_breaker_state", 0, 300), ("stream_dlq_size", 100, 3600),
                                    ("stream_polls_overdue", 0, 180)):
        alarm = next((p for p in t.of("AWS::CloudWatch::Alarm").values() if p.get("MetricName") == metric), {})
        if alarm.get("Threshold") != threshold or alarm.get("Period", 0) * alarm.get("EvaluationPeriods", 0) != time:
            yield f"alarms: nobody is told of {metric}"
        if alarm.get("TreatMissingData") != "breaching":
            yield f"alarms: nobody is told when {metric} is no longer looked at"
    if "${StackPrefix}-${Stage}" not in text(t.properties("AlarmsTopic").get("DisplayName")):
        yield "stages: the alarms of all stages look alike"
    # An alert that waits is told within minutes, whatever holds it up.
    for metric, value, threshold in (("ApproximateAgeOfOldestMessage", {"Fn::GetAtt": ["CriticalQueue", "QueueName"]}, 60),
                                     ("ApproximateAgeOfOldestMessage", {"Fn::GetAtt": ["ExpressRetryQueue", "QueueName"]}, 60),
                                     ("Errors", ref("ExpressFunction"), 0), ("Throttles", ref("ExpressFunction"), 0),
                                     ("Errors", ref("DeliverFunction"), 0), ("5xx", ref("Api"), 0)):
        if seen.get((metric, text([value]))) != (threshold, 60):
            yield f"alarms: nobody is told of {metric} of {next(iter(listed(next(iter(value.values())))))}"
    metrics = told.names()
    for who, namespace, metric, dimensions in own_figures(t):
        if any(t.environment(name).get("METRICS_NAMESPACE") != {"Fn::Sub": namespace} for name in FUNCTIONS):
            yield f"metrics: {who} looks for {metric} where no function tells it"
        elif dimensions not in metrics.get(metric, []):
            yield f"metrics: {who} names {metric} by {dimensions}, which no function tells"
    if not t.of("AWS::CloudWatch::Dashboard"):
        yield "alarms: there is no dashboard"
    for name, properties in t.of("AWS::CloudWatch::Dashboard").items():
        json.loads(re.sub(r"\$\{[^}]*\}", "x", properties["DashboardBody"]["Fn::Sub"]))
        if "${Stage}" not in text(properties.get("DashboardName")):
            yield f"stages: the dashboard {name} has one name in all stages"
    for name in FUNCTIONS:
        # Calls of each second and of each poll would cost more to trace than to make.
        mode = "PassThrough" if name in ("Realtime", "Stream") else "Active"
        if t.function(name).get("TracingConfig") != {"Mode": mode}:
            yield f"tracing: {name} leaves no traces"
        if t.function(name).get("LoggingConfig", {}).get("LogGroup") != ref(f"{name}Logs"):
            yield f"logs: {name} logs elsewhere"
        if "${Stage}" not in text(t.function(name).get("FunctionName")):
            yield f"stages: the function {name} has one name in all stages"
        if t.function(name).get("Architectures") != [ref("Architecture")]:
            yield f"architecture: {name} may be built for other processors than it runs on"
        topics = t.environment(name).get("TOPIC_PREFIX"), t.environment(name).get("MQTT_PREFIX")
        if any("StagedTopics" not in text(prefix) for prefix in topics):
            yield f"stages: {name} publishes into another stage's topics"
    for name, properties in t.of("AWS::Lambda::Function").items():
        if properties.get("LoggingConfig", {}).get("LogGroup", {}).get("Ref") not in t.of("AWS::Logs::LogGroup"):
            yield f"logs: those of {name} are kept for ever"
    for name, properties in t.of("AWS::Logs::LogGroup").items():
        if "RetentionInDays" not in properties:
            yield f"logs: {name} is kept for ever"
        if "LogGroupName" in properties:
            yield f"retained: {name} has a name that the next stack cannot have"


def findings(template):
    t = Template(template)
    rules = (routes, throttling, queue_urls, sources, permissions, secrets, state, rules_of_iot, schedules, asynchronous,
             deployments.aliases, deployments.deployments, storage, network, sizes, outputs, users_of_brokers, roles_at_brokers, written_streams,
             given_up, observed)
    found = []
    for rule in rules:
        try:
            found += rule(t)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as problem:
            # What a rule cannot read is not as it should be.
            found.append(f"{rule.__name__}: cannot be read: {problem!r}")
    return found

//! What must never get into the template is put into it fault by fault, and found before anything is deployed [D1]; then it is
//! deployed into CloudFormation that is not ours.

use std::process::Command;

use serde_json::{Value, json};
use streammanager_tests::system::{Start, System};
use streammanager_tests::{aws, binary, skip, workspace};
use tempfile::tempdir;

use super::{changed_in, deployed, deployments};

/// Where, from what, to what, and which check has to say so. No resource: the whole text.
pub(super) type Fault = (&'static str, &'static str, &'static str, &'static str);

/// What may go wrong in the template.
const FAULTS: &[Fault] = &[
    (
        "",
        "    Architectures: [!Ref Architecture]\n",
        "    Architectures: [x86_64]\n",
        "architecture: Deliver may be built for other processors than it runs on",
    ),
    // Who is let in.
    (
        "ControlFunction",
        "Method: POST, Path: \"/connectors\"}",
        "Method: POST, Path: \"/connectors\", Auth: {Authorizer: NONE}}",
        "routes: post /connectors answers whoever asks",
    ),
    (
        "ControlFunction",
        "Method: PUT, Path: \"/streams\"}",
        "Method: PUT, Path: \"/streams\", Auth: {Authorizer: NONE}}",
        "routes: put /streams answers whoever asks",
    ),
    (
        "ExpressFunction",
        "            # A sender shows its connector's key; the function checks it.\n            Auth:\n              Authorizer: NONE\n",
        "",
        "routes: post /alerts wants a signature",
    ),
    ("Api", "        DefaultAuthorizer: AWS_IAM\n", "", "transform: "),
    ("Api", "          ThrottlingRateLimit: 2000\n", "          ThrottlingRateLimit: 100\n", "throttling: "),
    ("AlertsRulePermission", "      SourceAccount: !Ref AWS::AccountId\n", "", "iot: not the alerts rule alone"),
    (
        "AlertsRuleRole",
        "aws:SourceAccount: !Ref AWS::AccountId",
        "aws:PrincipalOrgID: o-1",
        "iot: another account's rule",
    ),
    (
        "SendersPolicy",
        "{\"Effect\": \"Deny\", \"Action\": \"iot:Publish\"",
        "{\"Effect\": \"Allow\", \"Action\": \"iot:Publish\"",
        "iot policy: whoever has SendersPolicy",
    ),
    ("SendersPolicy", ", \"${Iot}:topic/${MqttPrefix}alerts/refused/*\"]", "]", "may publish alerts/refused"),
    (
        "SendersPolicy",
        "}:topic/${MqttPrefix}alerts/refused/${!iot:Connection.Thing.ThingName}",
        "}:topic/${MqttPrefix}alerts/refused/*",
        "iot policy: SendersPolicy allows",
    ),
    ("SensorsPolicy", "client/${!iot:Connection.Thing.ThingName}", "client/*", "iot policy: SensorsPolicy allows"),
    ("BlobsBucket", "RestrictPublicBuckets: true", "RestrictPublicBuckets: false", "encryption: the bucket"),
    // What a function may not do and needs, or may do and should not.
    (
        "DeliverFunction",
        "[sqs:ReceiveMessage, sqs:DeleteMessage,",
        "[sqs:DeleteMessage,",
        "permissions: Deliver may not sqs:ReceiveMessage",
    ),
    (
        "DeliverFunction",
        ", sqs:ChangeMessageVisibility]",
        "]",
        "permissions: Deliver may not sqs:ChangeMessageVisibility",
    ),
    (
        "DeliverFunction",
        "Action: [sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility]",
        "Action: sqs:*",
        "permissions: Deliver may sqs:*",
    ),
    (
        "ExpressFunction",
        "Action: iot:Publish",
        "Action: iot:RetainPublish",
        "permissions: express may not publish alerts/ack",
    ),
    (
        "ScheduleFunction",
        "!GetAtt StreamTicksQueue.Arn]",
        "!GetAtt BatchTicksQueue.Arn]",
        "permissions: Schedule may not sqs:SendMessage on StreamTicksQueue",
    ),
    (
        "SensorsRuleRole",
        "Action: kinesis:PutRecord",
        "Action: kinesis:DescribeStream",
        "iot: SensorsRuleRole may not kinesis:PutRecord",
    ),
    (
        "AlertsRuleRole",
        "Action: sqs:SendMessage",
        "Action: sqs:GetQueueUrl",
        "iot: AlertsRuleRole may not sqs:SendMessage",
    ),
    (
        "TierSendPolicy",
        "!GetAtt CriticalQueue.Arn, ",
        "",
        "permissions: Express may not sqs:SendMessage on CriticalQueue",
    ),
    (
        "BatchFunction",
        "NotResource: !GetAtt BatchTicksQueue.Arn",
        "NotResource: !GetAtt RealtimeTicksQueue.Arn",
        "permissions: Batch may read other queues",
    ),
    (
        "ScheduleFunction",
        "Action: [sqs:SendMessage, sqs:GetQueueAttributes]",
        "Action: [sqs:SendMessage]",
        "permissions: Schedule may not sqs:GetQueueAttributes",
    ),
    (
        "BlobsPolicy",
        "            Action: s3:ListBucket\n",
        "            Action: s3:GetBucketLocation\n",
        "permissions: Batch may not see which stored bytes there are",
    ),
    (
        "StreamFunction",
        "            - Effect: Deny\n              Action: [kinesis:GetRecords, kinesis:GetShardIterator]\n              NotResource: !GetAtt SensorStream.Arn\n",
        "",
        "permissions: Stream may read other streams",
    ),
    (
        "RedriveFunction",
        "dynamodb:LeadingKeys: [dead-letter-blobs]",
        "dynamodb:LeadingKeys: [dead-letters]",
        "permissions: redrive deletes more than the notes",
    ),
    (
        "BatchFunction",
        "        - !Ref BlobsPolicy\n",
        "        - !Ref BlobsPolicy\n        - !Ref BlobsDeletePolicy\n",
        "permissions: Batch deletes stored bytes",
    ),
    ("RedriveFunction", "        - !Ref BlobsDeletePolicy\n", "", "permissions: Redrive may not delete stored bytes"),
    (
        "DeliverStatePolicy",
        "                  - breaker\n",
        "                  - \"*\"\n",
        "leading keys: DeliverStatePolicy writes any item",
    ),
    (
        "IngestStatePolicy",
        "                  - hosts\n",
        "                  - hosts\n                  - connectors\n",
        "leading keys: Batch may dynamodb:PutItem below connectors",
    ),
    (
        "IngestStatePolicy",
        "                  - seen/*\n",
        "",
        "leading keys: Stream may not dynamodb:PutItem below seen/*",
    ),
    (
        "ScheduleStatePolicy",
        "                  - stream-plans",
        "                  - stream-plans\n                  - dead-letters",
        "leading keys: Schedule may dynamodb:DeleteItem below dead-letters",
    ),
    (
        "ExpressStatePolicy",
        "            Action: dynamodb:PutItem\n",
        "            Action: [dynamodb:PutItem, dynamodb:DeleteItem]\n",
        "leading keys: ExpressStatePolicy changes what is audited",
    ),
    (
        "ExpressFunction",
        "        - !Ref ExpressStatePolicy\n",
        "        - !Ref ExpressStatePolicy\n        - !Ref OperatorStatePolicy\n",
        "leading keys: Express may dynamodb:PutItem below connectors",
    ),
    (
        "ControlFunction",
        "        - !Ref OperatorStatePolicy\n",
        "        - !Ref ExpressStatePolicy\n",
        "leading keys: Control may not dynamodb:PutItem below streams",
    ),
    // Secrets.
    (
        "BatchFunction",
        "FIRMS_MAP_KEY_SECRET: !Ref FirmsMapKey",
        "FIRMS_MAP_KEY: !Sub \"{{resolve:secretsmanager:${FirmsMapKey}}}\"",
        "secrets: FIRMS_MAP_KEY of Batch stands in its environment",
    ),
    (
        "RealtimeFunction",
        "AIRNOW_API_KEY_SECRET: !Ref AirNowKey",
        "AIRNOW_API_KEY_SECRET: !Ref PurpleAirKey",
        "secrets: AIRNOW_API_KEY_SECRET of Realtime",
    ),
    (
        "StreamFunction",
        "        - AWSSecretsManagerGetSecretValuePolicy:\n            SecretArn: !Ref AirNowKey\n",
        "",
        "secrets: Stream may not read AirNowKey",
    ),
    (
        "FirmsMapKey",
        "    Properties:\n",
        "    Properties:\n      SecretString: 0123456789abcdef\n",
        "secrets: the value of FirmsMapKey",
    ),
    (
        "DeliverFunction",
        "          KAFKA_SECRET_ARN: !If [ScramBrokers, !If [NewBrokers, !Ref BrokersUser, !Ref KafkaSecretArn], !Ref AWS::NoValue]\n",
        "",
        "secrets: Deliver speaks to the brokers, or may not",
    ),
    (
        "DeliverFunction",
        "        - !If [ScramBrokers, !Ref KafkaUserPolicy, !Ref AWS::NoValue]\n",
        "",
        "secrets: who sends may not read the brokers' user",
    ),
    (
        "ExpressFunction",
        "!If [NewSecretsEndpoint, !Ref SecretsEndpoint, none]",
        "none",
        "secrets: Express may start before it can read its secret",
    ),
    // What is crossed.
    ("", "HIGH_QUEUE_URL: !Ref HighQueue", "HIGH_QUEUE_URL: !Ref NormalQueue", "queue urls: HIGH_QUEUE_URL"),
    (
        "",
        "REALTIME_TICKS_QUEUE_URL: !Ref RealtimeTicksQueue",
        "REALTIME_TICKS_QUEUE_URL: !Ref BatchTicksQueue",
        "queue urls: REALTIME_TICKS_QUEUE_URL",
    ),
    (
        "",
        "EXPRESS_RETRY_QUEUE_URL: !Ref ExpressRetryQueue",
        "EXPRESS_RETRY_QUEUE_URL: !Ref SensorFailuresQueue",
        "queue urls: EXPRESS_RETRY_QUEUE_URL",
    ),
    ("HighQueue", "!GetAtt HighDeadLetters.Arn", "!GetAtt LowDeadLetters.Arn", "redrive: HighQueue does not give up"),
    (
        "RealtimeFunction",
        "            Queue: !GetAtt RealtimeTicksQueue.Arn",
        "            Queue: !GetAtt BatchTicksQueue.Arn",
        "sources: Realtime reads",
    ),
    (
        "AlertsRule",
        "FunctionArn: !Ref ExpressFunction.Alias",
        "FunctionArn: !GetAtt ExpressFunction.Arn",
        "iot: AlertsRule does not start ExpressFunctionAliaslive: $LATEST",
    ),
    (
        "AlertsRulePermission",
        "FunctionName: !Ref ExpressFunction.Alias",
        "FunctionName: !Ref ExpressFunction",
        "iot: the alerts rule may not start express",
    ),
    // What is lost, or comes again for ever.
    ("BatchTicksQueue", "VisibilityTimeout: 1800", "VisibilityTimeout: 300", "visibility: BatchTicksQueue"),
    ("ExpressRetryQueue", "VisibilityTimeout: 90", "VisibilityTimeout: 30", "visibility: ExpressRetryQueue"),
    (
        "RealtimeFunction",
        "\n            FunctionResponseTypes: [ReportBatchItemFailures]",
        "",
        "partial failures: one failure of Realtime",
    ),
    (
        "StreamFunction",
        "BatchSize: 1000\n            FunctionResponseTypes: [ReportBatchItemFailures]\n",
        "BatchSize: 1000\n",
        "partial failures: one failure of Stream",
    ),
    ("StreamFunction", "MaximumRetryAttempts: -1", "MaximumRetryAttempts: 3", "stream: Stream loses readings"),
    ("StreamFunction", "StartingPosition: TRIM_HORIZON", "StartingPosition: LATEST", "stream: Stream loses readings"),
    ("BatchFunction", "            BatchSize: 1\n", "            BatchSize: 10\n", "batch size: one failing source"),
    ("HighQueue", "maxReceiveCount: 1000", "maxReceiveCount: 3", "redrive: an outage counts"),
    ("StreamTicksQueue", "maxReceiveCount: 5", "maxReceiveCount: 1", "redrive: StreamTicksQueue"),
    (
        "NormalDeadLetters",
        "MessageRetentionPeriod: 1209600",
        "MessageRetentionPeriod: 345600",
        "retention: dead letters of NormalDeadLetters",
    ),
    (
        "LowQueue",
        "MessageRetentionPeriod: 1209600",
        "MessageRetentionPeriod: 3600",
        "retention: what is accepted is dropped from LowQueue",
    ),
    (
        "ExpressFunction",
        "            Destination: !GetAtt ExpressRetryQueue.Arn",
        "            Destination: !GetAtt HighQueue.Arn",
        "asynchronous: an alert that express failed on",
    ),
    (
        "ExpressFunction",
        "        MaximumRetryAttempts: 0\n        MaximumEventAgeInSeconds: 60\n        DestinationConfig:",
        "        MaximumRetryAttempts: 2\n        MaximumEventAgeInSeconds: 60\n        DestinationConfig:",
        "asynchronous: a late run of Express",
    ),
    ("SensorsRule", "RuleDisabled: false", "RuleDisabled: true", "iot: SensorsRule is disabled"),
    ("AlertsRule", "principal() AS principal, ", "", "iot: AlertsRule does not hand on principal()"),
    ("AlertsRule", "'${MqttPrefix}alerts/+'", "'${MqttPrefix}alerts/#'", "stages: AlertsRule takes other topics"),
    ("StateTable", "AttributeName: expires\n", "AttributeName: ttl\n", "state: nothing expires"),
    ("CriticalQueue", "DeletionPolicy: RetainExceptOnCreate", "DeletionPolicy: Delete", "retained: CriticalQueue"),
    ("StateTable", "DeletionPolicy: RetainExceptOnCreate", "DeletionPolicy: Retain", "retained: StateTable"),
    (
        "HighQueue",
        "    Properties:\n",
        "    Properties:\n      QueueName: !Sub ${StackPrefix}-${Stage}-high\n",
        "retained: HighQueue has a name",
    ),
    (
        "SendersPolicy",
        "    Properties:\n",
        "    Properties:\n      PolicyName: !Sub ${StackPrefix}-${Stage}-senders\n",
        "retained: SendersPolicy",
    ),
    // When things run, and how many at a time.
    ("RedriveFunction", "rate(1 hour)", "rate(1 houer)", "schedules: RedriveFunctionEveryHour has the impossible rate"),
    (
        "ScheduleFunction",
        "rate(1 minute)",
        "rate(1 minutes)",
        "schedules: ScheduleFunctionEveryMinute has the impossible rate",
    ),
    ("DeliverFunction", "rate(1 minute)", "rate(1 hour)", "schedules: DeliverFunctionEveryMinute runs at"),
    (
        "ScheduleFunction",
        "            RetryPolicy:\n              MaximumRetryAttempts: 0\n              MaximumEventAgeInSeconds: 60",
        "            State: ENABLED",
        "schedules: stale runs of ScheduleFunctionEveryMinute",
    ),
    ("ExpressFunction", "'{\"keep_warm\": true}'", "'{}'", "schedules: express takes what keeps it warm"),
    (
        "ExpressFunction",
        "      ProvisionedConcurrencyConfig:\n        ProvisionedConcurrentExecutions: !Ref ExpressProvisionedConcurrency\n",
        "",
        "concurrency: express starts cold",
    ),
    (
        "ExpressFunction",
        "      ReservedConcurrentExecutions: !If [ReservesExpress, !Ref ExpressReservedConcurrency, !Ref AWS::NoValue]\n",
        "",
        "concurrency: pollers may starve Express",
    ),
    (
        "RealtimeFunction",
        "            ScalingConfig:\n              MaximumConcurrency: 10\n",
        "",
        "concurrency: RealtimeTicksQueue may take every environment",
    ),
    (
        "ExpressFunction",
        "            # The rest of express is for alerts that come in now.\n            ScalingConfig:\n              MaximumConcurrency: 5\n",
        "",
        "concurrency: ExpressRetryQueue may take every environment of Express",
    ),
    (
        "",
        "    Default: 50\n    MinValue: 0\n    MaxValue: 1000\n",
        "    Default: 1\n    MinValue: 0\n    MaxValue: 1000\n",
        "concurrency: express may have fewer",
    ),
    (
        "",
        "      - Assert: !Not [!Equals [!Ref ExpressReservedConcurrency, 1]]",
        "      - Assert: !Not [!Equals [!Ref ExpressReservedConcurrency, 2]]",
        "concurrency: express may have fewer",
    ),
    (
        "",
        "[!Equals [!Ref DeliverReservedConcurrency, 1], !Equals [!Ref DeliverReservedConcurrency, 2]]",
        "[!Equals [!Ref DeliverReservedConcurrency, 1], !Equals [!Ref DeliverReservedConcurrency, 1]]",
        "concurrency: a new version of deliver may find no room",
    ),
    (
        "",
        "    Default: 3\n    MinValue: 0\n    MaxValue: 10\n",
        "    Default: 2\n    MinValue: 0\n    MaxValue: 10\n",
        "concurrency: a new version of deliver may find no room",
    ),
    (
        "BrokerAddressesRole",
        "cluster/${StackPrefix}-${Stage}-${Own}/*",
        "cluster/*",
        "brokers: who asks for their addresses may ask of other clusters",
    ),
    (
        "BrokerAddressesRole",
        "Action: kafka:GetBootstrapBrokers",
        "Action: [kafka:GetBootstrapBrokers, kafka:DeleteCluster]",
        "brokers: who asks for their addresses may ask of other clusters",
    ),
    ("DeliverFunction", "Timeout: 900", "Timeout: 60", "deliver: gaps between"),
    // Stages.
    (
        "DeliverFunction",
        "            Name: !Sub ${StackPrefix}-${Stage}-deliver\n",
        "",
        "stages: the schedule DeliverFunctionEveryMinute",
    ),
    (
        "RedriveFunction",
        "FunctionName: !Sub ${StackPrefix}-${Stage}-redrive",
        "FunctionName: !Sub ${StackPrefix}-redrive",
        "stages: the function Redrive",
    ),
    ("AlertsRule", "'${MqttPrefix}alerts/+'", "'alerts/+'", "stages: AlertsRule takes other topics"),
    (
        "SensorsPolicy",
        "topic/${MqttPrefix}sensors/*",
        "topic/sensors/*",
        "iot policy: SensorsPolicy reaches another stage",
    ),
    (
        "",
        "TOPIC_PREFIX: !If [HasTopicPrefix, !Ref TopicPrefix, !If [StagedTopics, !Sub \"${Stage}-\", \"\"]]",
        "TOPIC_PREFIX: !Ref TopicPrefix",
        "stages: Express publishes into another stage's topics",
    ),
    ("AlarmsTopic", "${StackPrefix}-${Stage}", "${StackPrefix}", "stages: the alarms of all stages look alike"),
    // Network and encryption.
    (
        "RedriveFunction",
        "      VpcConfig: !If\n        - InVpc\n        - SecurityGroupIds: [!Ref FunctionsSecurityGroup]\n          SubnetIds: !If [NewNetwork, [!Ref SubnetA, !Ref SubnetB, !Ref SubnetC], !Ref SubnetIds]\n        - !Ref AWS::NoValue\n",
        "",
        "network: Redrive is outside",
    ),
    ("SqsEndpoint", "${AWS::Region}.sqs", "${AWS::Region}.sns", "network: there is no interface endpoint of sqs"),
    (
        "S3Endpoint",
        "VpcEndpointType: Gateway",
        "VpcEndpointType: Interface",
        "network: there is no gateway endpoint of s3",
    ),
    (
        "EndpointsSecurityGroup",
        "          CidrIp: !If [NewNetwork, !Ref VpcCidr, !Ref ExistingVpcCidr]\n",
        "          SourceSecurityGroupId: !Ref FunctionsSecurityGroup\n",
        "network: the endpoints do not answer the VPC",
    ),
    (
        "EndpointsSecurityGroup",
        "          FromPort: 443\n          ToPort: 443\n          SourceSecurityGroupId",
        "          FromPort: 80\n          ToPort: 80\n          SourceSecurityGroupId",
        "network: the endpoints are not let into at 443",
    ),
    (
        "SqsEndpoint",
        "[!Ref EndpointsSecurityGroup]",
        "[!Ref FunctionsSecurityGroup]",
        "network: the endpoint of sqs answers",
    ),
    (
        "S3Endpoint",
        "Condition: NewS3Endpoint",
        "Condition: NewEndpoints",
        "network: S3Endpoint has no switch of its own",
    ),
    ("IotDataEndpoint", "PrivateDnsEnabled: false", "PrivateDnsEnabled: true", "network: the private name of iot.data"),
    (
        "FunctionsSecurityGroup",
        "{IpProtocol: tcp, FromPort: 443, ToPort: 443,",
        "{IpProtocol: tcp, FromPort: 444, ToPort: 444,",
        "network: the functions do not reach AWS",
    ),
    (
        "FunctionsSecurityGroup",
        "FromPort: 1024, ToPort: 65535",
        "FromPort: 1024, ToPort: 9092",
        "network: the functions do not reach the brokers",
    ),
    (
        "BrokersIngress",
        "FromPort: 9092\n      ToPort: 9098",
        "FromPort: 2181\n      ToPort: 2181",
        "network: the brokers let others in",
    ),
    (
        "IotName",
        "      Type: A\n      # An entry is ZONE:NAME.\n      AliasTarget:\n        HostedZoneId: !Select [0, !Split [\":\", !Select [0, !GetAtt IotDataEndpoint.DnsEntries]]]\n        DNSName: !Select [1, !Split [\":\", !Select [0, !GetAtt IotDataEndpoint.DnsEntries]]]",
        "      Type: CNAME\n      TTL: \"60\"\n      ResourceRecords: [!Select [1, !Split [\":\", !Select [0, !GetAtt IotDataEndpoint.DnsEntries]]]]",
        "network: IoT's data endpoint has no name",
    ),
    (
        "Brokers",
        "Enabled: !If [BrokersKnowUs, false, true]",
        "Enabled: true",
        "brokers: whoever reaches them needs no user",
    ),
    (
        "",
        "[!Condition ScramBrokers, !Condition IamBrokers]",
        "[!Condition ScramBrokers, !Condition NewUser]",
        "brokers: whoever reaches them needs no user",
    ),
    (
        "Brokers",
        "          Iam:\n            Enabled: !If [IamBrokers, true, false]\n",
        "",
        "brokers: they know nobody by Iam",
    ),
    (
        "ExpressFunction",
        "        - !If [IamBrokers, !Ref ExpressKafkaPolicy, !Ref AWS::NoValue]\n",
        "",
        "brokers: the role of Express may not Connect",
    ),
    (
        "DeliverFunction",
        "!Ref DeliverKafkaPolicy",
        "!Ref ExpressKafkaPolicy",
        "brokers: the role of Deliver may not CreateTopic",
    ),
    (
        "ExpressKafkaPolicy",
        "            Action: kafka-cluster:WriteData\n",
        "            Action: kafka-cluster:ReadData\n",
        "brokers: the role of Express may not WriteData",
    ),
    (
        "ExpressKafkaPolicy",
        "[kafka-cluster:Connect, kafka-cluster:WriteDataIdempotently]",
        "kafka-cluster:Connect",
        "brokers: the role of Express may not WriteDataIdempotently",
    ),
    (
        "ExpressKafkaPolicy",
        "${Topics}wildfire-critical-alerts",
        "${Topics}wildfire-*",
        "brokers: the role of Express may WriteData elsewhere",
    ),
    (
        "DeliverKafkaPolicy",
        "kafka-cluster:CreateTopic, kafka-cluster:WriteData]",
        "kafka-cluster:CreateTopic, kafka-cluster:WriteData, kafka-cluster:DeleteTopic]",
        "brokers: the role of Deliver may DeleteTopic",
    ),
    ("DeliverKafkaPolicy", "kafka-cluster:WriteData]", "kafka-cluster:*]", "permissions: Deliver may kafka-cluster:*"),
    (
        "DeliverKafkaPolicy",
        ":topic/${StackPrefix}-${Stage}-${Own}/*",
        ":topic/*",
        "brokers: the role of Deliver may WriteData elsewhere",
    ),
    (
        "DeliverKafkaPolicy",
        "Topics: !If [HasTopicPrefix, !Ref TopicPrefix, !If [StagedTopics, !Sub \"${Stage}-\", \"\"]]",
        "Topics: \"*\"",
        "stages: the role of Deliver may WriteData on another stage's topics",
    ),
    (
        "DeliverKafkaPolicy",
        "Action: kafka-cluster:DescribeGroup",
        "Action: kafka-cluster:AlterGroup",
        "brokers: the role of Deliver may AlterGroup",
    ),
    (
        "StreamFunction",
        "        - !Ref TierSendPolicy\n",
        "        - !Ref TierSendPolicy\n        - !If [IamBrokers, !Ref DeliverKafkaPolicy, !Ref AWS::NoValue]\n",
        "brokers: the role of Stream may Connect",
    ),
    (
        "",
        "      - Assert: !Not [!Equals [!Ref KafkaClusterArn, \"\"]]",
        "      - Assert: !Not [!Equals [!Ref KafkaSecurity, \"\"]]",
        "brokers: roles may be let in to no cluster",
    ),
    (
        "",
        "  IamBrokers: !And [!Condition ToKafka, !Equals [!Ref KafkaSecurity, iam]]\n",
        "  IamBrokers: !Equals [!Ref KafkaSecurity, iam]\n",
        "streams: IamBrokers may hold where the sink is Kinesis",
    ),
    (
        "",
        "      - Assert: !Or [!Equals [!Ref KafkaClusterArn, \"\"], !Equals [!Ref KafkaSecurity, iam]]\n        AssertDescription: KafkaClusterArn is for KafkaSecurity=iam\n",
        "",
        "brokers: KafkaClusterArn may be given and not used",
    ),
    ("BrokersUser", "AmazonMSK_${StackPrefix}", "${StackPrefix}", "brokers: MSK refuses a user whose secret's name"),
    ("BrokersUser", "      KmsKeyId: !Ref BrokersKey\n", "", "brokers: MSK refuses a user whose secret has AWS's key"),
    (
        "BrokerAddresses",
        "!If [IamBrokers, BootstrapBrokerStringSaslIam, !If [ScramBrokers, BootstrapBrokerStringSaslScram, BootstrapBrokerStringTls]]",
        "!If [ScramBrokers, BootstrapBrokerStringSaslScram, BootstrapBrokerStringTls]",
        "brokers: the functions are told the addresses of another way in",
    ),
    ("Brokers", "ClientBroker: TLS", "ClientBroker: TLS_PLAINTEXT", "encryption: brokers are spoken to without TLS"),
    ("", "\"kafka\\\\.[a-z0-9.]+\"", "\"(express|kafka)\\\\.[a-z0-9.]+\"", "sizes: BrokerInstanceType takes express"),
    ("", "/(1[6-9]|2[0-2])\"", "/(1[6-9]|2[0-4])\"", "sizes: VpcCidr takes 10.0.0.0/23"),
    ("LowQueue", "      SqsManagedSseEnabled: true\n", "", "encryption: LowQueue is not encrypted"),
    ("QueuesPolicy", "        - !Ref CriticalQueue\n", "", "encryption: CriticalQueue is spoken to without TLS"),
    // Streams of Kinesis that are written to.
    (
        "WeatherStream",
        "${Prefix}wildfire-weather",
        "${Prefix}weather",
        "streams: there is none of wildfire-weather under the name",
    ),
    (
        "WeatherStream",
        "!If [StagedTopics, !Sub \"${Stage}-\", \"\"]",
        "\"\"",
        "streams: there is none of wildfire-weather under the name",
    ),
    (
        "IncidentsStream",
        "Condition: NewStreams",
        "Condition: ToKinesis",
        "streams: IncidentsStream is made where Kafka",
    ),
    (
        "DeadLettersStream",
        "DeletionPolicy: RetainExceptOnCreate",
        "DeletionPolicy: Delete",
        "retained: DeadLettersStream",
    ),
    ("HistoricalStream", "RetentionPeriodHours: 168", "RetentionPeriodHours: 24", "retention: HistoricalStream"),
    ("ClimateStream", "EncryptionType: KMS", "EncryptionType: NONE", "encryption: ClimateStream is not encrypted"),
    (
        "DeliverFunction",
        "        - !If [ToKinesis, !Ref SinkStreamsPolicy, !Ref AWS::NoValue]\n",
        "",
        "streams: Deliver may not write to",
    ),
    (
        "ExpressFunction",
        "        - !If [ToKinesis, !Ref AlertsStreamPolicy, !Ref AWS::NoValue]\n",
        "",
        "streams: Express may not write to",
    ),
    ("ExpressFunction", "!Ref AlertsStreamPolicy", "!Ref SinkStreamsPolicy", "streams: Express may write to"),
    (
        "BatchFunction",
        "        - !Ref TierSendPolicy\n",
        "        - !Ref TierSendPolicy\n        - !If [ToKinesis, !Ref SinkStreamsPolicy, !Ref AWS::NoValue]\n",
        "streams: Batch may write to",
    ),
    (
        "SinkStreamsPolicy",
        "[kinesis:PutRecords, kinesis:DescribeStreamSummary]",
        "[kinesis:PutRecords, kinesis:DescribeStreamSummary, kinesis:DeleteStream]",
        "streams: Deliver may do more with them",
    ),
    (
        "AlertsStreamPolicy",
        "[kinesis:PutRecords, kinesis:DescribeStreamSummary]",
        "kinesis:PutRecords",
        "streams: Express may do more with them than write and ask, or may not ask",
    ),
    ("SinkStreamsPolicy", "Condition: ToKinesis", "Condition: NewStreams", "streams: SinkStreamsPolicy is there"),
    ("SinkStreamsPolicy", "${Prefix}wildfire-weather", "*", "streams: Deliver may not write to"),
    (
        "DeliverFunction",
        "!If [ToKafka, !Ref KafkaSecurity, !Ref AWS::NoValue]",
        "!Ref KafkaSecurity",
        "streams: Deliver has KAFKA_SECURITY",
    ),
    ("", "        SINK: !Ref Sink\n", "", "streams: Control is not told what the sink is"),
    (
        "",
        "  InVpc: !And [!Condition ToKafka, !Not [!Equals [!Ref Network, none]]]\n",
        "  InVpc: !Not [!Equals [!Ref Network, none]]\n",
        "streams: InVpc may hold",
    ),
    // What queues gave up.
    (
        "ControlFunction",
        "          LOW_DEAD_LETTERS_URL: !Ref LowDeadLetters\n",
        "",
        "given up: nobody reads LowDeadLetters",
    ),
    (
        "ControlFunction",
        "                - !GetAtt TicksDeadLetters.Arn\n",
        "",
        "given up: control may not sqs:ReceiveMessage on TicksDeadLetters",
    ),
    // Who is told.
    ("SensorFailuresAlarm", "      AlarmActions: [!Ref AlarmsTopic]\n", "", "alarms: SensorFailuresAlarm tells nobody"),
    (
        "TicksDeadLettersAlarm",
        "!GetAtt TicksDeadLetters.QueueName",
        "!GetAtt HighDeadLetters.QueueName",
        "alarms: nobody is told of TicksDeadLetters",
    ),
    ("CriticalQueueFullAlarm", "Threshold: 9000", "Threshold: 90000", "alarms: nobody is told of CriticalQueue"),
    (
        "BreakerOpenAlarm",
        "EvaluationPeriods: 5",
        "EvaluationPeriods: 60",
        "alarms: nobody is told of stream_circuit_breaker_state",
    ),
    (
        "CriticalQueueLateAlarm",
        "Threshold: 60",
        "Threshold: 3600",
        "alarms: nobody is told of ApproximateAgeOfOldestMessage of CriticalQueue",
    ),
    (
        "ExpressRetryLateAlarm",
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesDelayed",
        "alarms: nobody is told of ApproximateAgeOfOldestMessage of ExpressRetryQueue",
    ),
    (
        "ExpressErrorsAlarm",
        "MetricName: Errors",
        "MetricName: Invocations",
        "alarms: nobody is told of Errors of Express",
    ),
    ("ExpressThrottlesAlarm", "!Ref ExpressFunction", "!Ref BatchFunction", "nobody is told of Throttles of Express"),
    ("DeliverErrorsAlarm", "EvaluationPeriods: 1", "EvaluationPeriods: 60", "nobody is told of Errors of Deliver"),
    ("ApiErrorsAlarm", "MetricName: 5xx", "MetricName: 4xx", "alarms: nobody is told of 5xx of Api"),
    ("HighQueueFullAlarm", "Period: 60", "Period: 3600", "alarms: nobody is told of HighQueue"),
    (
        "BreakerOpenAlarm",
        "StreamManager/${StackPrefix}-${Stage}",
        "StreamManager/${StackPrefix}",
        "metrics: BreakerOpenAlarm looks for stream_circuit_breaker_state where no function tells it",
    ),
    (
        "BreakerOpenAlarm",
        "TreatMissingData: breaching",
        "TreatMissingData: notBreaching",
        "alarms: nobody is told when stream_circuit_breaker_state",
    ),
    (
        "PollsOverdueAlarm",
        "EvaluationPeriods: 3",
        "EvaluationPeriods: 300",
        "alarms: nobody is told of stream_polls_overdue",
    ),
    (
        "DeadLettersAlarm",
        "      MetricName: stream_dlq_size\n",
        "      MetricName: stream_dlq_size\n      Dimensions:\n        - {Name: function, Value: !Ref RedriveFunction}\n",
        "metrics: DeadLettersAlarm names stream_dlq_size by ['function'], which no function tells",
    ),
    ("Dashboard", "\"priority\", \"LOW\"", "\"priority\", \"low\"", "names stream_latency_seconds by ['low']"),
    ("Dashboard", "stream_active_streams", "stream_streams_active", "names stream_streams_active by []"),
    ("Dashboard", "\"priority\", \"HIGH\"", "\"tier\", \"HIGH\"", "by ['tier']"),
    (
        "BrokerAddressesFunction",
        "      LoggingConfig:\n        LogGroup: !Ref BrokerAddressesLogs\n",
        "",
        "logs: those of BrokerAddressesFunction",
    ),
    ("", "    Tracing: Active\n", "", "tracing: Express leaves no traces"),
    ("ExpressFunction", "LogGroup: !Ref ExpressLogs", "LogGroup: !Ref BatchLogs", "logs: Express logs elsewhere"),
    (
        "ApiLogs",
        "      RetentionInDays: !Ref LogRetentionDays",
        "      LogGroupClass: STANDARD",
        "logs: ApiLogs is kept for ever",
    ),
    ("", "  FunctionsSecurityGroupId:\n", "  FunctionsGroup:\n", "outputs: nobody is told FunctionsSecurityGroupId"),
    ("", "  SensorStreamName:\n", "  SensorShards:\n", "outputs: SensorShards is a parameter as well"),
    // What SAM's transform and cfn-lint refuse themselves.
    ("BatchFunction", "          Type: SQS\n", "          Type: SQQS\n", "transform: "),
    ("CriticalQueue", "VisibilityTimeout: 30", "VisibilityTimout: 30", "cfn-lint: E3002"),
    ("CriticalQueue", "MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 1209601", "retention: "),
    ("", "    Runtime: provided.al2023\n", "    Runtime: provided.al2024\n", "cfn-lint: "),
    ("StateTable", "KeyType: RANGE", "KeyType: RANGES", "cfn-lint: "),
    ("SensorStream", "RetentionPeriodHours: 168", "RetentionPeriodHours: 9000", "cfn-lint: "),
    (
        "",
        "MinValue: 2\n    Description: Express environments",
        "MinValue: 2\n    Descripton: Express environments",
        "cfn-lint: E2001",
    ),
];

/// D1: the template is held to what fails only on AWS, too: every fault is found by the check that is there for it.
#[test]
fn d1_every_fault_that_is_put_into_the_template_is_found() {
    let (folder, deployed) = (tempdir().unwrap(), deployed());
    let name = |at: usize| format!("{at:03}.yaml");
    let faults: Vec<&Fault> = FAULTS.iter().chain(deployments::FAULTS).collect();
    for (at, (resource, from, to, _)) in faults.iter().enumerate() {
        let text = match *resource {
            "" => {
                assert_eq!(deployed.matches(from).count(), 1, "the template no longer holds {from:?} once");
                deployed.replacen(from, to, 1)
            }
            resource => changed_in(&deployed, resource, from, to),
        };
        std::fs::write(folder.path().join(name(at)), text).unwrap();
    }
    std::fs::write(folder.path().join("as-deployed.yaml"), &deployed).unwrap();
    let Some(checked) = lint_infra("faults put into the template", &["--each", folder.path().to_str().unwrap()]) else {
        return;
    };
    let found: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(found["as-deployed.yaml"], json!([]), "the template itself has findings");
    let missed: Vec<String> = faults
        .iter()
        .enumerate()
        .filter(|(at, (.., wanted))| {
            let said = found[&name(*at)].as_array().unwrap();
            !said.iter().any(|finding| finding.as_str().unwrap().contains(wanted))
        })
        .map(|(at, (resource, from, to, wanted))| {
            format!("{resource}: {from:?} → {to:?} wants {wanted:?}, found {}", found[&name(at)])
        })
        .collect();
    assert!(missed.is_empty(), "{} of {} faults: {}", missed.len(), faults.len(), missed.join("\n"));
}

/// What it prints. `None`: the test is skipped, its tools cannot be installed.
fn lint_infra(what: &str, arguments: &[&str]) -> Option<String> {
    let ended = Command::new(workspace().join("tests/lint-infra")).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&ended.stderr);
    if !ended.status.success() && ["No matching distribution", "ensurepip"].iter().any(|cause| error.contains(cause)) {
        skip(what, "cfn-lint and SAM's translator cannot be installed");
        return None;
    }
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{said}{error}");
    Some(said)
}

/// D1: deployed as `sam deploy` does it, into CloudFormation that is not ours.
#[test]
fn d1_two_stages_are_deployed_and_a_deleted_one_is_created_again_or_taken_over() {
    const WHAT: &str = "stages deployed on an AWS endpoint";
    let Some(aws) = aws() else { return skip(WHAT, "STREAMMANAGER_TEST_AWS is not set") };
    let Some(said) = lint_infra(WHAT, &["--deploy", &aws]) else { return };
    for shown in [
        "two stages stand beside each other",
        "no resource of one has a name of the other's",
        "deployed again, nothing changes",
        "every function is called through an alias",
        "queues, the stream and schedules call the aliases",
        "a changed parameter is in force behind the aliases",
        "a new stack takes over what an earlier one left",
        "what an earlier stack left is in no new one's way",
        "endpoints stand in it",
        "a role is let in to the brokers for its stack's topics alone",
        "a stack on Kinesis has a stream a topic",
        "its functions are told of Kinesis and of nothing of Kafka",
        "it has neither brokers nor a VPC",
        "its streams outlive it",
        "the next stack writes to what is there",
        "parameters that do not go together are refused",
    ] {
        assert!(said.contains(&format!("shown: {shown}")), "{said}");
    }
}

/// D1: every command of the guide, in its order; the operator's go to a host.
#[test]
fn d1_the_guide_to_a_stage_is_followed_word_by_word() {
    const WHAT: &str = "the guide to a stage";
    let Some(aws) = aws() else { return skip(WHAT, "STREAMMANAGER_TEST_AWS is not set") };
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let (program, host) = (binary(), system.url(""));
    let arguments = ["--guide", &aws, program.to_str().unwrap(), &host, start.data.to_str().unwrap()];
    let Some(said) = lint_infra(WHAT, &arguments) else { return };
    assert!(said.contains("followed: 9 of 9") && said.contains("nothing: all is well"), "{said}");
    system.kill();
}

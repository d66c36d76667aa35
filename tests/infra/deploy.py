"""Deploys infra/template.yaml into an AWS endpoint that is not AWS, as `sam deploy` does: transformed, through S3, by change set.

deploy.py ENDPOINT TEMPLATE     tells each thing that it shows; the first that is not so ends it with exit code 1
"""
import io
import json
import pathlib
import sys
import time
import uuid
import zipfile

import boto3
from botocore.exceptions import ClientError, WaiterError

import check
import reading
import told

PROMPT = {"Delay": 1, "MaxAttempts": 120}
# Under which property CloudFormation finds a resource that is to be imported.
IDENTIFIERS = {"AWS::SQS::Queue": "QueueUrl", "AWS::DynamoDB::Table": "TableName", "AWS::S3::Bucket": "BucketName"}
OUTSIDE = {"KafkaBrokers": "127.0.0.1:9092", "Network": "none"}


class Account:
    def __init__(self, endpoint, template):
        self.own = "d" + uuid.uuid4().hex[:8]
        self.endpoint = endpoint
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": check.REGION}
        self.client = lambda service: boto3.client(service, endpoint_url=endpoint, **keys)
        self.stacks, self.sqs = self.client("cloudformation"), self.client("sqs")
        self.bucket = f"{self.own}-artifacts"
        self.client("s3").create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": check.REGION})
        self.template = self.uploaded("template.json", json.dumps(template).encode())

    def uploaded(self, key, body):
        self.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"{self.endpoint}/{self.bucket}/{key}"

    def change(self, name, kind, parameters, template=None, **more):
        """Makes and runs a change set; False when nothing would change."""
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        at = {"StackName": name, "ChangeSetName": f"c{uuid.uuid4().hex[:8]}"}
        self.stacks.create_change_set(**at, ChangeSetType=kind, TemplateURL=template or self.template, Parameters=given,
                                      Capabilities=["CAPABILITY_IAM"], **more)
        try:
            self.stacks.get_waiter("change_set_create_complete").wait(**at, WaiterConfig=PROMPT)
        except WaiterError:
            why = self.stacks.describe_change_set(**at).get("StatusReason", "")
            if "didn't contain changes" in why or "No updates" in why:
                return False
            raise
        self.stacks.execute_change_set(**at)
        waiter = {"CREATE": "stack_create_complete", "UPDATE": "stack_update_complete", "IMPORT": "stack_import_complete"}[kind]
        try:
            self.stacks.get_waiter(waiter).wait(StackName=name, WaiterConfig=PROMPT)
        except WaiterError:
            events = self.stacks.describe_stack_events(StackName=name)["StackEvents"]
            sys.exit("\n".join(f"{e['LogicalResourceId']} {e['ResourceStatus']}: {e.get('ResourceStatusReason')}"
                               for e in events if "FAILED" in e["ResourceStatus"]))
        return True

    def delete(self, name):
        self.stacks.delete_stack(StackName=name)
        self.stacks.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=PROMPT)

    def names(self, name):
        """Of each resource its own name, by the template's."""
        pages = self.stacks.get_paginator("list_stack_resources").paginate(StackName=name)
        return {r["LogicalResourceId"]: r["PhysicalResourceId"] for page in pages for r in page["StackResourceSummaries"]
                if r["ResourceStatus"].endswith("COMPLETE") and "DELETE" not in r["ResourceStatus"]}

    def messages(self, url):
        asked = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(asked["Attributes"]["ApproximateNumberOfMessages"])


def shown(what, so):
    if not so:
        sys.exit(f"NOT: {what}")
    print(f"shown: {what}")


def package():
    """A function's archive, whose program nobody starts here."""
    archive, program = io.BytesIO(), zipfile.ZipInfo("bootstrap")
    program.external_attr = 0o755 << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(program, "#!/bin/sh\nexit 1\n")
    return archive.getvalue()


def retained(template):
    """What outlives a stack, as a template of its own; streams and secrets, which AWS imports too, this endpoint does not."""
    resources = {name: r for name, r in template["Resources"].items()
                 if r.get("DeletionPolicy") == "RetainExceptOnCreate" and r["Type"] in IDENTIFIERS}
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}


def without_canaries(template):
    """This endpoint knows neither CodeDeploy nor alarms of several metrics: its aliases get a new version at once, with neither canary,
    check nor rollback. What the template says of these is held to deployments.py, and never seen at work here."""
    template = json.loads(json.dumps(template))
    resources = {name: r for name, r in template["Resources"].items() if not r["Type"].startswith("AWS::CodeDeploy::")
                 and "Metrics" not in r.get("Properties", {})}
    for resource in resources.values():
        resource.pop("UpdatePolicy", None)
    return {**template, "Resources": resources}


def versions(account, names):
    """Of each function the version that its alias means."""
    functions = account.client("lambda")
    return {name: functions.get_alias(FunctionName=names[name], Name="live")["FunctionVersion"]
            for name in names if f"{name}Aliaslive" in names}


def new_versions(account, stack, parameters):
    """A version keeps the environment that it was published with: a new release makes new ones of all functions."""
    names = account.names(stack)
    first = versions(account, names)
    shown("every function is called through an alias", len(first) == 8)
    functions = account.client("lambda")
    called = [mapping["FunctionArn"] for mapping in functions.list_event_source_mappings()["EventSourceMappings"]]
    own = [target for target in called if any(f":{names[name]}" in target for name in first)]
    schedules = account.client("scheduler")
    own += [schedules.get_schedule(Name=names[name])["Target"]["Arn"] for name in names if name.endswith(("EveryMinute", "EveryHour", "KeepWarm"))]
    shown("queues, the stream and schedules call the aliases", len(own) == 9 and all(target.endswith(":live") for target in own))
    account.change(stack, "UPDATE", {**parameters, "StageInTopics": "never", "Release": "second"})
    second = versions(account, account.names(stack))
    told = functions.get_function_configuration(FunctionName=names["ExpressFunction"], Qualifier="live")["Environment"]["Variables"]
    shown("a changed parameter is in force behind the aliases" + (f", but {first} {second} {told['MQTT_PREFIX']!r}" if first == second else ""),
          all(second[name] != version for name, version in first.items()) and told["MQTT_PREFIX"] == "")
    account.change(stack, "UPDATE", parameters)


def two_stages(account, template):
    dev, test = f"{account.own}-dev", f"{account.own}-test"
    parameters = {stack: {**OUTSIDE, "StackPrefix": account.own, "Stage": stack.split("-")[1]} for stack in (dev, test)}
    for stack in (dev, test):
        account.change(stack, "CREATE", parameters[stack])
    names = {stack: account.names(stack) for stack in (dev, test)}
    shown("two stages stand beside each other", names[dev].keys() == names[test].keys() and len(names[dev]) > 90)
    # An API's stage is named within its API.
    same = {name for name, own in names[dev].items() if own == names[test][name]} - {"ApiApiGatewayDefaultStage"}
    shown("no resource of one has a name of the other's" + "".join(f", but {name}" for name in sorted(same)), not same)
    iot = account.client("iot")
    topics = {stack: {iot.get_topic_rule(ruleName=names[stack][rule])["rule"]["sql"].split("FROM ")[1]
                      for rule in ("SensorsRule", "AlertsRule")} for stack in (dev, test)}
    shown("their rules take other topics", topics == {
        dev: {"'dev/sensors/+/+/state'", "'dev/alerts/+'"}, test: {"'test/sensors/+/+/state'", "'test/alerts/+'"}})
    functions = account.client("lambda")
    prefix = {stack: functions.get_function_configuration(FunctionName=names[stack]["ExpressFunction"])["Environment"]["Variables"]
              for stack in (dev, test)}
    shown("they write other topics", (prefix[dev]["TOPIC_PREFIX"], prefix[test]["TOPIC_PREFIX"]) == ("dev-", "test-"))
    shown("deployed again, nothing changes", not account.change(dev, "UPDATE", parameters[dev]))
    new_versions(account, test, parameters[test])

    queue = names[dev]["CriticalQueue"]
    account.sqs.send_message(QueueUrl=queue, MessageBody="accepted, and not yet delivered")
    account.delete(dev)
    shown("a deleted stage leaves what was accepted", account.messages(queue) == 1)

    kept = retained(template)
    imported = [{"ResourceType": r["Type"], "LogicalResourceId": name, "ResourceIdentifier": {IDENTIFIERS[r["Type"]]: names[dev][name]}}
                for name, r in kept["Resources"].items()]
    alone = account.uploaded("retained.json", json.dumps(kept).encode())
    account.change(dev, "IMPORT", {}, alone, ResourcesToImport=imported)
    account.change(dev, "UPDATE", parameters[dev])
    taken = account.names(dev)
    shown("a new stack takes over what an earlier one left", taken["CriticalQueue"] == queue and taken["StateTable"] == names[dev]["StateTable"]
          and account.messages(queue) == 1 and len(taken) == len(names[dev]))
    account.delete(dev)
    # AWS names the new stack's queues anew; this endpoint makes the same names of the same stack again.
    account.change(dev, "CREATE", parameters[dev])
    shown("what an earlier stack left is in no new one's way", account.names(dev).keys() == names[dev].keys())
    for stack in (dev, test):
        account.delete(stack)


def in_a_vpc(account, template):
    """Production, in the network of brokers that exist. This endpoint makes neither an MSK cluster nor an ingress rule, tells
    no names of a VPC's endpoints, and keeps no function's VPC."""
    resources = {name: r for name, r in template["Resources"].items() if name != "IotName"}
    unnamed = account.uploaded("unnamed.json", json.dumps({**template, "Resources": resources}).encode())
    ec2, name = account.client("ec2"), f"{account.own}-prod"
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/22")["Vpc"]["VpcId"]
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{n}.0/24")["Subnet"]["SubnetId"] for n in range(2)]
    routes = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    account.change(name, "CREATE", {"StackPrefix": account.own, "Stage": "prod", "KafkaBrokers": "b-1.example.org:9098",
                                    "KafkaSecurity": "iam", "KafkaClusterArn": "arn:aws:kafka:us-west-2:123456789012:cluster/fire/0a1b-2",
                                    "Network": "existing", "VpcId": vpc, "SubnetIds": ",".join(subnets), "RouteTableIds": routes,
                                    "ExistingVpcCidr": "10.9.0.0/22"}, unnamed)
    services = {each["ServiceName"].removeprefix(f"com.amazonaws.{check.REGION}.")
                for each in ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["VpcEndpoints"]}
    # Nobody in it logs in with a secret: there is none of Secrets Manager.
    shown("endpoints stand in it", services == {"sqs", "iot.data", "dynamodb", "s3"})
    express = account.names(name)["ExpressFunction"]
    told = account.client("lambda").get_function_configuration(FunctionName=express)["Environment"]["Variables"]
    shown("prod takes and writes the topics without a stage's name", (told.get("TOPIC_PREFIX"), told.get("MQTT_PREFIX")) == ("", ""))
    own = "arn:aws:kafka:us-west-2:123456789012:{}/fire/0a1b-2"
    cluster, topics = own.format("cluster"), own.format("topic") + "/wildfire-*"
    shown("a role is let in to the brokers for its stack's topics alone", rights(account, name, "DeliverKafkaPolicy") == {
        "Connect": cluster, "WriteDataIdempotently": cluster, "DescribeTopic": topics, "CreateTopic": topics, "WriteData": topics})
    account.delete(name)


def rights(account, stack, policy):
    """What a deployed policy lets do at the brokers, and with what."""
    iam, named = account.client("iam"), account.names(stack)[policy]
    version = iam.get_policy(PolicyArn=named)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=named, VersionId=version)["PolicyVersion"]["Document"]
    document = json.loads(document) if isinstance(document, str) else document
    return {action.removeprefix("kafka-cluster:"): statement["Resource"]
            for statement in document["Statement"] for action in reading.listed(statement["Action"])}


def on_kinesis(account):
    """Sink=kinesis: its streams are the stack's, outlive it, and are what the next stack writes to."""
    name = f"{account.own}-kinesis"
    parameters = {"StackPrefix": account.own, "Sink": "kinesis", "Stage": "k" + account.own}
    account.change(name, "CREATE", parameters)
    kinesis, prefix = account.client("kinesis"), f"k{account.own}-"
    topics = {prefix + topic for topic in told.topics()}
    summary = lambda stream: kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]

    def all_there():
        try:
            return len([summary(stream) for stream in topics]) == len(topics) > 0
        except kinesis.exceptions.ResourceNotFoundException:
            return False

    shown("a stack on Kinesis has a stream a topic", all_there())
    shown("its streams keep their records for seven days",
          {(each["RetentionPeriodHours"], each["StreamModeDetails"]["StreamMode"]) for each in map(summary, topics)} == {(168, "ON_DEMAND")})
    names, functions = account.names(name), account.client("lambda")
    variables = {binary: functions.get_function_configuration(FunctionName=names[f"{binary}Function"])["Environment"]["Variables"]
                 for binary in ("Express", "Deliver", "Control", "Batch")}
    shown("its functions are told of Kinesis and of nothing of Kafka", all(
        (each["SINK"], each["TOPIC_PREFIX"]) == ("kinesis", prefix) and not any(key.startswith("KAFKA_") for key in each)
        for each in variables.values()))
    kinds = {r["ResourceType"] for page in account.stacks.get_paginator("list_stack_resources").paginate(StackName=name)
             for r in page["StackResourceSummaries"]}
    shown("it has neither brokers nor a VPC", not any(kind.startswith(("AWS::MSK::", "AWS::EC2::")) for kind in kinds))
    kinesis.put_record(StreamName=prefix + "wildfire-weather", Data=b"published", PartitionKey="k")
    account.delete(name)
    shown("its streams outlive it", all_there())
    account.change(name, "CREATE", {**parameters, "SinkStreams": "existing"})
    shards = kinesis.list_shards(StreamName=prefix + "wildfire-weather")["Shards"]
    begins = [kinesis.get_shard_iterator(StreamName=prefix + "wildfire-weather", ShardIteratorType="TRIM_HORIZON",
                                         ShardId=shard["ShardId"])["ShardIterator"] for shard in shards]
    shown("the next stack writes to what is there", [record["Data"] for begin in begins
          for record in kinesis.get_records(ShardIterator=begin)["Records"]] == [b"published"])
    account.delete(name)


def refused(account):
    name = f"{account.own}-bad"
    try:
        account.change(name, "CREATE", {**OUTSIDE, "StackPrefix": account.own, "Network": "existing"})
        why = "nothing"
    except ClientError as error:
        why = error.response["Error"]["Message"]
    except WaiterError as error:
        why = error.last_response.get("StatusReason", "")
    shown(f"parameters that do not go together are refused: {why}", "Network=existing needs" in why)


def main():
    template, found = check.transformed(pathlib.Path(sys.argv[2]).read_text())
    if template is None:
        sys.exit("\n".join(found))
    template = without_canaries(template)
    print("NOT SHOWN: canary, the check before it and rollback, for this endpoint has neither CodeDeploy nor alarms of several metrics")
    account = Account(sys.argv[1], template)
    # `sam package` has put this address into the template.
    s3 = account.client("s3")
    try:
        s3.create_bucket(Bucket="artifacts", CreateBucketConfiguration={"LocationConstraint": check.REGION})
    except s3.exceptions.BucketAlreadyOwnedByYou:
        pass
    s3.put_object(Bucket="artifacts", Key="package.zip", Body=package())
    begun = time.monotonic()
    two_stages(account, template)
    in_a_vpc(account, template)
    on_kinesis(account)
    refused(account)
    print(f"in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()

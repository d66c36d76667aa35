"""Rules of how a new version of a function comes into use [D2]: behind its alias, a part of the calls first, watched, and turned back
by what has the right to do just that. rules.py says how rules give their findings."""
import contextlib
import io
import json
import os
import re
import sys
import threading
import types
from unittest import mock

from reading import FUNCTIONS, NO_VALUE, arn, listed, ref, text


def aliases(t):
    """Whatever starts a function starts the version behind its alias: else no canary and no rollback is of any use."""
    started = [*t.of("AWS::Lambda::EventSourceMapping").items(), *t.of("AWS::Lambda::Permission").items()]
    callers = [(name, properties["FunctionName"]) for name, properties in started]
    callers += [(name, properties["Target"]["Arn"]) for name, properties in t.of("AWS::Scheduler::Schedule").items()]
    callers += [(name, action["Lambda"]["FunctionArn"]) for name, properties in t.of("AWS::IoT::TopicRule").items()
                for action in properties["TopicRulePayload"]["Actions"] if "Lambda" in action]
    callers += [(f"{method} {path}", operation["x-amazon-apigateway-integration"]["uri"])
                for properties in t.of("AWS::ApiGatewayV2::Api").values()
                for path, methods in properties["Body"]["paths"].items() for method, operation in methods.items()]
    for caller, target in callers:
        if not any(f"{name}FunctionAliaslive" in text(target) for name in FUNCTIONS):
            yield f"$LATEST: {caller} starts {text(target)}, not an alias"
    for name, properties in t.of("AWS::IAM::Role").items():
        if "scheduler.amazonaws.com" in text(properties["AssumeRolePolicyDocument"]) and "FunctionAliaslive" not in text(properties["Policies"]):
            yield f"$LATEST: {name} may not start the alias"
    for name, config in t.of("AWS::Lambda::EventInvokeConfig").items():
        if config.get("Qualifier") != "live":
            yield f"$LATEST: {name} does not speak of the alias"
    for name in FUNCTIONS:
        alias = t.properties(f"{name}FunctionAliaslive")
        if alias.get("Name") != "live" or alias.get("FunctionName") != ref(f"{name}Function"):
            yield f"$LATEST: {name} has no alias"
            continue
        # SAM makes a version of what it sees change, and no parameter's value is seen. Lambda publishes none of what did not change.
        described = t.properties(version_of(t, name)).get("Description")
        if described != ref("Release") or t.environment(name).get("RELEASE") != ref("Release"):
            yield f"versions: a changed parameter does not reach {name}"


def version_of(t, name):
    """The resource of the function's version that the alias means."""
    return t.properties(f"{name}FunctionAliaslive")["FunctionVersion"]["Fn::GetAtt"][0]


def by_canary(yes, no):
    return {"Fn::If": ["ByCanary", yes, no]}


def deployments(t):
    predefined = lambda name: {"Fn::Sub": ["CodeDeployDefault.Lambda${ConfigName}", {"ConfigName": name}]}
    parameter = t.parameters.get("Deployment", {})
    if (parameter.get("Default"), parameter.get("AllowedValues")) != ("canary", ["canary", "all-at-once"]):
        yield "deployments: Deployment is not canary or all-at-once"
    for name in FUNCTIONS:
        policy = t.resources[f"{name}FunctionAliaslive"].get("UpdatePolicy", {}).get("CodeDeployLambdaAliasUpdate")
        if not policy:
            yield f"deployments: a new version of {name} takes all calls, and nobody looks"
            continue
        group = t.properties(policy["DeploymentGroupName"]["Ref"])
        first = ref("DeliverSwitch") if name == "Deliver" else predefined("Canary10Percent10Minutes")
        if group.get("DeploymentConfigName") != by_canary(first, predefined("AllAtOnce")):
            yield f"deployments: a new version of {name} does not get its part of the calls first"
        if policy.get("BeforeAllowTrafficHook") != by_canary(ref("StartCheckFunction"), NO_VALUE):
            yield f"deployments: nobody tries whether a new version of {name} starts"
        back = group.get("AutoRollbackConfiguration", {})
        if not back.get("Enabled") or not {"DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM"} <= set(back.get("Events", [])):
            yield f"deployments: {name} is not turned back"
        if group.get("AlarmConfiguration") != {"Enabled": True, "Alarms": [{"Name": ref(f"{name}CanaryAlarm")}]}:
            yield f"deployments: no alarm turns {name} back"
        if group.get("ServiceRoleArn") != arn("DeploymentRole"):
            yield f"deployments: {name} is deployed with another role"
        yield from worse(t, name)
    switch = t.properties("DeliverSwitch").get("TrafficRoutingConfig", {})
    # Watched as long as the others' canary; an alarm looks at five minutes.
    if switch != {"Type": "TimeBasedCanary", "TimeBasedCanary": {"CanaryPercentage": 99, "CanaryInterval": 10}}:
        yield "deployments: deliver is not switched at once, or not watched"
    tried = t.properties("StartCheckFunction").get("Environment", {}).get("Variables", {}).get("VERSIONS")
    versions = [ref(version_of(t, name)) for name in FUNCTIONS]
    if tried != {"Fn::Join": [",", versions]}:
        yield "deployments: the check does not try all new versions"
    code = t.properties("StartCheckFunction")["Code"]["ZipFile"]
    warm, cold = {"Payload": b'{"warm": true}'}, {"Payload": b'{"warm": false}'}
    fails = {"Payload": b'{"errorType": "InitError"}', "FunctionError": "Unhandled"}
    for case, second, status in (("all start", warm, "Succeeded"), ("one does not reach its brokers", cold, "Failed"),
                                 ("one does not start", fails, "Failed"), ("one cannot be asked", None, "Failed"),
                                 ("one does not answer in time", HANGS, "Failed")):
        told, asked = checked(code, {"one": warm, "two": second})
        if told != [{"deploymentId": "d-1", "lifecycleEventHookExecutionId": "e-1", "status": status}]:
            yield f"deployments: the check does not say {status} when {case}, but {told}"
        if [(each["FunctionName"], json.loads(each["Payload"])) for each in asked] != [(each, {"keep_warm": True}) for each in ("one", "two")]:
            yield "deployments: the check asks other versions than it should, or for what changes something"
    yield from deployers(t)


HANGS = object()
# In milliseconds: the check keeps 30 s for telling, so that it waits for half a second here.
LEFT = 30_500


def checked(code, answers):
    """What the check tells CodeDeploy when versions answer so, None being no answer; and what it asked them. They answer only when
    all of them are asked: one after another takes longer than the check has."""
    told, asked, ended = [], [], threading.Event()
    together = threading.Barrier(len(answers))

    def invoke(**call):
        asked.append(call)
        together.wait(timeout=3)
        answer = answers[call["FunctionName"]]
        if answer is None:
            raise RuntimeError("throttled")
        if answer is HANGS:
            ended.wait(timeout=3)
            answer = {"Payload": b'{"warm": true}'}
        return answer | {"Payload": io.BytesIO(answer["Payload"])}

    services = {"lambda": types.SimpleNamespace(invoke=invoke),
                "codedeploy": types.SimpleNamespace(put_lifecycle_event_hook_execution_status=lambda **status: told.append(status))}
    fake = types.SimpleNamespace(client=lambda service, **_: services[service])
    context = types.SimpleNamespace(get_remaining_time_in_millis=lambda: LEFT)
    names = {"__name__": "index"}
    with mock.patch.dict(sys.modules, boto3=fake), mock.patch.dict(os.environ, VERSIONS="one,two"), contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)
        names["handler"]({"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "e-1"}, context)
    ended.set()
    return told, sorted(asked, key=lambda call: call["FunctionName"])


# Functions that answer for work that failed, with 5xx or items that come again, and Lambda counts no error.
ANSWERS_FOR_FAILURES = ["Batch", "Realtime", "Stream", "Express", "Control"]
FAILED = "stream_calls_failed"
NAMESPACE = {"Fn::Sub": "StreamManager/${StackPrefix}-${Stage}"}


def worse(t, name):
    """The alarm that turns a function's new version back."""
    alarm = t.properties(f"{name}CanaryAlarm")
    number = {"Fn::GetAtt": [version_of(t, name), "Version"]}
    version = [{"Name": "ExecutedVersion", "Value": number}]
    everyone = of_alias(name)
    figures = {"errors": ("AWS/Lambda", "Errors", everyone + version), "calls": ("AWS/Lambda", "Invocations", everyone + version),
               "all_errors": ("AWS/Lambda", "Errors", everyone), "all_calls": ("AWS/Lambda", "Invocations", everyone)}
    if name in ANSWERS_FOR_FAILURES:
        figures["failed"] = (NAMESPACE, FAILED, told_by(name) + [{"Name": "version", "Value": number}])
        figures["all_failed"] = (NAMESPACE, FAILED, told_by(name))
    if name == "Express":
        figures["refused"] = (NAMESPACE, {"Fn::Sub": "${StackPrefix}-${Stage}-alerts-5xx"}, None)
    metrics = {metric["Id"]: metric for metric in alarm.get("Metrics", [])}
    for figure, (namespace, metric, dimensions) in figures.items():
        stat = metrics.get(figure, {}).get("MetricStat", {})
        wanted = {"Namespace": namespace, "MetricName": metric} | ({"Dimensions": dimensions} if dimensions else {})
        if stat.get("Metric") != wanted \
                or (stat.get("Stat"), stat.get("Period")) != ("Sum", 300) or metrics[figure].get("ReturnData") is not False:
            yield f"deployments: the canary of {name} does not know its {figure}"
    if sum("MetricStat" in metric for metric in metrics.values()) > 10:
        yield f"deployments: the canary of {name} compares more metrics than CloudWatch takes"
    cases = (("is not turned back at over twice the errors", (5, 100, 25, 1100), True),
             ("is turned back at twice the errors", (4, 100, 24, 1100), False),
             ("is turned back for no more errors than the one before", (5, 100, 100, 1100), False),
             ("is turned back for one error in an idle stack", (1, 1, 1, 10), False),
             ("is not turned back when nobody else is called", (3, 5, 3, 5), True),
             ("is turned back without an error", (0, 5, 0, 5), False))
    for case, (bad, calls, all_bad, all_calls), turned_back in cases:
        known = {"calls": calls, "all_calls": all_calls}
        ways = {"": {"errors": bad, "all_errors": all_bad}}
        if name in ANSWERS_FOR_FAILURES:
            ways[" of work that failed"] = {"errors": 0, "all_errors": 0, "failed": bad or None, "all_failed": all_bad or None}
        for way, told in ways.items():
            if bool(evaluated(metrics, **known, **told)) != turned_back:
                yield f"deployments: {name} {case}{way}"
    if name == "Express":
        quiet = {"errors": 0, "calls": 100, "all_errors": 0, "all_calls": 1100}
        for case, told, turned_back in (("is not turned back when nobody can read its answers", {"refused": 100}, True),
                                        ("is turned back for one answer that nobody can read", {"refused": 2}, False),
                                        ("is turned back while both versions refuse", {"refused": 550, "failed": 50, "all_failed": 550}, False)):
            if bool(evaluated(metrics, **quiet, **told)) != turned_back:
                yield f"deployments: {name} {case}"
        counted = {"LogGroupName": ref("ApiLogs"), "FilterPattern": '{ $.route = "POST /alerts" && $.status = "5*" }', "MetricTransformations": [
            {"MetricNamespace": NAMESPACE, "MetricName": figures["refused"][1], "MetricValue": "1"}]}
        logged = t.properties("Api")["Body"] and text(list(t.of("AWS::ApiGatewayV2::Stage").values()))
        if t.properties("RefusedAlerts") != counted or any(field not in logged for field in ("$context.routeKey", "$context.status")):
            yield "deployments: nobody counts the alerts that the API answers with 5xx"
    if alarm.get("TreatMissingData") != "notBreaching" or (alarm.get("Threshold"), alarm.get("EvaluationPeriods")) != (0, 1):
        yield f"deployments: {name} is turned back when nothing is known, or too late"
    if text(number) not in text(alarm.get("AlarmName")) and f"${{{number['Fn::GetAtt'][0]}.Version}}" not in text(alarm.get("AlarmName")):
        yield f"deployments: what the version before did is held against the new one of {name}"


def of_alias(name):
    return [{"Name": "FunctionName", "Value": ref(f"{name}Function")},
            {"Name": "Resource", "Value": {"Fn::Sub": f"${{{name}Function}}:live"}}]


def told_by(name):
    return [{"Name": "function", "Value": ref(f"{name}Function")}]


def evaluated(metrics, **figures):
    """What an alarm's expressions of CloudWatch's metric math make of numbers, as far as the alarms use it. What nobody told is None."""
    known = {figure: figures.get(figure) for figure, metric in metrics.items() if "MetricStat" in metric}
    names = {"chosen": lambda told, yes, no: yes if told else no, "filled": lambda told, other: other if told is None else told}
    # One that another needs stands after it in the template, what is asked first.
    for figure, metric in reversed(metrics.items()):
        if "Expression" in metric:
            python = metric["Expression"].replace(" AND ", " and ").replace(" OR ", " or ")
            python = re.sub(r"\bFILL\(", "filled(", re.sub(r"\bIF\(", "chosen(", python))
            if not re.fullmatch(r"[a-z_0-9 ()<>=*+,-]+", python):
                raise ValueError(f"{metric['Expression']!r} is more than this evaluates")
            known[figure] = eval(python, {"__builtins__": {}}, names | known)
    return known.get("worse")


def deployers(t):
    """What turns versions may do that, and nothing else."""
    role, check = t.properties("DeploymentRole"), t.properties("StartCheckRole")
    allowed = {action: [text(each) for each in listed(s["Resource"])] for properties in (role, check)
               for policy in properties.get("Policies", []) for s in policy["PolicyDocument"]["Statement"] for action in listed(s["Action"])
               if (properties, action) != (role, "lambda:InvokeFunction")}
    account = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:"
    named = [account + t.function(name)["FunctionName"]["Fn::Sub"] for name in FUNCTIONS]
    of_functions = [text({"Fn::Sub": each}) for name in named for each in (name, f"{name}:*")]
    for action in ("lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig"):
        if allowed.pop(action, None) != of_functions:
            yield f"deployments: CodeDeploy may not {action} of the functions, or of others too"
    if allowed.pop("lambda:InvokeFunction", None) != [each for each in of_functions if ":*" in each]:
        yield "deployments: the check may start other functions than the new versions, or not these"
    starts = [s["Resource"] for policy in role.get("Policies", []) for s in policy["PolicyDocument"]["Statement"]
              if "lambda:InvokeFunction" in listed(s["Action"])]
    if starts != [arn("StartCheckFunction")]:
        yield "deployments: CodeDeploy may start other functions than the check, or not this one"
    alarms = "".join(allowed.pop("cloudwatch:DescribeAlarms", []))
    if "alarm:" not in alarms:
        yield "deployments: CodeDeploy may not look at the alarms"
    groups = "".join(allowed.pop("codedeploy:PutLifecycleEventHookExecutionStatus", []))
    if "deploymentgroup:${AWS::StackName}-ServerlessDeploymentApplication-*/*" not in groups:
        yield "deployments: the check may not tell what it found, or of other stacks' deployments"
    for action in allowed:
        yield f"deployments: what deploys may {action}"
    trust = role.get("AssumeRolePolicyDocument", {}).get("Statement", [{}])[0]
    if trust.get("Principal") != {"Service": "codedeploy.amazonaws.com"} or "aws:SourceAccount" not in text(trust.get("Condition")):
        yield "deployments: others than this account's CodeDeploy may be the deployer"

"""What CloudFormation will see of a SAM template, and what is wrong with it: SAM's own transform (offline), cfn-lint on its
result (the raw template hides most faults), and this project's own rules (rules.py).

check.py TEMPLATE            prints the findings; exit code 1 when there are any
check.py --each FOLDER       one JSON object: of each template in the folder its findings, by the file's name; cfn-lint is asked
                             only where nothing else found anything
"""
import json
import logging
import os
import pathlib
import sys

from cfnlint.api import ManualArgs, lint
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider
from samtranslator.public.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

import rules

REGION = "us-west-2"
# The transform tells of a switch of its own hosts that it does not find here.
logging.getLogger("samtranslator").setLevel(logging.ERROR)
os.environ["AWS_DEFAULT_REGION"] = REGION

class ManagedPolicies:
    """AWS's own answer is an API call; the transform only needs the names that it attaches itself."""

    def load(self):
        names = ["AWSLambdaBasicExecutionRole", "AWSLambdaSQSQueueExecutionRole", "AWSLambdaKinesisExecutionRole",
                 "AWSLambdaVPCAccessExecutionRole"]
        found = {name: f"arn:aws:iam::aws:policy/service-role/{name}" for name in names}
        return found | {"AWSXRayDaemonWriteAccess": "arn:aws:iam::aws:policy/AWSXRayDaemonWriteAccess"}


def transformed(text):
    """The CloudFormation template, or the transform's refusal as findings."""
    template = yaml_parse(text)
    # `sam package` puts an upload's address in place of a local folder.
    functions = [template.get("Globals", {}).get("Function", {})]
    functions += [r.get("Properties", {}) for r in template["Resources"].values() if r["Type"] == "AWS::Serverless::Function"]
    for function in functions:
        if "CodeUri" in function:
            function["CodeUri"] = "s3://artifacts/package.zip"
    try:
        return transform(template, {"AWS::Region": REGION}, ManagedPolicies()), []
    except InvalidDocumentException as refused:
        return None, [f"transform: {cause.message}" for cause in refused.causes]


def linted(template):
    config = ManualArgs(regions=[REGION], include_checks=["I", "W"])
    matches = lint(json.dumps(template, indent=1), config=config)
    return [f"cfn-lint: {match.rule.id}: {match.message} ({'/'.join(map(str, match.path or []))})" for match in matches]


def read_by_sam(path):
    """As `sam build` and `sam deploy` read it, which `sam validate` does not."""
    try:
        SamLocalStackProvider.get_stacks(path)
        return []
    except Exception as refused:
        return [f"sam: {type(refused).__name__}: {refused}"]


def findings(path, ask_lint=lambda found: True):
    template, found = transformed(pathlib.Path(path).read_text())
    if template is not None:
        found += rules.findings(template)
        if ask_lint(found):
            found += linted(template)
    return found


def main():
    if sys.argv[1] == "--each":
        paths = sorted(pathlib.Path(sys.argv[2]).iterdir())
        print(json.dumps({path.name: findings(path, lambda found: not found) for path in paths}))
        return 0
    found = read_by_sam(sys.argv[1]) + findings(sys.argv[1])
    for finding in found:
        print(finding)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

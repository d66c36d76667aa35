"""Follows docs/deployment.md word by word: each of its blocks of `sh`, in one shell, from an empty folder, up to the first command
that fails. The AWS endpoint is not AWS, and differs in what is said at each of the stand-ins below.

guide.py SAM ENDPOINT PROGRAM HOST DATA     SAM: its script; PROGRAM: the built command; HOST, DATA: address and data folder of an `up`
                                            that runs
"""
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import boto3

import check
import deploy

ROOT = pathlib.Path(__file__).parents[2]
DRILL = """<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>guide-1</identifier><sender>oem@butte.example</sender>
<sent>{sent}</sent><status>Exercise</status><msgType>Alert</msgType><scope>Public</scope><info><category>Fire</category><event>Drill</event>
<urgency>Immediate</urgency><severity>Severe</severity><certainty>Observed</certainty><headline>A drill</headline>
<area><areaDesc>Butte</areaDesc><circle>39.7,-121.6 5</circle></area></info></alert>"""
STAND_INS = """
cargo() {{ echo "not built again: cargo $*"; }}
aws() {{ {python} -m awscli "$@"; }}
sam() {{
  case $1 in
  # In its place lies the transformed template, whose programs nobody starts here: this endpoint runs none of them.
  build) echo "not built: sam $*" ;;
  # It makes no MSK cluster.
  deploy) {python} {sam} "$@" KafkaBrokers=127.0.0.1:9092 Network=none ;;
  *) {python} {sam} "$@" ;;
  esac
}}
# What operates a stack operates a host, by the same routes.
streammanager() {{ STREAMMANAGER_ENDPOINT={host} STREAMMANAGER_DATA={data} {program} "$@"; }}
"""


def prepared(folder, endpoint):
    template, found = check.transformed((ROOT / "infra/template.yaml").read_text())
    if template is None:
        sys.exit("\n".join(found))
    built = folder / ".aws-sam/build"
    built.mkdir(parents=True)
    (built / "template.yaml").write_text(json.dumps(deploy.without_canaries(template)))
    (folder / "infra").symlink_to(ROOT / "infra")
    (folder / "firms.key").write_text("k3y")
    sent = subprocess.run(["date", "--iso-8601=seconds"], capture_output=True, text=True, check=True).stdout.strip()
    (folder / "drill.cap.xml").write_text(DRILL.format(sent=sent))
    # Of a time before: the guide begins with nothing.
    stacks = boto3.client("cloudformation", endpoint_url=endpoint)
    for stack in ("streammanager-dev", "streammanager-test"):
        stacks.delete_stack(StackName=stack)
        stacks.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig=deploy.PROMPT)
    s3 = boto3.client("s3", endpoint_url=endpoint)
    try:
        s3.create_bucket(Bucket="artifacts", CreateBucketConfiguration={"LocationConstraint": check.REGION})
    except s3.exceptions.BucketAlreadyOwnedByYou:
        pass
    s3.put_object(Bucket="artifacts", Key="package.zip", Body=deploy.package())


def main():
    sam, endpoint, program, host, data = sys.argv[1:]
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/deployment.md").read_text(), re.M | re.S)
    os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": check.REGION}
    stand_ins = STAND_INS.format(**{name: shlex.quote(value) for name, value in
                                    {"python": sys.executable, "sam": sam, "program": program, "host": host, "data": data}.items()})
    with tempfile.TemporaryDirectory() as folder:
        prepared(pathlib.Path(folder), endpoint)
        # What a block takes from the stack is there, though the host stands in for it.
        shown = '[[ ! -v STREAMMANAGER_ENDPOINT || $STREAMMANAGER_ENDPOINT == http* ]]'
        steps = "\n".join(f"{block}\n{shown}\necho followed: {at + 1} of {len(blocks)}" for at, block in enumerate(blocks))
        script = f"set -euo pipefail\n{stand_ins}\n{steps}\n"
        sys.exit(subprocess.run(["bash", "-c", script], cwd=folder, stdin=subprocess.DEVNULL).returncode)


if __name__ == "__main__":
    main()

"""The tokens of AWS's own signer for Python at fixed times, by credentials that are nobody's: what msk.rs is held to.

python3 -m venv signer && signer/bin/pip install aws-msk-iam-sasl-signer-python==1.0.2 botocore==1.43.11
signer/bin/python shared/src/aws/msk/vectors.py > shared/src/aws/msk/vectors.json
"""
import json
from datetime import datetime, timezone
from unittest.mock import patch

from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
from botocore.credentials import CredentialProvider, Credentials

ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SESSION = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLXdlc3QtMiJHMEUCIQD+a1b2=="
CASES = [(None, "us-west-2", "2026-11-30T12:00:00"), (SESSION, "us-west-2", "2026-11-30T23:59:59"), (SESSION, "eu-central-1", "2027-01-01T00:00:00")]


class Given(CredentialProvider):
    def __init__(self, session):
        self.session = session

    def load(self):
        return Credentials(ACCESS, SECRET, self.session)


def token(session, region, at):
    now = datetime.fromisoformat(at).replace(tzinfo=timezone.utc)
    # Where botocore's signature has its time from.
    with patch("botocore.auth.get_current_datetime", lambda *_, **__: now.replace(tzinfo=None)):
        return MSKAuthTokenProvider.generate_auth_token_from_credentials_provider(region, Given(session))


def main():
    vectors = []
    for session, region, at in CASES:
        text, expires = token(session, region, at)
        vectors.append({"access_key": ACCESS, "secret_key": SECRET, "session_token": session, "region": region, "at": f"{at}Z",
                        "token": text, "expires_ms": expires})
    print(json.dumps(vectors, indent=1))


main()

"""The revoker's user at the local AWS, with exactly the policy that docs/keys.md gives."""

import json
import re
from typing import Any

from deploy.demo import REPOSITORY
from deploy.demo.cloud import USER
from gateway.wire.secret import Secret

REVOKER = f"{USER}-revoker"


def documented(heading: str, account: str) -> dict[str, Any]:
    """The policy that docs/keys.md gives below a heading, for this account."""
    page = (REPOSITORY / "docs" / "keys.md").read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    found = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    if not found:
        raise LookupError(heading)
    policy: dict[str, Any] = json.loads(found[1].replace("111122223333", account))
    return policy


def make(iam: Any, account: str) -> tuple[str, Secret]:
    """The user; the id and the secret of its access key."""
    iam.create_user(UserName=REVOKER)
    policy = _as_the_local_aws_has_it(documented("The revoker", account))
    iam.put_user_policy(UserName=REVOKER, PolicyName="least", PolicyDocument=policy)
    made = iam.create_access_key(UserName=REVOKER)["AccessKey"]
    return made["AccessKeyId"], Secret(made["SecretAccessKey"])


def _as_the_local_aws_has_it(policy: dict[str, Any]) -> str:
    """It asks for CreatePolicy on `*`, where AWS asks for the policy's ARN, and does not know `iam:PolicyARN`."""
    plain = [{key: value for key, value in each.items() if key != "Condition"} for each in policy["Statement"]]
    create = {"Effect": "Allow", "Action": "iam:CreatePolicy", "Resource": "*"}
    return json.dumps(policy | {"Statement": [*plain, create]})

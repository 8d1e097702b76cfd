"""What an administrator makes in the account: who calls directly, the role of the grants, and what they work on."""

import json
from dataclasses import dataclass
from typing import Any

from deploy.demo.cloud import ACCOUNT, USER, Cloud
from gateway.wire.secret import Secret

FORBIDDEN = "forbidden-data"
"""A bucket that nobody here may use."""
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::calls-*", "arn:aws:s3:::calls-*/*"]},
        {
            "Effect": "Allow",
            "Action": ["sqs:*", "dynamodb:*", "sns:*", "lambda:*", "ec2:*", "sts:GetCallerIdentity", "iam:PassRole"],
            "Resource": "*",
        },
    ],
}
"""Of the user and of the role, and the policy of the grant: a call is allowed directly and by each way, or by none."""


@dataclass(frozen=True, slots=True)
class Callers:
    """The key of an IAM user that calls directly, and the ARN of the role that the gateway takes."""

    access_key_id: str
    secret: Secret
    role_arn: str


def prepare(cloud: Cloud) -> Callers:
    """Make them. Once a cloud, after `Cloud.seed`."""
    iam, policy = cloud.root("iam"), json.dumps(POLICY)
    iam.create_user(UserName="caller")
    iam.put_user_policy(UserName="caller", PolicyName="calls", PolicyDocument=policy)
    key = iam.create_access_key(UserName="caller")["AccessKey"]
    assume = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    user = f"arn:aws:iam::{ACCOUNT}:user/{USER}"
    role = iam.create_role(RoleName="calls", AssumeRolePolicyDocument=_trust({"AWS": user}, assume))["Role"]["Arn"]
    iam.put_role_policy(RoleName="calls", PolicyName="calls", PolicyDocument=policy)
    lends = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": assume, "Resource": role}]}
    iam.put_user_policy(UserName=USER, PolicyName="calls", PolicyDocument=json.dumps(lends))
    runs = _trust({"Service": "lambda.amazonaws.com"}, ["sts:AssumeRole"])
    iam.create_role(RoleName="function", AssumeRolePolicyDocument=runs)
    s3 = cloud.root("s3")
    s3.create_bucket(Bucket=FORBIDDEN)
    s3.put_object(Bucket=FORBIDDEN, Key="secret", Body=b"nobody reads this\n")
    return Callers(key["AccessKeyId"], Secret(key["SecretAccessKey"]), role)


def _trust(who: dict[str, Any], actions: list[str]) -> str:
    statement = {"Effect": "Allow", "Principal": who, "Action": actions}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

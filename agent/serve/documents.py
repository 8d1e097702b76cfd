"""Credentials in the forms that clients read. Pure: what is lent in, bytes out.

AWS SDKs and Tools Reference: "Container credential provider", "Process credential provider", "Shared config and
credentials files"; EC2 User Guide: "Retrieve security credentials from instance metadata".
"""

import json
from datetime import datetime, timedelta
from typing import Any

from agent.credentials import Lent
from gateway.wire.messages import instant

SHORT = timedelta(minutes=30)
"""botocore believes credentials from the metadata service to live 17 minutes or more from now, whatever they say, once
less than 25 remain. It leaves an expiry alone that has fractions of a second: those of less than this have them."""


def container(lent: Lent) -> bytes:
    """The container credential provider's answer."""
    return _json({**_three(lent), "Expiration": instant(lent.expires)})


def process(lent: Lent) -> bytes:
    """What `credential_process` prints, Version 1."""
    three = _three(lent)
    three["SessionToken"] = three.pop("Token")
    return _json({"Version": 1, **three, "Expiration": instant(lent.expires)})


def role(lent: Lent, now: datetime) -> bytes:
    """The metadata service's answer for a role."""
    expiration = instant(lent.expires)
    if lent.expires - now < SHORT:
        expiration = expiration.replace("Z", ".000000Z")
    head = {"Code": "Success", "LastUpdated": instant(lent.updated), "Type": "AWS-HMAC"}
    return _json({**head, **_three(lent), "Expiration": expiration})


def no_role(message: str, now: datetime) -> bytes:
    """The metadata service's answer for a role that gives nothing: status 200, and another Code than Success."""
    return _json({"Code": "AssumeRoleUnauthorizedAccess", "Message": message, "LastUpdated": instant(now)})


def profile_info(instance: str, grant: str, now: datetime) -> bytes:
    """The metadata service's `iam/info`. `instance` is its name in the certificate; the id is made up."""
    _, _, _, partition, account, *_ = instance.split("/")
    arn = f"arn:{partition}:iam::{account}:instance-profile/{grant}"
    head = {"Code": "Success", "LastUpdated": instant(now)}
    return _json({**head, "InstanceProfileArn": arn, "InstanceProfileId": "AIPAAAAAAAAAAAAAAAAAA"})


def file(lent: Lent) -> bytes:
    """A shared credentials file. No SDK reads the comment, and none knows that the keys end."""
    return (
        f"# expires {instant(lent.expires)}; written by trusted-gateway-agent, replaced before that\n"
        "[default]\n"
        f"aws_access_key_id = {lent.access_key_id}\n"
        f"aws_secret_access_key = {lent.secret_access_key}\n"
        f"aws_session_token = {lent.session_token}\n"
    ).encode()


def error(code: str, message: str) -> bytes:
    """An error in both spellings: each SDK reads another one."""
    return _json({"code": code, "Code": code, "message": message, "Message": message})


def _three(lent: Lent) -> dict[str, Any]:
    return {
        "AccessKeyId": lent.access_key_id,
        "SecretAccessKey": lent.secret_access_key,
        "Token": lent.session_token,
    }


def _json(plain: dict[str, Any]) -> bytes:
    return json.dumps(plain).encode()

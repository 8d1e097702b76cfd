"""An STS whose sessions tell what was asked for: every field of the request is in the session's token."""

import base64
import json
import re
import threading
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

from gateway.wire.messages import instant
from tests.end_to_end.door import Asked, Reply


class TellingSts:
    """`door.answering(sts)`: answers AssumeRole and GetFederationToken by itself, and counts; the rest is AWS's."""

    def __init__(self) -> None:
        self.minted = 0
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Reply | None:
        if asked.action not in ("AssumeRole", "GetFederationToken"):
            return None
        with self._lock:
            self.minted += 1
            number = self.minted
        ends = datetime.now(UTC) + timedelta(seconds=int(asked.fields["DurationSeconds"]))
        scope = re.search(r"Credential=([^/]+)/[0-9]{8}/([^/]+)/sts/", asked.headers["authorization"])
        assert scope, "signed by a key, for a region"
        told = asked.fields | {"number": str(number), "key": scope[1], "region": scope[2]}
        token = base64.b64encode(json.dumps(told).encode()).decode()
        name = asked.fields.get("RoleSessionName", asked.fields.get("Name", ""))
        who = "AssumedRoleUser" if asked.action == "AssumeRole" else "FederatedUser"
        id_ = "AssumedRoleId" if asked.action == "AssumeRole" else "FederatedUserId"
        return Reply(
            200,
            f'<{asked.action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{asked.action}Result>'
            f"<Credentials><AccessKeyId>ASIATELLING{number:09d}</AccessKeyId><SecretAccessKey>s{number}</SecretAccessKey>"
            f"<SessionToken>{token}</SessionToken><Expiration>{instant(ends)}</Expiration></Credentials>"
            f"<{who}><Arn>arn:aws:sts::111122223333:{escape(name)}</Arn><{id_}>A:{escape(name)}</{id_}></{who}>"
            f"</{asked.action}Result></{asked.action}Response>".encode(),
        )


def told(answer: dict[str, Any]) -> dict[str, str]:
    """What the credentials of an answer of POST /v1/credentials tell; that their parts belong together is checked."""
    found: dict[str, str] = json.loads(base64.b64decode(answer["session_token"]))
    assert answer["access_key_id"] == f"ASIATELLING{int(found['number']):09d}"
    assert answer["secret_access_key"] == f"s{found['number']}"
    assert tags_of(found)["gateway:lease"] == answer["lease"]
    return found


def tags_of(found: dict[str, str]) -> dict[str, str]:
    """The session tags among the fields that a session tells."""
    return {
        found[f"Tags.member.{i}.Key"]: found[f"Tags.member.{i}.Value"]
        for i in range(1, 51)
        if f"Tags.member.{i}.Key" in found
    }

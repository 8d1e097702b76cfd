"""CloudTrail's records of what was asked of AWS: of a log file, one by one, and what of a record matters here. Pure.

AWS: "CloudTrail record contents for management, data, and network activity events" and "CloudTrail userIdentity
element". Members that we do not know are left alone: AWS adds some with each minor version.
"""

import codecs
import ipaddress
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.wire.strict import Malformed

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LONGEST_RECORD = 1024 * 1024
"""Letters of one record; AWS cuts an event at 256 KB, or 1 MB where a trail asks for that."""
_PIECE = 64 * 1024
_LONGEST = 2048  # letters of a member that is read
_BEGIN = re.compile(r'\s*\{\s*"Records"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")
_DIGESTS = re.compile(r"(^|/)CloudTrail-(Digest|Insight|Aggregated)(/|$)|_CloudTrail-(Digest|Insight|Aggregated)_")

# Of a record, what `read` looks at; the rest need not travel.
_MEMBERS: Mapping[str, Any] = {
    "eventVersion": None,
    "eventID": None,
    "sharedEventID": None,
    "requestID": None,
    "eventTime": None,
    "eventType": None,
    "eventSource": None,
    "eventName": None,
    "awsRegion": None,
    "sourceIPAddress": None,
    "errorCode": None,
    "recipientAccountId": None,
    "userIdentity": {
        "type": None,
        "arn": None,
        "accountId": None,
        "accessKeyId": None,
        "invokedBy": None,
        "sessionContext": {"sessionIssuer": {"arn": None}, "sourceIdentity": None},
    },
    "additionalEventData": {"AuthenticationMethod": None},
    "requestParameters": {"roleArn": None},
    "responseElements": {
        "credentials": {"accessKeyId": None},
        "assumedRoleUser": {"arn": None},
        "instancesSet": {"items": {"instanceId": None}},
    },
}


@dataclass(frozen=True, slots=True)
class TrailEvent:
    """One call of AWS, as AWS recorded it. `source` is an address or the name of a service of AWS.

    `id` is the same in the records of all accounts that were told of it. `made_key` and `made_arn` are of the session
    that it gave, for `made_role`; `launched` are the instances that it launched.
    """

    id: str
    at: datetime
    source: str
    service: str
    name: str
    region: str
    account: str
    request_id: str | None = None
    error: str | None = None
    identity: str | None = None
    arn: str | None = None
    identity_account: str | None = None
    access_key_id: str | None = None
    issuer: str | None = None
    source_identity: str | None = None
    invoked_by: str | None = None
    presigned: bool = False
    made_key: str | None = None
    made_arn: str | None = None
    made_role: str | None = None
    launched: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """The call, as IAM would name it: `s3:GetObject`."""
        return f"{self.service.partition('.')[0]}:{self.name}"

    @property
    def by_service(self) -> bool:
        """Whether a service of AWS made the call, be it for itself or on somebody's behalf: AWS says so, and nobody
        outside can have it say so.
        """
        named = self.source != "" and address(self.source) is None
        return self.identity == "AWSService" or self.invoked_by is not None or named


def address(written: str) -> Address | None:
    """The address that this is; None for the name of a service."""
    try:
        found = ipaddress.ip_address(written)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def read(raw: object) -> TrailEvent:
    """A record of version 1.x. Raises Malformed for what is none."""
    if not isinstance(raw, dict):
        raise Malformed("record: must be an object")
    if not re.fullmatch(r"1\.[0-9]{1,3}", _text(raw, "eventVersion") or ""):
        raise Malformed("eventVersion: is not 1.x")
    event_id = _text(raw, "sharedEventID") or _text(raw, "eventID")
    if not event_id:
        raise Malformed("eventID: is missing")
    who = _inside(raw, "userIdentity")
    session = _inside(who, "sessionContext")
    gave = _inside(raw, "responseElements")
    launched = _inside(gave, "instancesSet").get("items")
    items = [each for each in launched if isinstance(each, dict)] if isinstance(launched, list) else []
    account = _text(raw, "recipientAccountId") or _text(who, "accountId")
    return TrailEvent(
        id=event_id,
        at=_moment(_text(raw, "eventTime")),
        source=_text(raw, "sourceIPAddress") or "",
        service=_text(raw, "eventSource") or "",
        name=_text(raw, "eventName") or "",
        region=_text(raw, "awsRegion") or "",
        account=account or "",
        request_id=_text(raw, "requestID"),
        error=_text(raw, "errorCode"),
        identity=_text(who, "type"),
        arn=_text(who, "arn"),
        identity_account=_text(who, "accountId"),
        access_key_id=_text(who, "accessKeyId"),
        issuer=_text(_inside(session, "sessionIssuer"), "arn"),
        source_identity=_text(session, "sourceIdentity"),
        invoked_by=_text(who, "invokedBy"),
        presigned=_text(_inside(raw, "additionalEventData"), "AuthenticationMethod") == "QueryString",
        made_key=_text(_inside(gave, "credentials"), "accessKeyId"),
        made_arn=_text(_inside(gave, "assumedRoleUser"), "arn"),
        made_role=_text(_inside(raw, "requestParameters"), "roleArn"),
        launched=tuple(found for each in items if (found := _text(each, "instanceId"))),
    )


def slim(raw: object) -> Any:
    """The record without what `read` does not look at: what a call asked for and got is nobody's business here."""
    return _only(raw, _MEMBERS)


def records(pieces: Iterable[bytes]) -> Iterator[Any]:
    """The records of a log file, `{"Records": […]}`, gzip or not, as they come in: a long file needs no more memory
    than its longest record. Raises Malformed, also for a file that ends in the middle.
    """
    buffer, begun = "", False
    decoder = json.JSONDecoder()
    texts = _texts(pieces)
    for text in texts:
        buffer += text
        if not begun:
            match = _BEGIN.match(buffer)
            if match is None:
                if len(buffer) > _PIECE:
                    break
                continue
            begun, buffer = True, buffer[match.end() :]
        at = 0
        while (at := _skip(buffer, at)) < len(buffer):
            if buffer[at] == "]":
                return _demand_end(buffer[at + 1 :], texts)
            try:
                found, at = decoder.raw_decode(buffer, at)
            except RecursionError:
                raise Malformed("record: nested too deeply") from None
            except ValueError:  # there is more to come, or it is no JSON
                break
            yield found
        buffer = buffer[at:]
        if len(buffer) > LONGEST_RECORD:
            raise Malformed("record: is too long, or no JSON")
    raise Malformed("file: ends in the middle" if begun else "file: is no log file of CloudTrail")


def is_log(name: str) -> bool:
    """Whether a file or object of this name holds records, and neither digests nor what AWS makes of records."""
    return name.endswith((".json", ".json.gz")) and not _DIGESTS.search(name)


def _demand_end(rest: str, texts: Iterator[str]) -> None:
    """Behind the list comes the end of the object, and of the file: a gzip that is whole has its checksum there."""
    for text in texts:
        rest = rest.strip() + text
        if len(rest) > _PIECE:
            break
    if rest.strip() != "}":
        raise Malformed("file: does not end where its list does")


def _skip(buffer: str, at: int) -> int:
    match = _BETWEEN.match(buffer, at)
    return match.end() if match else at


def _texts(pieces: Iterable[bytes]) -> Iterator[str]:
    utf8 = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in _unzipped(pieces):
            yield utf8.decode(piece)
        yield utf8.decode(b"", final=True)
    except UnicodeDecodeError:
        raise Malformed("file: not in UTF-8") from None


def _unzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces as they were before gzip, if it was: each bounded, whatever is in it."""
    packed: Any = None
    for number, piece in enumerate(pieces):
        if number == 0 and piece[:2] == b"\x1f\x8b":
            packed = zlib.decompressobj(31)
        if packed is None:
            yield piece
            continue
        try:
            yield packed.decompress(piece, _PIECE)
            while packed.unconsumed_tail:
                yield packed.decompress(packed.unconsumed_tail, _PIECE)
        except zlib.error:
            raise Malformed("file: its gzip is broken") from None
    if packed is not None and not packed.eof:
        raise Malformed("file: ends in the middle")


def _only(value: object, members: Mapping[str, Any] | None) -> Any:
    if isinstance(value, list):
        return [_only(each, members) for each in value]
    if isinstance(value, dict):
        return {name: _only(value[name], inner) for name, inner in (members or {}).items() if name in value}
    return value


def _inside(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = raw.get(name)
    return found if isinstance(found, dict) else {}


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    found = raw.get(name)
    if not isinstance(found, str):
        return None
    if len(found) > _LONGEST:
        raise Malformed(f"{name}: is too long")
    return found


def _moment(written: str | None) -> datetime:
    try:
        found = datetime.fromisoformat(written or "")
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Malformed("eventTime: is no time")
    return found.astimezone(UTC)

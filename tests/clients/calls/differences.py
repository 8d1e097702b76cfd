"""What may differ between a call that was made directly and the same call by the gateway. All else has to be equal.

Each row has its reason. `faults` compares what a client saw; `corrupted` what AWS said with what the client saw of it,
and there nothing may differ but what belongs to a connection.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.clients.calls.jobs import sha256
from tests.clients.calls.tap import Exchange, Headers

OF_A_CONNECTION: Mapping[str, str] = {
    "connection": "RFC 9110 section 7.6.1: of one hop",
    "keep-alive": "RFC 9110 section 7.6.1: of one hop",
    "transfer-encoding": "RFC 9112 section 6.1: of one hop; the body is compared without it",
}
OF_AN_ANSWER: Mapping[str, str] = {
    **OF_A_CONNECTION,
    "date": "when it was answered",
    "last-modified": "when it was written",
    "x-amz-request-id": "AWS gives each request its own",
    "x-amz-id-2": "AWS gives each request its own",
    "x-amzn-requestid": "AWS gives each request its own",
}
WHO = "who calls: a user directly, a role's session by a way"
OF_A_BODY = ("content-length", "x-amz-crc32")
"""Headers that are computed from a body: where what may differ is in it, they may."""
IN_A_BODY: Mapping[str, str] = {
    r"\b(AKIA|ASIA|AIDA|AROA|TGDK)[A-Z0-9]{12,}(:i-[0-9a-f]+)?": WHO,
    r"arn:aws:(iam|sts)::\d+:(user|assumed-role)/[\w+=,.@/-]+": WHO,
    r"(?<=calls-)([a-z0-9]+)-[dsp]\b": "each way works in a bucket of its own, and with names of its own",
    r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?": "a time",
    r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT": "a time",
    r"\b\d{8}T\d{6}Z\b": "a time",
    r"\b1[789]\d{8}(\.\d+)?\b": "a time, in seconds",
    r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b": "AWS makes ids at random",
    r"(?<=<RequestId>)[^<]*|(?<=<HostId>)[^<]*": "AWS gives each request its own",
    r"(?<=<UploadId>)[^<]*|(?<=uploadId=)[^&]*|(?<=\"UploadId\": \")[^\"]*": "AWS makes ids at random",
    r"\b(sg|sgr|i)-[0-9a-f]{17}\b": "AWS makes ids at random",
    r"(?<=\"ReceiptHandle\": \")[^\"]*": "AWS makes ids at random",
    r"(?<=ReceiptHandle=)[^&]*|(?<=<ReceiptHandle>)[^<]*": "the same, in the query protocol",
    r"https?://(localhost|127\.0\.0\.1):\d+": "the local AWS builds URLs from `Host`, which is the AWS host's by a way",
    r"https?%3A%2F%2F(localhost|127\.0\.0\.1)%3A\d+": "the same, in a form",
}
IN_A_TARGET = r"&?X-Amz-(Algorithm|Credential|Date|Expires|Security-Token|Signature|SignedHeaders)=[^&]*"
"""What a presigned URL is signed with: other keys, another time."""
BY_STATUS_ONLY: Mapping[str, str] = {
    "refused": "directly AWS refuses, by a way the gateway does before: the sentences differ, status and code do not",
}


def canonical(text: str) -> str:
    """A text less what may differ."""
    for pattern in IN_A_BODY:
        text = re.sub(pattern, "·", text)
    return text


def _body(message: bytes) -> bytes:
    """A body less what may differ. One that is no text is what it is."""
    try:
        return canonical(message.decode()).encode()
    except UnicodeDecodeError:
        return message


def _target(exchange: Exchange) -> str:
    path, _, query = exchange.target.partition("?")
    query = re.sub(IN_A_TARGET, "", query).removeprefix("&")
    return canonical(f"{path}?{query}" if query else path)


def _headers(headers: Headers, less: Mapping[str, str], body: bool) -> list[tuple[str, str]]:
    """Of an answer, in no order. What is computed from a body may differ where that does."""
    kept = ((name, canonical(value)) for name, value in headers if name not in less)
    return sorted(pair for pair in kept if body or pair[0] not in OF_A_BODY)


def faults(job: str, direct: Sequence[Exchange], other: Sequence[Exchange]) -> Iterator[str]:
    """In words, where the exchanges of a job differ that should not."""
    said, heard = (sorted(exchanges, key=_key) for exchanges in (direct, other))
    if [_key(each) for each in said] != [_key(each) for each in heard]:
        yield f"other requests: {_shown(said)} directly, {_shown(heard)} by the way"
        return
    for one, two in zip(said, heard, strict=True):
        what = f"{one.method} {_target(one)}"
        if one.status != two.status:
            yield f"{what}: status {one.status} directly, {two.status} by the way"
            continue
        if job in BY_STATUS_ONLY:
            continue
        if (ours := _body(one.answer.body)) != (theirs := _body(two.answer.body)):
            yield f"{what}: another body: {_where(ours, theirs)!r} directly, {_where(theirs, ours)!r} by the way"
        alike = one.answer.body == two.answer.body and not _varies(one.answer.body)
        fixed, found = (_headers(each.answer.headers, OF_AN_ANSWER, alike) for each in (one, two))
        if fixed != found:
            yield f"{what}: headers {sorted(set(fixed) - set(found))} directly, {sorted(set(found) - set(fixed))} by it"


def _where(text: bytes, other: bytes) -> bytes:
    """Some of it around where the other begins to differ."""
    start = next((at for at, (one, two) in enumerate(zip(text, other, strict=False)) if one != two), 0)
    return text[max(0, start - 40) : start + 80]


def _varies(body: bytes) -> bool:
    return _body(body) != body


def _key(exchange: Exchange) -> tuple[str, str, str, str]:
    payload = _body(exchange.payload)
    if payload.startswith(b"<"):
        payload = b"".join(sorted(re.findall(rb"<[^>]*>[^<]*", payload)))  # Go's SDK 1 writes fields in no order
    what = sha256(payload)
    return exchange.method, _target(exchange), exchange.request.get("range") or "", what


def _shown(exchanges: Sequence[Exchange]) -> list[str]:
    return [f"{method} {target} {part} {what[:8]}" for method, target, part, what in map(_key, exchanges)]


@dataclass(frozen=True, slots=True)
class Digest:
    """An exchange in short."""

    method: str
    path: str
    payload: str
    answer: tuple[str, list[tuple[str, str]], str]


def digests(exchanges: Iterable[Exchange]) -> dict[str, Digest]:
    """By what AWS calls each request."""
    return {request_id: _digest(each) for each in exchanges if (request_id := each.answer.get("x-amz-request-id"))}


def _digest(each: Exchange) -> Digest:
    """Status, headers and body of the answer are to the letter; the query is not there: a way signs it anew."""
    headers = sorted(pair for pair in each.answer.headers if pair[0] not in OF_A_CONNECTION)
    answer = each.answer.first.split(" ")[1], headers, sha256(each.answer.body)
    return Digest(each.method, each.target.partition("?")[0], sha256(each.payload), answer)


def corrupted(far: Mapping[str, Digest], near: Iterable[Exchange]) -> Iterator[str]:
    """In words, where what a client saw is not what AWS said, or AWS got other bytes than the client sent.

    A call is known by its answer's request id. An answer that AWS did not give is a refusal on the way, and no fault.
    """
    for request_id, seen in digests(near).items():
        said = far.get(request_id)
        if said is not None and said != seen:
            yield f"{seen.method} {seen.path}: AWS and the client do not agree: {said} there, {seen} here"


def unlike_its_hash(exchange: Exchange) -> Iterator[str]:
    """In words, where a request's body is not the one whose hash was signed: the local AWS does not look."""
    said = exchange.request.get("x-amz-content-sha256") or ""
    if len(said) == 64 and said != sha256(exchange.request.body):
        yield f"{exchange.method} {exchange.target}: the body's hash is another one"

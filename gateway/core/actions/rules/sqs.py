"""SQS: the queue is in its URL, a batch takes the action of its single one.

AWS: "Service Authorization Reference: Amazon SQS"; "Amazon SQS API reference", SendMessageBatch: "… permissions are
those of SendMessage"; "Queue and message identifiers" for the URL.
"""

import re
from urllib.parse import SplitResult, urlsplit

from gateway.core.actions.ask import Ask
from gateway.core.actions.call import Need
from gateway.core.errors import Refusal

_PATH = re.compile(r"/([0-9]{12})/([A-Za-z0-9_-]{1,80}(?:\.fifo)?)")
# The hosts that SQS has had, in all partitions; and a local one, for the account and the name are what counts.
_HOST = re.compile(
    r"(?:[a-z0-9.-]+\.)?(?:sqs|sqs-fips|queue)(?:\.[a-z0-9-]+)*\.(?:amazonaws\.com(?:\.cn)?|api\.aws|amazonwebservices\.com\.cn)"
    r"|127\.0\.0\.1|localhost|\[::1\]"
)


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a call that names a queue by its URL, or makes or finds one by name."""
    entry = ask.entry
    if entry is None:
        return None
    if "QueueUrl" in ask.routed.members or "QueueUrl" in ask.routed.unread:
        return (Need(entry.action, _queue(ask), {}),)
    if ask.request.path not in ("", "/"):  # a queue's own address, and what is asked does not name it
        return (Need(entry.action, None, {}),)
    if ask.operation == "GetQueueUrl" and (owner := ask.text("QueueOwnerAWSAccountId")):
        name = ask.text("QueueName")
        known = name and _PATH.fullmatch(f"/{owner}/{name}")
        resource = f"arn:{ask.partition}:sqs:{ask.request.region}:{owner}:{name}" if known else None
        return (Need(entry.action, resource, {}),)
    return None


def _queue(ask: Ask) -> str | None:
    """The ARN of the queue. Raises Refusal for a URL of somebody else's host, or of another queue than the path's."""
    url = ask.text("QueueUrl")
    if url is None:
        return None
    path = url
    if "://" in url:
        parts = _parts(url)
        host = parts.netloc.rpartition(":")[0] if re.search(r":[0-9]{1,5}$", parts.netloc) else parts.netloc
        if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host) or parts.query or parts.fragment:
            raise Refusal("call_malformed", "QueueUrl is no URL of SQS", reason="queue_url")
        path = parts.path
    asked = ask.request.path
    if asked not in ("", "/") and asked != path:
        raise Refusal("call_ambiguous", "The path and QueueUrl name two queues", reason="two_queues")
    found = _PATH.fullmatch(path)
    return f"arn:{ask.partition}:sqs:{ask.request.region}:{found[1]}:{found[2]}" if found else None


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # an odd address in brackets
        raise Refusal("call_malformed", "QueueUrl is no URL of SQS", reason="queue_url") from None

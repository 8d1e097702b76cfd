"""Values of conditions that are more than text: numbers, dates, networks, bytes. Pure.

Each function reads what a policy or a request writes, and raises ValueError for everything else. AWS: "IAM JSON policy
elements: Condition operators". The values of a request are each read once, though many statements may ask for them.
"""

import base64
import ipaddress
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
# The W3C's profile of ISO 8601 (NOTE-datetime), but that a time without a zone is taken for UTC.
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_NETWORK = re.compile(r"[0-9A-Fa-f.:]+(/[0-9]{1,3})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def number(text: str) -> Decimal:
    """An integer or a decimal number."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("no number")
    return Decimal(text)


@lru_cache(maxsize=256)
def moment(text: str) -> Decimal:
    """A date, or seconds since 1970, as seconds since 1970; a date alone is its midnight in UTC."""
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    if not _DATE.fullmatch(text):
        raise ValueError("no date")
    found = datetime.fromisoformat(text)
    since = (found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH
    return Decimal(since // _MICROSECOND) / 1_000_000


def network(text: str) -> Network:
    """A range of addresses in CIDR notation, or one address; bits behind the prefix count for nothing."""
    if not _NETWORK.fullmatch(text):
        raise ValueError("no address")
    return ipaddress.ip_network(text, strict=False)


@lru_cache(maxsize=256)
def address(text: str) -> Address:
    """An address; one of IPv4 that a dual-stack socket writes as IPv6 (::ffff:192.0.2.1) is that of IPv4."""
    found = ipaddress.ip_address(text)
    return getattr(found, "ipv4_mapped", None) or found


def binary(text: str) -> bytes:
    """Bytes in base64."""
    return base64.b64decode(text, validate=True)

"""Time and randomness, from the operating system. The only module of the gateway that asks it for either."""

import os
import uuid
from datetime import UTC, datetime


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def random_bytes(count: int, /) -> bytes:
    """Random bytes from the kernel: never shared between forked processes."""
    return os.urandom(count)


def request_id() -> str:
    """An id for what no request has asked for."""
    return str(uuid.UUID(bytes=random_bytes(16), version=4))

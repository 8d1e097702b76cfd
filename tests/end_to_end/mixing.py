"""Many instances that ask for much at once, politely and not: one after the other, pipelined, and gone in the middle.

All on one event loop. Whatever is answered is compared with what this very instance asked for in this very request.
"""

import asyncio
import json
import random
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.end_to_end.telling import tags_of, told

ORDERS_AT_ONCE = 6
_LONGEST_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """One order, as it is sent, and what its answer must tell."""

    body: bytes
    tells: dict[str, str]
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class Tenant:
    """An instance: its certificate is in `context`. `orders` are what it may ask for."""

    name: str
    context: ssl.SSLContext
    orders: Sequence[Wanted]


@dataclass(slots=True)
class Tally:
    """What came of it. `wrong` holds what must be empty."""

    sent: int = 0
    checked: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Crowd:
    """Sends about `requests` in all, over `connections` at a time. `version` is what the operator applied last."""

    def __init__(
        self, address: str, tenants: Sequence[Tenant], requests: int, *, seed: int, version: Callable[[], int]
    ) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._tenants, self._requests = tenants, requests
        self._chance = random.Random(seed)  # noqa: S311  # to be had again, by its seed
        self._version = version
        self.tally = Tally()
        self.gone: set[str] = set()
        """Tenants that are revoked: an answer to one of their requests is wrong."""

    async def run(self, connections: int) -> Tally:
        """All requests. Raises what a fault of the test raises."""
        await asyncio.gather(*(self._visit() for _ in range(connections)))
        return self.tally

    async def _visit(self) -> None:
        ways = (self._one_by_one, self._pipelined, self._gone_unread, self._gone_half_sent, self._gone_half_read)
        while self.tally.sent < self._requests:
            tenant = self._chance.choice(self._tenants)
            try:
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=tenant.context, limit=_LONGEST_ANSWER
                )
            except OSError:
                self.tally.kinds["no connection"] += 1
                continue
            way = self._chance.choices(ways, weights=(4, 4, 1, 1, 1))[0]
            try:
                await asyncio.wait_for(way(tenant, reader, writer), 60)
                self.tally.kinds[way.__name__] += 1
            except (OSError, asyncio.IncompleteReadError):
                self.tally.kinds["broken off"] += 1
            except TimeoutError:
                self.tally.wrong.append(f"{tenant.name}: an answer never came ({way.__name__})")
            finally:
                writer.transport.abort()

    async def _one_by_one(self, tenant: Tenant, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._chance.randint(5, 60)):
            await self._exchange(tenant, reader, writer, 1)

    async def _pipelined(self, tenant: Tenant, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._chance.randint(2, 12)):
            await self._exchange(tenant, reader, writer, self._chance.randint(2, ORDERS_AT_ONCE))

    async def _gone_unread(self, tenant: Tenant, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._send(tenant, writer, self._chance.randint(1, ORDERS_AT_ONCE))
        await writer.drain()
        await asyncio.sleep(self._chance.random() * 0.01)

    async def _gone_half_sent(self, tenant: Tenant, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = request(self._chance.choice(tenant.orders).body)
        writer.write(whole[: self._chance.randrange(1, len(whole))])
        self.tally.sent += 1
        await writer.drain()

    async def _gone_half_read(self, tenant: Tenant, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._send(tenant, writer, self._chance.randint(1, ORDERS_AT_ONCE))
        await reader.read(self._chance.randint(1, 200))

    def _send(self, tenant: Tenant, writer: asyncio.StreamWriter, count: int) -> list[Wanted]:
        wanted = [self._chance.choice(tenant.orders) for _ in range(count)]
        writer.write(b"".join(request(each.body) for each in wanted))
        self.tally.sent += count
        return wanted

    async def _exchange(
        self, tenant: Tenant, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int
    ) -> None:
        gone, version = tenant.name in self.gone, self._version()
        for wanted in self._send(tenant, writer, count):
            status, body = await _answer(reader)
            if status != 200:
                self.tally.refused[f"{status} {body.get('code')}"] += 1
            elif gone:
                self.tally.wrong.append(f"{tenant.name} is revoked, and was given {body['lease']}")
            else:
                self._check(tenant, wanted, version, body)

    def _check(self, tenant: Tenant, wanted: Wanted, version: int, body: dict[str, Any]) -> None:
        self.tally.checked += 1
        try:
            found = told(body)
        except (AssertionError, ValueError, KeyError) as error:
            self.tally.wrong.append(f"{tenant.name}: {type(error).__name__} in {sorted(body)}")
            return
        tags = tags_of(found)
        applied = int(tags.pop("mix-version", "-1"))
        del tags["gateway:lease"]
        differs = {name for name, value in wanted.tells.items() if found.get(name) != value}
        if differs or tags != wanted.tags or applied < version:
            self.tally.wrong.append(f"{tenant.name}: {sorted(differs)} {tags} version {applied} < {version}")


def request(body: bytes) -> bytes:
    """POST /v1/credentials as it stands on the wire."""
    fields = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST /v1/credentials HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    body: dict[str, Any] = json.loads(await reader.readexactly(int(fields["content-length"])))
    return int(lines[0].split()[1]), body

"""Requests as botocore makes and signs them, taken out of its hands before they are sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import botocore.session
from botocore.auth import SigV4Auth
from botocore.config import Config
from botocore.loaders import Loader

from tests.corpus.values import parameters

REGION = "us-east-1"
ACCESS_KEY_ID, SECRET, TOKEN = "TGDKAAAAAAAAAAAAAAAA", "s" * 40, "t" * 64
PATH_STYLE = "path"
# botocore asks these for the host of every other operation first, unless it is told one.
HOSTS = {
    "timestream-query": "https://query.timestream.us-east-1.amazonaws.com",
    "timestream-write": "https://ingest.timestream.us-east-1.amazonaws.com",
    "apigatewaymanagementapi": "https://abcdefgh.execute-api.us-east-1.amazonaws.com",
    "cloudsearchdomain": "https://search-a.us-east-1.cloudsearch.amazonaws.com",
}


@dataclass(frozen=True, slots=True)
class Captured:
    """One signed request: where it would go, and each stage of the signature as botocore computed it."""

    service: str
    operation: str
    protocol: str
    style: str
    given: dict[str, Any]
    host: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    canonical: str
    string_to_sign: str
    signature: str

    @property
    def name(self) -> str:
        """How it is called in a report."""
        return f"{self.service}.{self.operation} ({self.protocol}{', ' if self.style else ''}{self.style})"


@dataclass(frozen=True, slots=True)
class Lost:
    """An operation that gave no request signed by SigV4, and why."""

    service: str
    operation: str
    protocol: str
    reason: str


_SHARED = Loader()


class _Taken(Exception):
    """Ends a call where its request would be sent."""


class _OneProtocol(Loader):  # type: ignore[misc]  # botocore has no types
    """Models that list a single protocol, so that a client has to speak it."""

    protocol: str

    def load_data_with_path(self, name: str) -> Any:
        # What every client reads is read once; a service's own is dropped with its client.
        return super().load_data_with_path(name) if "/" in name else _SHARED.load_data_with_path(name)

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        model = super().load_service_model(service_name, type_name, api_version)
        if type_name == "service-2":
            metadata = {**model["metadata"], "protocol": self.protocol, "protocols": [self.protocol]}
            # Metadata of a model by CBOR alone have no version of JSON, and are asked for none.
            return {**model, "metadata": metadata}
        return model


def services() -> list[str]:
    """Every service of botocore's."""
    return sorted(Loader().list_available_services("service-2"))


def of_service(service: str, *, every: bool = False, only: frozenset[str] | None = None) -> Iterator[Captured | Lost]:
    """Each operation of a service (or `only` these), by each protocol that it lists, and for S3 in both styles."""
    metadata = Loader().load_service_model(service, "service-2")["metadata"]
    for protocol in metadata.get("protocols", [metadata["protocol"]]):
        for style in ("virtual", PATH_STYLE) if service == "s3" else ("",):
            client = _client(service, protocol, style)
            with _stages() as stages:
                for name in client.meta.service_model.operation_names:
                    if only is None or name in only:
                        yield _capture(client, service, name, protocol, style, every, stages)


def _client(service: str, protocol: str, style: str) -> Any:
    session = botocore.session.Session()
    loader = _OneProtocol()
    loader.protocol = protocol
    session.register_component("data_loader", loader)
    session.set_credentials(ACCESS_KEY_ID, SECRET, TOKEN)
    config = Config(
        retries={"total_max_attempts": 1},
        s3={"addressing_style": style} if style else None,
        parameter_validation=False,
        disable_request_compression=True,
        inject_host_prefix=True,
    )
    return session.create_client(service, REGION, config=config, endpoint_url=HOSTS.get(service))


@contextmanager
def _stages() -> Iterator[dict[str, str]]:
    """What the last signature was computed from."""
    found: dict[str, str] = {}
    string_to_sign, signature = SigV4Auth.string_to_sign, SigV4Auth.signature

    def record_string(self: Any, request: Any, canonical: str) -> Any:
        found["canonical"] = canonical
        found["string"] = string_to_sign(self, request, canonical)
        return found["string"]

    def record_signature(self: Any, string: str, request: Any) -> Any:
        found["signature"] = signature(self, string, request)
        return found["signature"]

    with patch.multiple(SigV4Auth, string_to_sign=record_string, signature=record_signature):
        yield found


def _capture(
    client: Any, service: str, name: str, protocol: str, style: str, every: bool, stages: dict[str, str]
) -> Captured | Lost:
    model = client.meta.service_model.operation_model(name)
    given = parameters(model.input_shape, service, every)
    taken: list[Any] = []

    def take(request: Any, **_: Any) -> None:
        taken.append(request)
        raise _Taken

    stages.clear()
    client.meta.events.register_first("before-send", take, unique_id="corpus")
    try:
        client._make_api_call(name, given)
    except _Taken:
        pass
    except Exception as error:
        if not taken:
            return Lost(service, name, protocol, f"{type(error).__name__}: {error}"[:120])
    finally:
        client.meta.events.unregister("before-send", unique_id="corpus")
    request = taken[0]
    headers = tuple((key.lower(), _text(value)) for key, value in request.headers.items())
    authorization = dict(headers).get("authorization", "none")
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        return Lost(service, name, protocol, f"signed by {authorization.split()[0]}")
    url = urlsplit(request.url)
    return Captured(
        service, name, protocol, style, given, url.netloc, request.method,
        (url.path or "/") + (f"?{url.query}" if url.query else ""),
        (("host", url.netloc), *headers), _body(request.body),
        stages["canonical"], stages["string"], stages["signature"],
    )  # fmt: skip


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _body(body: Any) -> bytes | None:
    """The body where it is in memory: what is streamed is a payload, which nobody looks into."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, (bytes, bytearray)) else None

"""What the settings say of what leaves the gateway about itself: the audit log's sinks, its own log, traces. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gateway.core.audit_formats import Format
from gateway.core.profile_document import DURATION, parse_duration
from gateway.core.sinks import TURN, SinkKind, SinkRules
from gateway.wire.messages import NAME
from gateway.wire.strict import text

_DAYS = r"[1-9][0-9]{0,4}d"
_HOST = r"(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}"


@dataclass(frozen=True, slots=True)
class SinkDocument:
    """`[audit.sinks.NAME]`. Which of the fields a sink needs, and which it may have, is decided by its `kind`."""

    kind: str = text(pattern="|".join(SinkKind))
    format: str = text(pattern="|".join(Format), default=Format.RAW.value)
    required: bool = False
    within: str = text(pattern=DURATION, default="60s")
    path: str | None = text(longest=4096, default=None)
    address: str | None = text(pattern=_HOST, default=None)
    ca: str | None = text(longest=4096, default=None)
    certificate: str | None = text(longest=4096, default=None)
    bucket: str | None = text(pattern=r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", default=None)
    prefix: str = text(pattern=r"[A-Za-z0-9!_.*'()/=-]*", default="")
    region: str | None = text(pattern=r"[a-z]{2}(-[a-z]+)+-[0-9]", default=None)
    key: str | None = text(pattern=NAME, default=None)
    lock: str = text(pattern="compliance|governance|none", default="compliance")
    retention: str = text(pattern=_DAYS, default="400d")


@dataclass(frozen=True, slots=True)
class LogDocument:
    """`[log]`: the gateway's own log, on standard error."""

    format: str = text(pattern="json|text", default="json")
    level: str = text(pattern="debug|info|warning|error", default="info")


@dataclass(frozen=True, slots=True)
class TracesDocument:
    """`[traces]`: where to, by OTLP over HTTP. None: nowhere, and nothing of OpenTelemetry is loaded."""

    endpoint: str | None = text(pattern=r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?", longest=512, default=None)


_NEEDS = {
    SinkKind.FILE: ({"path"}, set[str]()),
    SinkKind.SYSLOG: (set[str](), {"path", "address", "ca", "certificate"}),
    SinkKind.S3: ({"bucket", "key"}, {"prefix", "region", "lock", "retention"}),
}
_EVERY = {"kind", "format", "required", "within"}


def sinks(written: Mapping[str, SinkDocument], region: str) -> tuple[SinkRules, ...]:
    """The sinks; `region` is where a bucket is that does not say, and `retention` is a time by now."""
    return tuple(
        SinkRules(
            name,
            SinkKind(each.kind),
            Format(each.format),
            each.required,
            parse_duration(each.within),
            {field: getattr(each, field) for field in _FIELDS}
            | {"region": each.region or region, "retention": timedelta(days=int(each.retention[:-1]))},
        )
        for name, each in written.items()
    )


_FIELDS = ("path", "address", "ca", "certificate", "bucket", "prefix", "key", "lock")


def sink_faults(written: Mapping[str, SinkDocument]) -> list[str]:
    """What cannot be, as `key: what is wrong`."""
    faults = []
    for name, each in written.items():
        place = f"audit.sinks.{ascii(name)[1:-1][:64]}"
        if not re.fullmatch(NAME, name):
            faults.append(f"{place}: a name has a-z, 0-9 and -")
        needed, allowed = _NEEDS[SinkKind(each.kind)]
        plain = SinkDocument(each.kind)
        said = {field for field in SinkDocument.__slots__ if _value(each, field) != _value(plain, field)} - _EVERY
        faults += [f"{place}.{field}: is missing" for field in sorted(needed - said)]
        faults += [f"{place}.{field}: not with kind {each.kind!r}" for field in sorted(said - needed - allowed)]
        if each.kind == SinkKind.SYSLOG and (each.path is None) == (each.address is None):
            faults.append(f"{place}: name either an address or the path of a socket")
        for field in ("path", "ca", "certificate"):
            if (value := _value(each, field)) and not value.startswith("/"):
                faults.append(f"{place}.{field}: must begin with /")
        if parse_duration(each.within) < TURN + timedelta(seconds=10):
            faults.append(f"{place}.within: at least 30s")
    return faults


def _value(document: SinkDocument, field: str) -> Any:
    return getattr(document, field)

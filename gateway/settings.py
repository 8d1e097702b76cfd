"""Settings: a TOML document and `TRUSTED_GATEWAY_*` variables in, a frozen value out. Pure; all faults at once."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, get_origin, get_type_hints
from urllib.parse import urlsplit

from gateway.core.approval import ApprovalRules, ApprovalsDocument
from gateway.core.errors import SettingsError
from gateway.core.outlet_document import LogDocument, SinkDocument, TracesDocument, sink_faults, sinks
from gateway.core.profile_document import DURATION, parse_duration
from gateway.core.provider_document import OidcDocument
from gateway.core.reconcile_document import ReconcileDocument, ReconcileRules
from gateway.core.rolesanywhere import OURS, AnchorFiles
from gateway.core.sign_in import Provider
from gateway.core.sinks import SinkRules
from gateway.wire.messages import NAME
from gateway.wire.strict import Malformed, decode, integer, text

_PRIVATE = [
    ipaddress.ip_network(each)
    for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
PREFIX = "TRUSTED_GATEWAY_"
# Read by the command line itself: where the settings file and the operator's directory are.
NOT_SETTINGS = frozenset({"TRUSTED_GATEWAY_SETTINGS", "TRUSTED_GATEWAY_OPERATOR_DIR"})
DAYS = r"[1-9][0-9]{0,4}d"
ADDRESS = r"(\[[0-9a-f:]+\]|[0-9.]+):[0-9]{1,5}"


@dataclass(frozen=True, slots=True)
class Listen:
    """Addresses. `instance` and `admin` speak mutual TLS, `public` plain HTTP (CRL, CA); `local` must be loopback."""

    instance: str = text(pattern=ADDRESS, default="0.0.0.0:8443")  # instances come from elsewhere
    admin: str = text(pattern=ADDRESS, default="127.0.0.1:8444")
    public: str = text(pattern=ADDRESS, default="0.0.0.0:8080")  # and fetch the CRL
    local: str = text(pattern=ADDRESS, default="127.0.0.1:8081")


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """`identity_certificates` is a directory of AWS's regional RSA-2048 certificates, `<region>.pem`; `cache` one for
    what is compiled of AWS's service models, which only its own user may write to. `private_networks` are those in
    which AWS's hosts may be, beside public addresses: of a VPC's interface endpoints.
    """

    identity_certificates: str = text(longest=4096, default="/etc/trusted-gateway/aws")
    region: str = text(pattern=r"[a-z]{2}(-[a-z]+)+-[0-9]", default="us-east-1")
    private_networks: tuple[str, ...] = text(default=())
    cache: str = text(longest=4096, default="/var/cache/trusted-gateway")
    endpoint: str | None = text(pattern=r"https?://[A-Za-z0-9.:\[\]-]+/?", default=None)


@dataclass(frozen=True, slots=True)
class Enrollment:
    """`failures_per_minute` may one address make, `failures_per_minute_overall` all together (in each worker)."""

    certificate_life: str = text(pattern=DURATION, default="24h")
    failures_per_minute: int = integer(low=1, high=1_000_000, default=30)
    failures_per_minute_overall: int = integer(low=1, high=1_000_000, default=600)


@dataclass(frozen=True, slots=True)
class ServersSettings:
    """`regions` are those in which operators see and launch machines; none: `aws.region` alone."""

    regions: tuple[str, ...] = text(pattern=r"[a-z]{2}(-[a-z]+)+-[0-9]", default=())


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A CA that is not ours: `certificates` (its roots) and `crl` are PEM files, `profiles` what its machines may have.

    `region`, of AWS, is where its machines count as being; None: `aws.region`.
    """

    certificates: str = text(longest=4096)
    profiles: tuple[str, ...] = text(pattern=NAME)
    crl: str | None = text(longest=4096, default=None)
    region: str | None = text(pattern=r"[a-z]{2}(-[a-z]+)+-[0-9]", default=None)


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """`keep` says what `audit archive` leaves in the store. Of the refusals of one source, `refusals_per_minute` have
    records of their own, the others are counted.
    """

    checkpoint_every: str = text(pattern=DURATION, default="5m")
    keep: str = text(pattern=DAYS, default="400d")
    refusals_per_minute: int = integer(low=1, high=1_000_000, default=60)
    sinks: Mapping[str, SinkDocument] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """The settings file, field by field."""

    names: tuple[str, ...]
    store: str = text(longest=4096, default="sqlite:////var/lib/trusted-gateway/gateway.db")
    environment: str = text(pattern="production|development", default="production")
    trust_domain: str = text(pattern=r"[a-z0-9._-]{1,255}", default="trusted-gateway.internal")
    node: str = text(pattern=r"[a-z0-9][a-z0-9-]{0,62}", default="node-1")
    workers: int = integer(low=1, high=64, default=2)
    operator_requests_per_minute: int = integer(low=1, high=1_000_000, default=600)
    listen: Listen = field(default_factory=Listen)
    aws: AwsSettings = field(default_factory=AwsSettings)
    enrollment: Enrollment = field(default_factory=Enrollment)
    servers: ServersSettings = field(default_factory=ServersSettings)
    reconcile: ReconcileDocument = field(default_factory=ReconcileDocument)
    approvals: ApprovalsDocument = field(default_factory=ApprovalsDocument)
    oidc: OidcDocument = field(default_factory=OidcDocument)
    audit: AuditSettings = field(default_factory=AuditSettings)
    log: LogDocument = field(default_factory=LogDocument)
    traces: TracesDocument = field(default_factory=TracesDocument)
    trust_anchors: Mapping[str, TrustAnchor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """Valid settings. `names` are the server certificate's DNS names and addresses; the first is in the CRL's URL."""

    names: tuple[str, ...]
    store: str
    development: bool
    trust_domain: str
    node: str
    workers: int
    operator_requests_per_minute: int
    listen: Listen
    identity_certificates: Path
    aws_region: str
    aws_cache: Path
    aws_private_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    aws_endpoint: str | None
    certificate_life: timedelta
    failures_per_minute: int
    failures_per_minute_overall: int
    trust_anchors: tuple[AnchorFiles, ...]
    reconcile: ReconcileRules
    approvals: ApprovalRules
    provider: Provider | None
    server_regions: tuple[str, ...]
    checkpoint_every: timedelta
    audit_keep: timedelta
    refusals_per_minute: int
    sinks: tuple[SinkRules, ...]
    log: LogDocument
    traces: TracesDocument

    @property
    def server_names(self) -> tuple[str, ...]:
        """What the server certificate is for: `names`, and the admin listener's address if it is one of its own."""
        host, _, _ = self.listen.admin.rpartition(":")
        address = ipaddress.ip_address(host.strip("[]"))
        return self.names if address.is_unspecified else tuple(dict.fromkeys([*self.names, str(address)]))

    @property
    def admin_address(self) -> str:
        """Where operators find the admin listener from this host, `host:port`."""
        host, _, port = self.listen.admin.rpartition(":")
        anywhere = ipaddress.ip_address(host.strip("[]")).is_unspecified
        return f"{self._first_host}:{port}" if anywhere else self.listen.admin

    @property
    def instance_address(self) -> str:
        """Where instances find the instance listener, `host:port`."""
        return f"{self._first_host}:{self.listen.instance.rpartition(':')[2]}"

    @property
    def _first_host(self) -> str:
        return f"[{self.names[0]}]" if ":" in self.names[0] else self.names[0]

    @property
    def crl_url(self) -> str:
        """Where the CRL is served: the distribution point in instances' certificates."""
        return f"http://{self._first_host}:{self.listen.public.rpartition(':')[2]}/crl/instances.crl"


def read(document: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Merge, decode and check. A variable such as TRUSTED_GATEWAY_LISTEN_ADMIN wins over `listen.admin`.

    Raises SettingsError, which names every fault.
    """
    merged, faults = _with_environment(document, environ)
    try:
        written = decode(Document, merged)
    except Malformed as malformed:
        raise SettingsError(*faults, *malformed.faults) from None
    faults += _faults(written)
    if faults:
        raise SettingsError(*faults)
    return Settings(
        names=written.names,
        store=written.store,
        development=written.environment == "development",
        trust_domain=written.trust_domain,
        node=written.node,
        workers=written.workers,
        operator_requests_per_minute=written.operator_requests_per_minute,
        listen=written.listen,
        identity_certificates=Path(written.aws.identity_certificates),
        aws_region=written.aws.region,
        aws_cache=Path(written.aws.cache),
        aws_private_networks=tuple(ipaddress.ip_network(each) for each in written.aws.private_networks),
        aws_endpoint=written.aws.endpoint,
        certificate_life=parse_duration(written.enrollment.certificate_life),
        failures_per_minute=written.enrollment.failures_per_minute,
        failures_per_minute_overall=written.enrollment.failures_per_minute_overall,
        checkpoint_every=parse_duration(written.audit.checkpoint_every),
        audit_keep=timedelta(days=int(written.audit.keep[:-1])),
        refusals_per_minute=written.audit.refusals_per_minute,
        sinks=sinks(written.audit.sinks, written.aws.region),
        log=written.log,
        traces=written.traces,
        trust_anchors=tuple(
            AnchorFiles(name, each.certificates, each.crl, each.profiles, each.region or written.aws.region)
            for name, each in written.trust_anchors.items()
        ),
        reconcile=written.reconcile.rules,
        approvals=written.approvals.rules,
        provider=written.oidc.provider,
        server_regions=tuple(sorted(set(written.servers.regions))) or (written.aws.region,),
    )


def variables() -> dict[str, tuple[str, ...]]:
    """Every variable and the setting that it replaces, as a path. Tables with names of the operator's have none."""
    out: dict[str, tuple[str, ...]] = {}

    def walk(cls: Any, path: tuple[str, ...]) -> None:
        hints = get_type_hints(cls)
        for item in fields(cls):
            here = (*path, item.name)
            if is_dataclass(hints[item.name]):
                walk(hints[item.name], here)
            elif get_origin(hints[item.name]) is not Mapping:
                out[PREFIX + "_".join(here).upper()] = here

    walk(Document, ())
    return out


def _with_environment(document: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in document.items()}
    known = variables()
    unknown = {name for name in environ if name.startswith(PREFIX) and name not in known} - NOT_SETTINGS
    faults = [f"{name}: is not known here" for name in sorted(unknown) if not name.startswith(PREFIX + "AGENT_")]
    for name in sorted(known.keys() & environ.keys()):
        *outer, last = known[name]
        place = merged
        for step in outer:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                break
        else:
            value = environ[name]
            is_count = last in ("workers", "count") or "_per_minute" in last
            is_list = last in ("names", "regions", "permissions", "addresses")
            place[last] = value.split(",") if is_list else int(value) if is_count and value.isdecimal() else value
    return merged, faults


def _faults(written: Document) -> list[str]:
    faults = []
    if not written.names:
        faults.append("names: name at least one DNS name or address of this gateway")
    faults += [f"names: {name[:64]!r} is no DNS name and no address" for name in written.names if not _is_name(name)]
    for item in fields(Listen):
        address = getattr(written.listen, item.name)
        host, _, port = address.rpartition(":")
        try:
            parsed = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            faults.append(f"listen.{item.name}: {host!r} is no address")
            continue
        if int(port) > 65535:
            faults.append(f"listen.{item.name}: {port} is no port")
        if item.name == "local" and not parsed.is_loopback:
            faults.append("listen.local: must be a loopback address")
    if not re.fullmatch(r"sqlite:///.+", written.store):
        faults.append("store: must be a SQLite URL, sqlite:///PATH")
    if written.aws.endpoint and written.environment != "development":
        faults.append('aws.endpoint: only with environment = "development": production speaks to AWS itself')
    if written.aws.endpoint and urlsplit(written.aws.endpoint).scheme == "http":
        host_name = urlsplit(written.aws.endpoint).hostname or ""
        if host_name != "localhost" and not _is_loopback(host_name):
            faults.append("aws.endpoint: plain HTTP only to a loopback address")
    collector = urlsplit(written.traces.endpoint or "https://")
    if collector.scheme == "http" and collector.hostname != "localhost" and not _is_loopback(collector.hostname or ""):
        faults.append("traces.endpoint: plain HTTP only to a loopback address")
    for i, network in enumerate(written.aws.private_networks):
        if not _is_private(network):
            faults.append(f"aws.private_networks[{i}]: must be a private network like 10.0.0.0/16, without host bits")
    faults += [*written.approvals.faults, *written.oidc.faults, *written.reconcile.faults]
    life = parse_duration(written.enrollment.certificate_life)
    if not timedelta(seconds=2) <= life <= timedelta(hours=24):
        faults.append("enrollment.certificate_life: from 2s to 24h")
    faults += sink_faults(written.audit.sinks)
    for name, anchor in written.trust_anchors.items():
        if not re.fullmatch(NAME, name) or name == OURS:
            faults.append(f"trust_anchors.{ascii(name)[1:-1][:64]}: a name has a-z, 0-9 and -, and is not {OURS!r}")
        if not anchor.profiles:
            faults.append(f"trust_anchors.{ascii(name)[1:-1][:64]}.profiles: name at least one profile")
    return faults


def _is_name(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        label = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
        return len(name) <= 253 and re.fullmatch(rf"{label}(\.{label})*", name) is not None


def _is_private(written: str) -> bool:
    """RFC 1918, 4193 and 6598: not loopback, nor where the metadata service is."""
    try:
        network = ipaddress.ip_network(written)
    except ValueError:
        return False
    return any(network.version == each.version and network.subnet_of(each) for each in _PRIVATE)  # type: ignore[arg-type]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""The agent's settings: a TOML file, `TRUSTED_GATEWAY_AGENT_*` and flags become one frozen, valid `Settings`.

Where the gateway is, is not among them: that is in user-data, and nowhere else.
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from agent.errors import Fault
from gateway.wire.messages import NAME
from gateway.wire.strict import Malformed, decode, text

FILE = Path("/etc/trusted-gateway/agent.toml")
PREFIX = "TRUSTED_GATEWAY_AGENT_"
_EC2_IPV6 = ipaddress.ip_address("fd00:ec2::254")
_LABEL = r"[A-Za-z0-9-]{1,63}"  # of a host name; what is longer or empty, a socket refuses with another error
_HINT = "The settings are listed in agent/README.md."


@dataclass(frozen=True, slots=True)
class Address:
    """Host (a name, or an IP address without brackets) and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, written: str, port: int | None = None) -> "Address":
        """Read `host:port`, `[v6]:port`, or either without a port when `port` is given. Raises ValueError."""
        match = re.fullmatch(rf"(?:\[([0-9A-Fa-f:.]+)\]|({_LABEL}(?:\.{_LABEL})*))(?::([0-9]{{1,5}}))?", written)
        if match is None:
            raise ValueError("must be host:port, an IPv6 address in brackets")
        v6, name, digits = match.groups()
        number = int(digits) if digits else port
        if number is None or number > 65535:
            raise ValueError("must have a port from 0 to 65535")
        return cls(str(ipaddress.IPv6Address(v6)) if v6 else name, number)


@dataclass(frozen=True, slots=True)
class Settings:
    """`in_memory`: key and certificate touch no disk. `metadata`, `listen`, `imds` and `calls` are on this machine, by
    construction. `imds` None: there is no look-alike; `imds_grant` None: the only grant that its user may have there;
    `imds_passthrough`: path prefixes without a version, each of which may be passed on. `calls` None: no endpoint.
    """

    state_dir: Path
    run_dir: Path
    metadata: Address
    listen: Address
    in_memory: bool
    imds: Address | None
    imds_grant: str | None
    imds_passthrough: tuple[str, ...]
    calls: Address | None


@dataclass(frozen=True, slots=True)
class _Written:
    state_dir: str = text(pattern=r"/.*", longest=4096, default="/var/lib/trusted-gateway-agent")
    run_dir: str = text(pattern=r"/.*", longest=4096, default="/run/trusted-gateway-agent")
    metadata: str = text(pattern=r"http://[^/@?#\s]+/?", default="http://169.254.169.254/")
    listen: str = text(default="127.0.0.1:9911")
    key_storage: str = text(pattern="disk|memory", default="disk")
    imds: str = text(default="127.0.0.1:9912")
    imds_grant: str = text(pattern=rf"\*|{NAME}", default="*")
    imds_passthrough: tuple[str, ...] = text(default=())
    calls: str = text(default="127.0.0.1:9913")


KEYS = tuple(field.name for field in fields(_Written))


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, str]) -> Settings:
    """Read the settings; flags win over the environment, and that over the file. Raises Fault that names every fault.

    `file` None means `FILE` if it exists. `environ` may hold anything; only names that begin with `PREFIX` count.
    """
    ours = {k.removeprefix(PREFIX).lower(): v for k, v in environ.items() if k.startswith(PREFIX)}
    ours.pop("config", None)  # where the file is; `main` reads it
    return parse({**_read(file), **ours, **flags})


def parse(written: Mapping[str, object]) -> Settings:
    """The settings of plain values. Raises Fault `settings_invalid` that names every fault."""
    faults: list[str] = []
    given = dict(written)
    if isinstance(prefixes := given.get("imds_passthrough"), str):  # from the environment or a flag
        given["imds_passthrough"] = prefixes.replace(",", " ").split() if prefixes != "off" else []
    try:
        plain = decode(_Written, given)
    except Malformed as error:
        faults += error.faults
        wrong = {re.split(r"[:\[]", fault)[0] for fault in faults}
        good = {
            k: given[k]
            for k in ("listen", "metadata", "imds", "imds_passthrough", "calls")
            if k in given and k not in wrong
        }
        plain = decode(_Written, good)
    listen = _loopback("listen", plain.listen, faults)
    imds = _loopback("imds", plain.imds, faults) if plain.imds != "off" else None
    calls = _loopback("calls", plain.calls, faults) if plain.calls != "off" else None
    taken = [listen]
    for key, address in (("imds", imds), ("calls", calls)):
        if address and address.port and address in taken:
            faults.append(f"{key}: must be an address of its own")
        taken.append(address)
    for prefix in plain.imds_passthrough:
        if not may_be_passed_on(prefix):
            faults.append(f"imds_passthrough: {prefix!a} cannot be passed on")
    metadata = _address("metadata", plain.metadata.removeprefix("http://").rstrip("/"), 80, faults)
    if metadata and not _on_this_machine(metadata.host):
        faults.append("metadata: must be a link-local or loopback address")
    if faults or not listen or not metadata:
        raise Fault("settings_invalid", "settings: " + "; ".join(faults), _HINT)
    return Settings(
        state_dir=Path(plain.state_dir),
        run_dir=Path(plain.run_dir),
        metadata=metadata,
        listen=listen,
        in_memory=plain.key_storage == "memory",
        imds=imds,
        imds_grant=None if plain.imds_grant == "*" else plain.imds_grant,
        imds_passthrough=plain.imds_passthrough,
        calls=calls,
    )


def may_be_passed_on(path: str) -> bool:
    """Whether a path (or a prefix of paths) of the metadata service may be handed to programs.

    Never what holds credentials (`iam/`, `identity-credentials/`) or the ticket (user-data).
    """
    if not re.fullmatch(r"(?:[A-Za-z0-9_:-][A-Za-z0-9._:-]*/)+(?:[A-Za-z0-9_:-][A-Za-z0-9._:-]*)?", path):
        return False
    first, second, *_ = path.split("/")
    if first == "meta-data":
        return second.lower() not in ("iam", "identity-credentials")
    return (first, second) == ("dynamic", "instance-identity")


def _read(file: Path | None) -> dict[str, object]:
    try:
        return tomllib.loads((file or FILE).read_text("utf-8"))
    except FileNotFoundError:
        if file is None:
            return {}
        raise Fault("settings_unreadable", f"{file} is not there", _HINT) from None
    except OSError as error:
        raise Fault("settings_unreadable", f"{file or FILE}: {error.strerror}", _HINT) from None
    except ValueError:  # TOMLDecodeError, UnicodeDecodeError
        raise Fault("settings_unreadable", f"{file or FILE} is not TOML in UTF-8", _HINT) from None


def _address(key: str, written: str, port: int | None, faults: list[str]) -> Address | None:
    try:
        return Address.parse(written, port)
    except ValueError as error:
        faults.append(f"{key}: {error}")
        return None


def _loopback(key: str, written: str, faults: list[str]) -> Address | None:
    address = _address(key, written, None, faults)
    if address and not _on_loopback(address.host):
        faults.append(f"{key}: must be a loopback address, 127.0.0.1 or [::1]")
    return address


def _on_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _on_this_machine(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local or address == _EC2_IPV6

"""What the agent keeps: one state at a time, in one file, replaced by one rename. So key and certificate always match.

nothing → Pending (a key, before it is first presented) → Identity (key and certificate) → Revoked (no key at all)
"""

import base64
import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Protocol

from agent.errors import Fault
from agent.files import open_directory, read_private, replace_file
from gateway.wire.messages import BASE64, parse_instant
from gateway.wire.strict import Malformed, decode, loads, text

FILE = "state.json"
LONGEST_NOTE = 13_000_000
"""No note is longer, in bytes: six checkpoints (agent/witness.py), each with as long a statement as there may be."""
_SHA256 = r"[0-9a-f]{64}"
_ASIDE = ".unreadable"


@dataclass(frozen=True, slots=True, repr=False)
class Pending:
    """A key (base64 PKCS#8 DER) that has no certificate yet. Kept, so that a retry after a crash shows the same key."""

    key: str = text(pattern=BASE64, longest=1024)


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """An enrolled key and all that is needed to use it: no secret but `key`. `root` is base64 DER; times are RFC 3339.

    `issued` is this machine's clock when the certificate came. `ticket_sha256` is of the ticket that enrolled the key.
    """

    gateway: str = text()
    root: str = text(pattern=BASE64, longest=8192)
    key: str = text(pattern=BASE64, longest=1024)
    certificate: str = text(longest=8192)
    issuer: str = text(longest=8192)
    instance: str = text(longest=512)
    profile: str = text()
    issued: str = text(longest=32)
    not_after: str = text(longest=32)
    ticket_sha256: str | None = text(pattern=_SHA256, default=None)

    def __post_init__(self) -> None:
        """Raises ValueError when a time is none."""
        parse_instant(self.issued), parse_instant(self.not_after)

    @property
    def root_der(self) -> bytes:
        """The root certificate, in the very bytes that were compared with the pin."""
        return base64.b64decode(self.root)

    @property
    def root_sha256(self) -> str:
        """The pin: lower-case hex SHA-256 of the root certificate in DER."""
        return hashlib.sha256(self.root_der).hexdigest()

    @property
    def begins(self) -> datetime:
        """`issued` as a moment."""
        return parse_instant(self.issued)

    @property
    def ends(self) -> datetime:
        """`not_after` as a moment."""
        return parse_instant(self.not_after)

    @property
    def bundle(self) -> str:
        """Certificate, issuer and private key in PEM (RFC 7468), as TLS wants them. A secret."""
        key = base64.encodebytes(base64.b64decode(self.key)).decode()
        return f"{self.certificate}\n{self.issuer}\n-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n"


@dataclass(frozen=True, slots=True)
class Revoked:
    """The instance is revoked, and its key is gone. Only another ticket than the one remembered brings it back."""

    at: str = text(longest=32)
    ticket_sha256: str | None = text(pattern=_SHA256, default=None)


State = Pending | Identity | Revoked
_KINDS: dict[str, type[State]] = {"pending": Pending, "enrolled": Identity, "revoked": Revoked}
_WORDS = {kind: word for word, kind in _KINDS.items()}


class Store(Protocol):
    """Where the state is kept."""

    def load(self) -> State | None: ...
    def save(self, state: State) -> None: ...
    def noted(self, name: str) -> bytes | None: ...
    def note(self, name: str, content: bytes) -> None: ...
    def set_aside(self, name: str) -> None: ...
    def aside(self, name: str) -> bool: ...


class Memory:
    """The state for as long as the process lives, and nowhere else."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._notes: dict[str, bytes] = {}

    def load(self) -> State | None:
        """The state last saved."""
        return self._state

    def save(self, state: State) -> None:
        """Replace the state."""
        self._state = state

    def noted(self, name: str) -> bytes | None:
        """The note last made under this name."""
        return self._notes.get(name)

    def note(self, name: str, content: bytes) -> None:
        """Keep something that is no secret."""
        self._notes[name] = content

    def set_aside(self, name: str) -> None:
        """Keep the note under another name, so that there is none under this one."""
        self._notes[name + _ASIDE] = self._notes.pop(name)

    def aside(self, name: str) -> bool:
        """Whether a note of this name was set aside."""
        return name + _ASIDE in self._notes


class Directory:
    """The state in a directory that belongs to this user alone, and to this process while it is open.

    Every later step goes through the descriptor of the directory that was checked. Raises Fault `state_dir_refused`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = open_directory(path, closed_to_others=0o077)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise Fault("state_dir_in_use", f"{path} is in use by another agent", "Stop that one first.") from None

    def load(self) -> State | None:
        """The state last saved, None when there is none. Raises Fault `state_refused`."""
        try:
            raw = read_private(FILE, self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused(error.strerror or "cannot be read") from None
        try:
            plain = loads(raw)
            return decode(_KINDS[plain.pop("state")], plain)
        except (Malformed, ValueError, KeyError, AttributeError, TypeError):  # names nothing: the file holds a key
            raise self._refused("is not what an agent writes") from None

    def save(self, state: State) -> None:
        """Replace the state, durably, all or nothing. Raises Fault `write_failed`."""
        plain = {"state": _WORDS[type(state)], **{k: v for k, v in asdict(state).items() if v is not None}}
        replace_file(FILE, json.dumps(plain).encode(), self._fd)

    def noted(self, name: str) -> bytes | None:
        """The note last made under this name. Raises OSError when there is one, and it cannot be read."""
        try:
            return read_private(name, self._fd, longest=LONGEST_NOTE)
        except FileNotFoundError:
            return None

    def note(self, name: str, content: bytes) -> None:
        """Keep something that is no secret in a file of its own. Raises Fault `write_failed`."""
        if len(content) > LONGEST_NOTE:  # it could not be read again: the old one is worth more
            raise Fault("write_failed", f"{name} would be too long")
        replace_file(name, content, self._fd)

    def set_aside(self, name: str) -> None:
        """Keep the note under another name, which no other note has, so that there is none here. Raises OSError."""
        there = os.listdir(self._fd)
        free = next(each for n in count(1) if (each := f"{name}{_ASIDE}.{n}") not in there)
        os.rename(name, free, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def aside(self, name: str) -> bool:
        """Whether a note of this name was set aside, and is still there. Raises OSError."""
        return any(each.startswith(name + _ASIDE) for each in os.listdir(self._fd))

    def close(self) -> None:
        """Let another agent have the directory."""
        fd, self._fd = self._fd, -1  # a late save must not hit whatever has this number next
        os.close(fd)

    def _refused(self, why: str) -> Fault:
        hint = "If it cannot be mended, move it away and ask an operator for a new ticket."
        return Fault("state_refused", f"{self._path / FILE}: {why}", hint)

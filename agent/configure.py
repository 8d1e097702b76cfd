"""`configure`: a profile in the AWS configuration file whose credentials come from the agent by `credential_process`.

Everything else in the file stays as it is, byte for byte. AWS SDKs and Tools Reference: "Shared config and credentials
files", "Process credential provider".
"""

import os
import re
import shlex
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import Fault
from agent.files import LONGEST

MARK = "# written by 'trusted-gateway-agent configure', which takes it away again with --remove"
_OURS = re.compile(r"(credential_process|region|endpoint_url) = ")
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile to be written. `endpoint` is where its calls go, None for AWS.

    Raises Fault `profile_refused` when the file could not hold it.
    """

    name: str
    command: str
    region: str | None = None
    endpoint: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or not _REGION.fullmatch(self.region or "none"):
            raise Fault("profile_refused", "A profile or region has letters, digits, dots and dashes", "Name another.")

    @property
    def lines(self) -> list[str]:
        """What stands in the file, with line ends."""
        region = [f"region = {self.region}\n"] if self.region else []
        endpoint = [f"endpoint_url = {self.endpoint}\n"] if self.endpoint else []
        return [f"{header(self.name)}\n", f"{MARK}\n", f"credential_process = {self.command}\n", *region, *endpoint]


def command(python: str, script: str, socket: str, grant: str) -> str:
    """The command line that every SDK takes apart alike: Python's shlex (botocore), a shell (Go, JavaScript).

    Raises Fault `profile_refused` for paths that no configuration file can hold.
    """
    words = [python, "-I", "-S", script, socket, grant]
    if any(not word.isprintable() or re.search(r"[#;\"\\]", word) for word in words):
        raise Fault("profile_refused", "A path holds a mark that AWS configuration files give a meaning to", "Move it.")
    return " ".join(shlex.quote(word) for word in words)


def header(name: str) -> str:
    """How the section of a profile begins."""
    return "[default]" if name == "default" else f"[profile {name}]"


def written(text: str, profile: Profile, *, replace: bool = False) -> str:
    """The file with this profile in it. Raises Fault `profile_exists` when another of that name was not ours."""
    lines = text.splitlines(keepends=True)
    found = _section(lines, profile.name)
    if found is None:
        ending = "" if not text or text.endswith("\n") else "\n"
        return text + ending + ("\n" if text else "") + "".join(profile.lines)
    begin, end = found
    ours = _ours(lines, begin, end)
    if ours is None and not replace:
        raise Fault(
            "profile_exists", f"{header(profile.name)} is there, and was not written by this command",
            "Name another with --profile, or have it replaced with --replace.",
        )  # fmt: skip
    return "".join(lines[:begin] + profile.lines + lines[ours if ours is not None else _tail(lines, begin, end) :])


def removed(text: str, name: str) -> str:
    """The file without this profile, if it was ours. Raises Fault `profile_exists` when it was not."""
    lines = text.splitlines(keepends=True)
    found = _section(lines, name)
    if found is None:
        return text
    begin, end = found
    ours = _ours(lines, begin, end)
    if ours is None:
        raise Fault("profile_exists", f"{header(name)} was not written by this command", "Remove it by hand.")
    if any(line.strip() and not line.lstrip().startswith(("#", ";")) for line in lines[ours:end]):
        return "".join(lines[: begin + 1] + lines[ours:])  # somebody added to it
    blank = begin > 0 and not lines[begin - 1].strip()
    return "".join(lines[: begin - blank] + lines[ours:])


def change(path: Path, text: str) -> None:
    """Replace the file whole, keeping its mode and group; 0600 if it is new. A link of the user's own is followed.

    Raises Fault `file_refused` for a file that is not the user's own, and `write_failed`.
    """
    try:
        target = _target(path)
        target.parent.mkdir(0o700, parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                with suppress(FileNotFoundError):
                    old = target.stat()
                    if old.st_gid != os.fstat(file.fileno()).st_gid:
                        os.fchown(file.fileno(), -1, old.st_gid)
                    os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, target)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
    except OSError as error:
        raise Fault("write_failed", f"{path} cannot be written: {error.strerror}", "Check its directory.") from None


def read(path: Path) -> str:
    """The file's text, empty if there is none. Raises Fault `file_refused`."""
    try:
        raw = _target(path).read_bytes()
        if len(raw) > LONGEST * 16:
            raise Fault("file_refused", f"{path} is too long to be a configuration file")
        return raw.decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise Fault("file_refused", f"{path} is not in UTF-8") from None
    except OSError as error:
        raise Fault("file_refused", f"{path}: {error.strerror}") from None


def _target(path: Path) -> Path:
    """The regular file that is meant. Raises Fault and OSError."""
    with suppress(FileNotFoundError):
        if path.is_symlink() and path.lstat().st_uid != os.geteuid():
            raise Fault("file_refused", f"{path} is a link of another user", "Name another with AWS_CONFIG_FILE.")
        path = path.resolve()
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise Fault("file_refused", f"{path} is not a file of your own", "Run this as the user whose file it is.")
    return path


def _section(lines: list[str], name: str) -> tuple[int, int] | None:
    """Where the section begins, and where the next one does. Raises Fault when it is there twice."""
    begins = [i for i, line in enumerate(lines) if line.startswith("[")]
    mine = [i for i in begins if _name(lines[i]) == name]
    if not mine:
        return None
    if len(mine) > 1:
        raise Fault("profile_exists", f"{header(name)} is there more than once", "Mend the file by hand.")
    return mine[0], next((i for i in begins if i > mine[0]), len(lines))


def _name(line: str) -> str | None:
    """The profile whose section begins with this line."""
    inside = line[1:].partition("]")[0].replace('"', " ").replace("'", " ").split()
    if inside == ["default"]:
        return "default"
    return inside[1] if len(inside) == 2 and inside[0] == "profile" else None


def _ours(lines: list[str], begin: int, end: int) -> int | None:
    """Where what this command wrote ends; None when the section is not ours."""
    if begin + 1 >= end or lines[begin + 1].rstrip("\r\n") != MARK:
        return None
    at = begin + 2
    while at < end and _OURS.match(lines[at]):
        at += 1
    return at


def _tail(lines: list[str], begin: int, end: int) -> int:
    """Where blank lines and comments begin that stand before the next section, and belong to it."""
    while end > begin + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith(("#", ";"))):
        end -= 1
    return end

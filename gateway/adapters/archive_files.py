"""An archive of the audit log in a directory: gzip files of records, and one manifest for each time.

A manifest `checkpoint-N.json` names its files, and holds the checkpoint up to which they go, as it was signed. The
records of the next manifest go on from there. A record is a line `hash line`, as `audit export` writes it. A file has
its name only when it is whole and on disk; whatever was broken off is written over by the next time.
"""

import fcntl
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.core.errors import Refusal

_MODE = 0o600


class ArchiveFiles:
    """`ports.ArchivePlace`. What the file system refuses is a Refusal `archive_unusable`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def held(self) -> Iterator[None]:
        """Under a lock on the directory, which ends with the process."""
        with _failing():
            opened = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Refusal("archive_unusable", "Another 'audit archive' is at work in it") from None
            yield
        finally:
            os.close(opened)

    def write(self, name: str, rows: Iterable[tuple[str, str]]) -> None:
        """A file of rows `(line, hash)`."""
        with _failing():
            draft = self._directory / f".{name}.new"
            with open(draft, "wb", opener=_private) as file:
                with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                    for line, hash_ in rows:
                        packed.write(f"{hash_} {line}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            self._keep(draft, name)

    def conclude(self, number: int, manifest: Mapping[str, Any]) -> None:
        """The manifest, which makes its files count."""
        name = _manifest(number)
        with _failing():
            draft = self._directory / f".{name}.new"
            with open(draft, "wb", opener=_private) as file:
                file.write(json.dumps(manifest, sort_keys=True).encode())
                file.flush()
                os.fsync(file.fileno())
            self._keep(draft, name)

    def withdraw(self, number: int) -> None:
        """Remove the manifests behind this checkpoint: what they announced did not come about."""
        with _failing():
            for path in self._directory.glob("checkpoint-*.json"):
                if path.name > _manifest(number):
                    path.unlink()

    def manifests(self) -> list[Mapping[str, Any]]:
        """All of them, the oldest first."""
        with _failing():
            return [json.loads(path.read_text()) for path in sorted(self._directory.glob("checkpoint-*.json"))]

    def rows(self, name: str) -> Iterator[tuple[str, str]]:
        """What is in a file, read as it is asked for."""
        if Path(name).name != name:
            raise Refusal("archive_unusable", "A manifest names a file elsewhere")
        with _failing(), gzip.open(self._directory / name, "rt", encoding="utf-8", errors="replace") as file:
            for row in file:
                hash_, _, line = row.rstrip("\n").partition(" ")
                yield line, hash_

    def _keep(self, draft: Path, name: str) -> None:
        draft.replace(self._directory / name)
        opened = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else "it is not whole"
        raise Refusal("archive_unusable", f"The archive: {said}") from None


def _manifest(number: int) -> str:
    return f"checkpoint-{number:012d}.json"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, _MODE)

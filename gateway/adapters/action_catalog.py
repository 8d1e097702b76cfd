"""The action index on disk: package data in gateway/catalog, a file a service, read when it is first called."""

import json
import re
from functools import cache
from pathlib import Path

from gateway.core.actions.actions_model import ServiceActions, nothing_known, service_actions

FOLDER = Path(__file__).parents[1] / "catalog" / "services"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


def action_names(prefix: str, file: Path = FOLDER.parent / "actions.txt") -> frozenset[str] | None:
    """The names of all actions of an IAM prefix, in lower case; None for a prefix that AWS does not have."""
    return _names(file).get(prefix.lower())


@cache
def _names(file: Path) -> dict[str, frozenset[str]]:
    lines = (line.lower().split() for line in file.read_text().splitlines())
    return {prefix: frozenset(names) for prefix, *names in lines}


class Catalog:
    """The index, service by service, each read once. OSError, ValueError: the package is broken."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._known: dict[str, ServiceActions] = {}

    def of(self, service: str) -> ServiceActions:
        """The actions of a service by botocore's name; of one that has no file, none is known."""
        found = self._known.get(service)
        if found is None:
            found = self._known.setdefault(service, self._read(service))
        return found

    def _read(self, service: str) -> ServiceActions:
        path = self._folder / f"{service}.json"
        if not _NAME.fullmatch(service) or not path.is_file():
            return nothing_known(service)
        return service_actions(service, json.loads(path.read_text()))

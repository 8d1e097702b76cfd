"""The models of AWS's services, out of botocore: compiled when first asked for, and kept on disk as a build product.

The cache is a convenience: it holds nothing that botocore's own files do not say, and what is not exactly as we wrote
it is made anew. But who could write there could tell us that a deletion is a listing: so it must be ours alone.
"""

import gzip
import hashlib
import json
import os
import re
import stat
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar

import botocore
from botocore.loaders import Loader

from gateway.core.actions.compilation import FORM, compiled, signing_name
from gateway.core.actions.service import ServiceModel

KEPT: Final = 64
"""Signing names whose models stay in memory: an account uses some ten, and there are hundreds."""

_HEAD: Final = 8192  # bytes of a model's file, in which its metadata are
_METADATA = re.compile(r'\{\s*(?:"version"\s*:\s*"[0-9.]+"\s*,\s*)?"metadata"\s*:\s*')

T = TypeVar("T")


class Models:
    """The models by signing name. Safe for threads; each model is compiled once, as long as it is kept."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = None if cache is None else _Files(cache, f"{botocore.__version__}-{FORM}")
        self._lock = Lock()
        self._models: OrderedDict[str, tuple[ServiceModel, ...]] = OrderedDict()
        self._names: dict[str, list[str]] | None = None

    def of(self, signing_name: str) -> tuple[ServiceModel, ...]:
        """Every service that is signed for by this name, none for an unknown one."""
        if (known := self._models.get(signing_name)) is not None:
            return known
        with self._lock:
            if (models := self._models.get(signing_name)) is None:
                models = tuple(map(self._model, self._services().get(signing_name, ())))
                if models:
                    self._models[signing_name] = models
                if len(self._models) > KEPT:
                    self._models.popitem(last=False)
            return models

    def signing_names(self) -> dict[str, tuple[str, ...]]:
        """Every signing name, and botocore's names of its services."""
        with self._lock:
            return {name: tuple(services) for name, services in sorted(self._services().items())}

    def _services(self) -> dict[str, list[str]]:
        if self._names is None:
            self._names = self._made("index", _index, _checked_index)
        return self._names

    def _model(self, service: str) -> ServiceModel:
        return self._made(f"{service}.service", lambda: compiled(service, _loaded(service)), ServiceModel.of)

    def _made(self, name: str, make: Callable[[], Any], read: Callable[[Any], T]) -> T:
        """What `read` makes of the cached value, or of a new one where that cannot be had."""
        if self._cache is not None and (value := self._cache.load(name)) is not None:
            with suppress(LookupError, TypeError, ValueError):
                return read(value)
        value = make()
        if self._cache is not None:
            self._cache.save(name, value)
        return read(value)


def _loader() -> Any:
    # Only botocore's own models: what somebody keeps in ~/.aws/models describes other services than AWS runs. And one
    # for each time, for it keeps all that it ever read.
    return Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)


def _loaded(service: str) -> Any:
    return _loader().load_service_model(service, "service-2")


def _index() -> dict[str, list[str]]:
    loader = _loader()
    index: dict[str, list[str]] = {}
    for service in sorted(loader.list_available_services("service-2")):
        version = loader.determine_latest_version(service, "service-2")
        path = Path(Loader.BUILTIN_DATA_PATH, service, version, "service-2.json.gz")
        index.setdefault(signing_name(_metadata(path) or _loaded(service)["metadata"]), []).append(service)
    return index


def _metadata(path: Path) -> Any:
    """The metadata in a model's file, where they come first; None where they do not. A tenth of the time."""
    with suppress(OSError, ValueError), gzip.open(path) as file:
        head = file.read(_HEAD).decode("utf-8", errors="ignore")
        if start := _METADATA.match(head):
            return json.JSONDecoder().raw_decode(head, start.end())[0]
    return None


def _checked_index(value: Any) -> dict[str, list[str]]:
    if not isinstance(value, dict) or not all(isinstance(services, list) for services in value.values()):
        raise TypeError("no index")
    return value


class _Files:
    """JSON values in files of one folder: each with its SHA-256 before it, so that what is torn is noticed."""

    def __init__(self, folder: Path, version: str) -> None:
        self._folder = folder
        self._version = version

    def load(self, name: str) -> Any:
        """The value of this name; None when it is not there, not whole, or not ours."""
        with suppress(OSError, ValueError):
            if _is_ours(self._folder):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(self._path(name), flags), "rb") as file:
                    digest, _, raw = file.read().partition(b"\n")
                if digest == hashlib.sha256(raw).hexdigest().encode():
                    return json.loads(raw)
        return None

    def save(self, name: str, value: Any) -> None:
        """Write the value, whole or not at all; without a word when that cannot be."""
        raw = json.dumps(value, separators=(",", ":")).encode()
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(self._folder):
                return
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                file.write(hashlib.sha256(raw).hexdigest().encode() + b"\n" + raw)
            os.replace(file.name, self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}-{self._version}.json"


def _is_ours(folder: Path) -> bool:
    """Is this a folder (no link to one) of our own, in which nobody else may write?"""
    state = os.lstat(folder)
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & 0o022

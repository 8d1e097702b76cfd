"""Runs gunicorn in this process with a service that is built already: unsealed once, before the fork."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from gateway.web.server.service import Service

# In a wheel the configuration lies in the package; in a checkout, where a host's own copy begins: deploy/.
_PLACES = (Path(__file__).parents[2] / "gunicorn.conf.py", Path(__file__).parents[3] / "deploy" / "gunicorn.conf.py")


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, service: Service, binds: Sequence[str], workers: int, log: Mapping[str, Any]) -> None:
        self._service = service
        self._binds = list(binds)
        self._workers = workers
        self._log = dict(log)
        super().__init__()

    def load_config(self) -> None:
        path = next(place for place in _PLACES if place.is_file())
        values: dict[str, Any] = {}
        exec(compile(path.read_text(), str(path), "exec"), values)  # noqa: S102  # our own file, as gunicorn does it
        for name, value in values.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)
        self.cfg.set("bind", self._binds)
        self.cfg.set("workers", self._workers)
        self.cfg.set("logconfig_dict", self._log)

    def load(self) -> Service:
        return self._service


def run(service: Service, binds: Sequence[str], workers: int, log: Mapping[str, Any]) -> None:
    """Serve until SIGTERM. `binds` are `host:port`, in the order of the listeners; `log` is for dictConfig."""
    _Application(service, binds, workers, log).run()

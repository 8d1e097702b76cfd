"""Runs the toy under gunicorn: `python -m tests.gateway.web_server.launch JSON`, with the sockets already bound."""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from gateway.web.server import slots
from gateway.web.server.service import Limits, Request, Response
from tests.gateway.web_server.toy import Service, Toy, listener


class Application(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """What `gateway.web.server.run` does for the gateway, with settings that suit a test.

    A worker writes its process id to the file `slot-N` in `folder` when it starts, `slow_start` seconds after its fork.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._folder = options.pop("folder")
        self._slow_start = options.pop("slow_start", 0)
        super().__init__()

    def load_config(self) -> None:
        settings = {
            "bind": [f"fd://{fd}" for fd in self._options.pop("sockets")],
            "worker_class": "gateway.web.server.worker.LoopWorker",
            "preload_app": True,
            "pre_fork": slots.pre_fork,
            "post_fork": self._wait,
            "control_socket_disable": True,
            **self._options,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def _wait(self, arbiter: Any, worker: Any) -> None:
        if self._slow_start:
            print("slow start of a worker", flush=True)
            time.sleep(self._slow_start)

    def load(self) -> Service:
        toy = Toy()

        def started(slot: int) -> None:
            Path(self._folder, f"slot-{slot}").write_text(str(os.getpid()))

        def stuck(request: Request) -> Response:
            while True:
                pass

        toy.inline["GET", "/stuck"] = stuck
        return Service([listener(toy)], Limits(settle=timedelta(seconds=0.3)), started)


if __name__ == "__main__":
    Application(json.loads(sys.argv[1])).run()

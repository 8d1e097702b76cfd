"""The gunicorn worker class. gunicorn binds, forks, watches and restarts; the worker does all the rest.

gunicorn must be given: this worker class, an application that loads a `Service`, `slots.pre_fork` as its hook, and
`preload_app`, so that the TLS contexts are made before the fork and sessions resume in every worker. TLS is each
listener's own: gunicorn gets no certificate.
"""

import asyncio
import faulthandler
import os
import signal
from functools import partial
from typing import Any

import uvloop
from gunicorn.workers.base import Worker

from gateway.web.server.server import Server
from gateway.web.server.service import Service

_HEARTBEAT = 1.0  # seconds
_ENDING = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


class LoopWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """One process, one event loop. SIGTERM drains, SIGINT and SIGQUIT break off; it ends when its parent has ended."""

    slot: int  # set by slots.pre_fork

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Called by gunicorn before it forks. Raises RuntimeError for settings that this worker cannot honour."""
        if not cfg.preload_app:
            raise RuntimeError("preload_app must be set: the service is built before the fork")
        if cfg.is_ssl:
            raise RuntimeError("certfile and keyfile must not be set: TLS belongs to the service's listeners")
        # At first a worker has gunicorn's handlers, which would swallow the one signal that it is ever sent to end. So
        # that is held back until the loop runs.
        hold, release = (
            partial(signal.pthread_sigmask, how, _ENDING) for how in (signal.SIG_BLOCK, signal.SIG_UNBLOCK)
        )
        os.register_at_fork(before=hold, after_in_parent=release)

    def init_process(self) -> None:
        """Called by gunicorn in the new process; returns when the worker is done."""
        self._loop = uvloop.new_event_loop()
        self._told_to_stop = asyncio.Event()
        grace = self.cfg.graceful_timeout  # then gunicorn kills
        self._seconds_to_drain = max(grace - 2, grace / 2)
        super().init_process()

    def init_signals(self) -> None:
        """Called by gunicorn: signals are the loop's from here on."""
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        signal.signal(signal.SIGABRT, _give_up)  # gunicorn found the loop stuck: not a signal for the loop
        signal.signal(signal.SIGWINCH, signal.SIG_IGN)
        self._loop.add_signal_handler(signal.SIGTERM, self._told_to_stop.set)
        self._loop.add_signal_handler(signal.SIGQUIT, self._break_off)
        self._loop.add_signal_handler(signal.SIGINT, self._break_off)
        self._loop.add_signal_handler(signal.SIGUSR1, self.log.reopen_files)

    def load_wsgi(self) -> None:
        """Called by gunicorn. An exception here is a failure to boot: it stops gunicorn, which else would fork on."""
        super().load_wsgi()
        self._service: Service = self.wsgi
        self._service.start(self.slot)
        self._server = Server(self._loop, self._service, [each.sock for each in self.sockets])

    def run(self) -> None:
        """Called by gunicorn: serve until told to stop."""
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._service.stop()
            self._loop.close()

    async def _serve(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)  # the loop sees no signal that comes before it runs
        self._server.open()
        self._beat()
        await self._told_to_stop.wait()
        await self._server.drain(self._seconds_to_drain)

    def _beat(self) -> None:
        self.notify()
        if os.getppid() != self.ppid:
            self._told_to_stop.set()
        self._loop.call_later(_HEARTBEAT, self._beat)

    def _break_off(self) -> None:
        self._seconds_to_drain = 0
        self._server.hurry()
        self._told_to_stop.set()


def _give_up(*_: object) -> None:
    faulthandler.dump_traceback()  # where it is stuck, on stderr: names and lines, no values
    os._exit(1)  # SystemExit would end in a callback of the loop

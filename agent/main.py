"""`trusted-gateway-agent`: the command line. The only module that reads the environment, the clock and randomness."""

import argparse
import logging
import os
import random
import secrets
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from agent import launch, settings
from agent.errors import Fault
from agent.serve import rundir
from agent.settings import Settings
from agent.world import World

_FLAGS = {
    "state_dir": "where key and certificate are kept",
    "run_dir": "where the token files are, and by which 'exec' and 'status' find the agent",
    "metadata": "the metadata service, http://host[:port]/",
    "listen": "the loopback address to serve on; port 0 takes a free one",
    "key_storage": "'disk', or 'memory': then no key outlives the process",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status. What goes wrong is told in two lines on stderr, never by a traceback."""
    try:
        options = _parser().parse_args(arguments)
        return int(options.command(options))
    except Fault as fault:
        print(f"error: {fault}", file=sys.stderr)
        if fault.hint:
            print(f"hint: {fault.hint}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    from agent import process  # what only the daemon needs is not loaded by `exec` and `status`
    from agent.daemon import Daemon

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    locked = process.harden()
    daemon = Daemon(_settings(options), _world(), notify_socket=os.environ.get("NOTIFY_SOCKET"), memory_locked=locked)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.ended.set())
    try:
        daemon.start()
        daemon.ended.wait()
    finally:
        daemon.close()
    return 1 if daemon.failed else 0


def _exec(options: argparse.Namespace) -> int:
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        raise Fault("usage", "exec needs a command", "For example: trusted-gateway-agent exec -- aws s3 ls")
    environment = launch.environment(os.environ, rundir.find(_settings(options).run_dir), options.grant)
    try:
        os.execvpe(words[0], words, environment)  # noqa: S606  # the user's own command, without a shell
    except OSError as error:
        raise Fault("command_failed", f"{words[0]}: {error.strerror}", "Check the command's name and mode.") from None


def _status(options: argparse.Namespace) -> int:
    raw, status = launch.ask_status(rundir.find(_settings(options).run_dir))
    print(raw.decode() if options.json else launch.describe(status))
    return 0 if status.healthy else 1


def _settings(options: argparse.Namespace) -> Settings:
    flags = {key: value for key in _FLAGS if (value := getattr(options, key)) is not None}
    file = options.config or os.environ.get(settings.PREFIX + "CONFIG")
    return settings.load(Path(file) if file else None, os.environ, flags)


def _world() -> World:
    chance = random.SystemRandom()
    return World(now=lambda: datetime.now(UTC), random=chance.random, token=lambda: secrets.token_urlsafe(32))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As every other error."""
        print(f"error: {message} (usage)", file=sys.stderr)
        print(f"hint: See '{self.prog} --help'.", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument("--config", metavar="FILE", help=f"settings file (default {settings.FILE}, if it is there)")
    for key, explanation in _FLAGS.items():
        common.add_argument("--" + key.replace("_", "-"), metavar="VALUE", help=explanation)
    parser = _Parser(prog="trusted-gateway-agent", description="AWS credentials for a machine that holds no key.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", parents=[common], help="enrol, stay enrolled, and serve credentials on loopback")
    run.set_defaults(command=_run)

    execute = commands.add_parser("exec", parents=[common], help="run a command with credentials from the agent")
    execute.add_argument("--grant", metavar="NAME", help="which grant (default: the only one)")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")
    execute.set_defaults(command=_exec)

    status = commands.add_parser("status", parents=[common], help="say how the agent is; exit status 0 when healthy")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(command=_status)
    return parser


if __name__ == "__main__":
    sys.exit(main())

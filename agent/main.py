"""`trusted-gateway-agent`: the command line. With `entry`, all that reads the environment, the clock and randomness."""

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

from agent import ask, configure, launch, settings
from agent.errors import Fault
from agent.settings import Settings
from agent.world import World

_FLAGS = {
    "state_dir": "where key and certificate are kept",
    "run_dir": "where the socket and the token files are, and by which the other commands find the agent",
    "metadata": "the metadata service, http://host[:port]/",
    "listen": "the loopback address to serve on; port 0 takes a free one",
    "key_storage": "'disk', or 'memory': then no key outlives the process",
    "imds": "the loopback address of the metadata look-alike, or 'off'",
    "imds_grant": "the grant that the look-alike gives; '*' is the only one that its user may have there",
    "calls": "the loopback address of the endpoint for calls, or 'off'",
    "imds_passthrough": "what the look-alike takes from the real service: paths, with commas, or 'off'",
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
    from agent import process  # what only the daemon needs is not loaded by the other commands
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
    told = _told(_settings(options).run_dir, options.grant, options.via)
    environment = launch.environment(os.environ, told, keep_files=options.keep_files)
    try:
        os.execvpe(words[0], words, environment)  # noqa: S606  # the user's own command, without a shell
    except OSError as error:
        raise Fault("command_failed", f"{words[0]}: {error.strerror}", "Check the command's name and mode.") from None


def _env(options: argparse.Namespace) -> int:
    print(launch.exports(_told(_settings(options).run_dir, options.grant, "container" if options.endpoint else "keys")))
    return 0


def _told(run_dir: Path, grant: str | None, via: str) -> dict[str, str]:
    if via != "keys":
        where = launch.find(run_dir, grant)
        return launch.variables(where, via) | launch.endpoint(where)
    keys = launch.credentials(run_dir, grant)
    if not launch.are_dummy(keys):
        return keys
    return keys | launch.endpoint(launch.find(run_dir, grant))


def _credential_process(options: argparse.Namespace) -> int:
    """Its quick form is in `entry`."""
    return ask.credentials(options.socket or str(_settings(options).run_dir / launch.SOCKET), options.grant or "")


def _configure(options: argparse.Namespace) -> int:
    path = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    if options.remove:
        if not (name := options.profile or options.grant):
            raise Fault("usage", "--remove needs --profile or --grant", "The profile's name, without 'profile'.")
        text = configure.read(path)
        if (after := configure.removed(text, name)) != text:
            configure.change(path, after)
        return 0
    where = launch.find(_settings(options).run_dir, options.grant)
    if where.process is None:
        raise Fault("access_denied", where.why_not.get("process", where.grant), "Another way may do: see 'status'.")
    command = configure.command(sys.executable, str(Path(ask.__file__).absolute()), where.process, where.grant)
    endpoint = launch.endpoint(where).get(launch.ENDPOINT)
    profile = configure.Profile(options.profile or where.grant, command, options.region, endpoint)
    if options.print:
        print("".join(profile.lines), end="")
        return 0
    text = configure.read(path)
    if (after := configure.written(text, profile, replace=options.replace)) != text:
        configure.change(path, after)
    return 0


def _status(options: argparse.Namespace) -> int:
    raw, status = launch.ask_status(_settings(options).run_dir)
    print(raw.decode() if options.json else launch.describe(status))
    return 0 if status.healthy else 1


def _witness(options: argparse.Namespace) -> int:
    from agent import witness

    print(witness.held(_settings(options).state_dir))
    return 0


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
    a_grant = _Parser(add_help=False)
    a_grant.add_argument("--grant", metavar="NAME", help="which grant (default: the only one)")
    parser = _Parser(prog="trusted-gateway-agent", description="AWS credentials for a machine that holds no key.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", parents=[common], help="enrol, stay enrolled, and serve credentials on loopback")
    run.set_defaults(command=_run)

    execute = commands.add_parser(
        "exec", parents=[common, a_grant], help="run a command with credentials from the agent"
    )
    execute.add_argument(
        "--via", choices=launch.VIAS, default="container", help="how the command is told (default: %(default)s)"
    )
    execute.add_argument("--keep-files", action="store_true", help="leave ~/.aws/credentials in sight, which may win")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")
    execute.set_defaults(command=_exec)

    env = commands.add_parser("env", parents=[common, a_grant], help="print credentials as lines for a shell")
    env.add_argument("--endpoint", action="store_true", help="print where to ask for them instead")
    env.set_defaults(command=_env)

    process = commands.add_parser(
        "credential-process", parents=[common, a_grant], help="print credentials for an SDK's credential_process"
    )
    process.add_argument("--socket", metavar="PATH", help="the agent's socket (default: in its run directory)")
    process.set_defaults(command=_credential_process)

    config = commands.add_parser(
        "configure", parents=[common, a_grant], help="write a profile into the AWS configuration file"
    )
    config.add_argument("--profile", metavar="NAME", help="its name (default: the grant's)")
    config.add_argument("--region", metavar="REGION", help="its region")
    config.add_argument("--replace", action="store_true", help="even if there is another profile of that name")
    config.add_argument("--remove", action="store_true", help="take the profile away again")
    config.add_argument("--print", action="store_true", help="only print it")
    config.set_defaults(command=_configure)

    status = commands.add_parser("status", parents=[common], help="say how the agent is; exit status 0 when healthy")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(command=_status)

    witness = commands.add_parser(
        "witness", parents=[common], help="print what it has seen of the audit log, for 'audit verify --witness'"
    )
    witness.set_defaults(command=_witness)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""`trusted-gateway`: the command line, and how it fails: one line, a code, a hint, an exit status that is not 0."""

import os
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from gateway.cli import show
from gateway.cli.asking import Declined
from gateway.cli.client import OperatorDirectory
from gateway.cli.failure import Failure
from gateway.core.errors import Refusal, SettingsError
from gateway.wire.problems import PROBLEMS

# Where each command is. Its module is imported when it is asked for: what asks a gateway shall start in no time, and
# what opens the store, with SQLAlchemy, boto3 and Flask, cannot.
COMMANDS = {
    "init": "host",
    "serve": "host",
    "login": "sign_in",
    "logout": "sign_in",
    "key": "keys",
    "operator": "operators",
    "role": "roles",
    "approval": "roles",
    "profile": "profiles",
    "policy": "policies",
    "ticket": "remote",
    "instance": "remote",
    "server": "servers",
    "lease": "remote",
    "revoke": "revoke",
    "revocation": "revoke",
    "status": "remote",
    "audit": "audit",
    "completion": "completion",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = getattr(import_module(f"gateway.cli.{COMMANDS[cmd_name]}"), cmd_name)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--settings",
    type=click.Path(path_type=Path),
    default=Path("/etc/trusted-gateway/gateway.toml"),
    envvar="TRUSTED_GATEWAY_SETTINGS",
    show_default=True,
    help="The gateway's settings, for commands on its own host.",
)
@click.option(
    "--operator-dir",
    type=click.Path(path_type=Path),
    default=Path("~/.config/trusted-gateway"),
    envvar="TRUSTED_GATEWAY_OPERATOR_DIR",
    show_default=True,
    help="Your key and certificate.",
)
@click.option("--gateway", metavar="HOST:PORT", help="The admin listener, when it is not the one that init noted.")
@click.option("--approval", metavar="ID", help="Of a second person, for exactly this command.")
@click.version_option(package_name="trusted-gateway")
@click.pass_context
def cli(context: click.Context, settings: Path, operator_dir: Path, gateway: str | None, approval: str | None) -> None:
    """AWS credentials for machines that hold no key."""
    context.obj = {
        "settings": settings,
        "operator_directory": OperatorDirectory.of(operator_dir),
        "gateway": gateway,
        "approval": approval,
    }


def main() -> None:
    """The entry point. Exit status 0; 1 for what failed; 2 for a wrong command line; 130 for what was broken off; or
    what the command says of itself (3: `audit reconcile` found something).

    Never a traceback: a fault of ours is named by its place.
    """
    os.umask(0o077)  # whatever a command writes is its operator's
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that cannot show a character is no reason to fail
    try:
        status = cli.main(prog_name="trusted-gateway", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except Declined:
        _fail("stopped", "aborted", "Nothing was done.", 130)
    except click.exceptions.Abort:
        _fail("stopped", "aborted", "What was asked for may have been done: look, before you ask again.", 130)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "trusted-gateway"
        _fail(error.format_message(), "usage", f"See '{command} --help'.", 2)
    except click.ClickException as error:
        _fail(error.format_message(), "failed", "See 'trusted-gateway --help'.")
    except SettingsError as error:
        for fault in error.faults:
            click.echo(f"  {show.harmless(fault)}", err=True)
        _fail(f"the settings have {len(error.faults)} fault(s)", "settings_invalid", "See docs/settings.md.")
    except Failure as failure:
        for fault in failure.faults:
            click.echo(show.harmless(fault), err=True)
        _fail(str(failure), failure.code, failure.hint)
    except Refusal as refusal:
        problem = PROBLEMS[refusal.code]
        # A detail says more about this case than the hint that is made for all of them.
        _fail(refusal.detail or problem.title, refusal.code, "Nothing was changed." if refusal.detail else problem.hint)
    except OSError as error:
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        _fail(f"{where}{error.strerror or type(error).__name__}", "system_error", "Mend that; then try again.")
    except Exception as error:
        _fail_by_surprise(error)
    _leave(status if isinstance(status, int) else 0)


def _fail_by_surprise(error: Exception) -> NoReturn:
    """Its text may quote anything, a secret too: only what it is and where it happened is told."""
    from gateway.core.envelope import Unsealable

    if isinstance(error, Unsealable):
        _fail("the seal does not open", "seal_closed", "Is it the right passphrase, and the right store?")
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    _fail(f"{type(error).__name__} at {where}", "internal_error", "This is a fault of ours: please report this line.")


def _fail(text: str, code: str, hint: str, status: int = 1) -> NoReturn:
    show.progress()
    with suppress(OSError):  # when nobody can be told, the status still says it
        click.echo(f"error: {show.harmless(text)} ({show.harmless(code)})", err=True)
        click.echo(f"hint: {show.harmless(hint)}", err=True)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """End. What cannot be written any more (a full disk, a reader that went away) is no success, and no traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 1
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python tries again when it ends
        except AttributeError:  # it was closed before we started
            continue
    sys.exit(status)

"""`completion`: what a shell needs to complete our command lines, and names that it asks a gateway for."""

from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlencode

import click
from click.shell_completion import get_completion_class

from gateway.cli.client import Client, OperatorDirectory
from gateway.cli.failure import Failure

SECONDS = 1.0  # whoever presses Tab waits no longer
MOST = "100"
VARIABLE = "_TRUSTED_GATEWAY_COMPLETE"  # by which click knows that a shell asks

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes these commands: eval "$(trusted-gateway completion bash)"

    Names of instances, profiles, keys and the like come from the gateway, if it answers within a second.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # the choice has only those that click knows
    click.echo(kind(context.find_root().command, {}, "trusted-gateway", VARIABLE).source())


def names(path: str, rows: str, key: str) -> Complete:
    """What completes a name: `key` of each row of a list of the admin API. A gateway that does not tell is no error."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        given = context.find_root().params
        with suppress(Failure, OSError, ValueError, TypeError):
            directory = OperatorDirectory.of(given["operator_dir"])
            client = Client(directory, given["gateway"], timeout=SECONDS)
            try:
                found = client.call("GET", f"{path}?{urlencode({'limit': MOST})}")[rows]
                return [str(each[key]) for each in found if str(each[key]).startswith(begun)]
            finally:
                client.close()
        return []

    return complete


INSTANCES = names("/v1/instances", "instances", "instance_id")
SERVERS = names("/v1/servers", "servers", "instance_id")
PROFILES = names("/v1/profiles", "profiles", "name")
KEYS = names("/v1/keys", "keys", "name")
OPERATORS = names("/v1/operators", "operators", "name")
ROLES = names("/v1/roles", "roles", "name")
TICKETS = names("/v1/tickets", "tickets", "id")
LEASES = names("/v1/leases", "leases", "id")
REVOCATIONS = names("/v1/revocations", "revocations", "id")
APPROVALS = names("/v1/approvals", "approvals", "id")

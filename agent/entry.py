"""Where `trusted-gateway-agent` begins: what an SDK may start for each call is done here, before anything is loaded."""

import os
import sys

from agent import ask

SOCKET = "agent.sock"
RUN_DIR = "/run/trusted-gateway-agent"
FILE = "/etc/trusted-gateway/agent.toml"
_PREFIX = "TRUSTED_GATEWAY_AGENT_"


def main() -> int:
    """Run one command; the exit status."""
    if sys.argv[1:2] == ["credential-process"]:
        told = _understood(sys.argv[2:])
        if told:
            return ask.credentials(*told)
    from agent.main import main

    return main()


def _understood(words: list[str]) -> tuple[str, str] | None:
    """Socket and grant, if the words are just `--socket PATH` and `--grant NAME`; None for all that takes more, such as
    a settings file.
    """
    given = dict(zip(words[::2], words[1::2], strict=False))
    if len(words) != 2 * len(given) or not given.keys() <= {"--socket", "--grant"}:
        return None
    path = given.get("--socket")
    if path is None:
        environ = os.environ  # noqa: TID251  # the command line reads the environment, and this is its beginning
        run_dir = environ.get(_PREFIX + "RUN_DIR")
        if run_dir is None and (_PREFIX + "CONFIG" in environ or os.path.exists(FILE)):
            return None
        path = f"{run_dir or RUN_DIR}/{SOCKET}"
    return path, given.get("--grant", "")

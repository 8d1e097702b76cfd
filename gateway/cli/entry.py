"""The entry point. The base install is the agent alone: then the gateway's command says what is missing."""

import sys


def main() -> None:
    """Run `trusted-gateway`."""
    try:
        from gateway.cli.main import main as run
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in ("gateway", "certs"):
            raise
        sys.exit(
            f"error: this install is the agent alone, without {missing.name} (server_missing)\n"
            "hint: Install the gateway's part too: pip install 'trusted-gateway[server]'"
        )
    run()

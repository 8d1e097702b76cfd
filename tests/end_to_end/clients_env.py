"""Where clients that the project itself does not need are installed: a venv of their own."""

import os
from pathlib import Path

from deploy.demo import REPOSITORY

PYTHON = Path(os.environ.get("CLIENTS_PYTHON") or REPOSITORY / ".clients-venv" / "bin" / "python")


def clients_python() -> Path:
    """The interpreter of the clients' venv. Fails, and says what to do, when it is not there."""
    assert PYTHON.exists(), f"{PYTHON} is not there: make .clients-venv/ready"
    return PYTHON

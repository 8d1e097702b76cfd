"""Can this Python make the environments? Runs before anything is installed, so: standard library, any version."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "error: Python 3.11 or later is needed, this is %d.%d\nhint: make PYTHON=python3.12 …" % sys.version_info[:2]
    )
try:
    import ensurepip  # noqa: F401  # Debian splits it, and with it venv, into a package of its own
    import venv  # noqa: F401  # its presence is what is checked
except ImportError:
    sys.exit("error: this Python cannot make virtual environments\nhint: apt-get install python3-venv")

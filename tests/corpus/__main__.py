"""All of the corpus: `python -m tests.corpus [--every-member] [SERVICE…]`. Status 1 when something did not hold."""

import sys
import time

from gateway.adapters.aws_endpoints import Endpoints
from gateway.adapters.aws_models import Models
from tests.corpus.capture import of_service, services
from tests.corpus.tally import Tally


def main(arguments: list[str]) -> int:
    """Drive the services one after another, so that no more than one is in memory; print the tally."""
    begun = time.monotonic()
    every = "--every-member" in arguments
    tally = Tally(Models(None), Endpoints())
    for service in [each for each in arguments if each != "--every-member"] or services():
        tally.add(of_service(service, every=every))
        if sys.stderr.isatty():
            print(f"\r\x1b[K{tally.captured:6} {service}", end="", file=sys.stderr, flush=True)
    print("\n".join((*tally.lines(), *tally.faults)))
    print(f"{time.monotonic() - begun:.0f} s")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

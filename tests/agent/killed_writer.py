"""Run as a process of its own (J06): kill a writer of states at random moments, and look at what it left.

Prints, as JSON, how many rounds there were, how many left a half-written file beside the whole one, and which states.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from agent.client import Client
from agent.identity import Directory, Identity
from agent.settings import Address


def main(state_dir: Path, rounds: int) -> None:
    directory = Directory(state_dir)
    identities = [Identity(**each) for each in json.loads(sys.stdin.read())]
    directory.save(identities[0])
    cut, seen = 0, set()
    for number in range(rounds):
        child = os.fork()
        if child == 0:
            while True:
                for identity in identities:
                    directory.save(identity)
        time.sleep(random.Random(number).uniform(0.0005, 0.02))  # noqa: S311  # not for a secret
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        cut += (state_dir / ".state.json.new").exists()
        found = directory.load()
        assert isinstance(found, Identity)
        Client(Address("127.0.0.1", 1), found.root_der, found.bundle).close()  # raises unless they match
        seen.add(found.instance)
    print(json.dumps({"rounds": rounds, "cut": cut, "seen": sorted(seen)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

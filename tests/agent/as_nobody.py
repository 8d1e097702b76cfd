"""Run as a process of its own: become nobody, look like a process that started so, then run the agent.

With no words, only sleep. The interpreter may lie where nobody may read: what is imported later is imported before.
"""

import _strptime  # type: ignore[import-not-found]  # noqa: F401
import ctypes
import encodings.ascii
import encodings.idna
import encodings.latin_1  # noqa: F401  # loaded here, as root, for later
import os
import sys
import time

import cryptography.hazmat.primitives.asymmetric.ec
import cryptography.hazmat.primitives.hashes
import cryptography.x509  # noqa: F401  # loaded here, as root, for later

import agent.daemon
import agent.main
import certs.csr
import certs.keys  # noqa: F401  # loaded here, as root, for later

if __name__ == "__main__":
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which setuid() took away, and exec would have given back
    if len(sys.argv) == 1:
        print("ready", file=sys.stderr, flush=True)
        time.sleep(60)
    sys.exit(agent.main.main(sys.argv[1:]))

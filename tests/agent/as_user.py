"""Run as a process of its own: become another user, then do one thing as he would.

`as_user UID agent WORD…`, `as_user UID http METHOD URL NAME=VALUE…`, `as_user UID cat FILE`. The interpreter may lie
where he may not read: what is needed later is imported before.
"""

import encodings.idna
import encodings.latin_1  # noqa: F401  # loaded here, as root, for later
import http.client
import json
import os
import shutil  # noqa: F401  # loaded here, as root, for later: argparse wants it
import sys
from pathlib import Path
from urllib.parse import urlsplit

import agent.configure
import agent.launch  # loaded here, as root, for later
import agent.main


def main(words: list[str]) -> int:
    """The exit status; 3 when HTTP is refused, 4 when a file is."""
    uid, word, *rest = words
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    if word == "agent":
        return agent.main.main(rest)
    if word == "http":
        method, url, *headers = rest
        return ask(method, url, dict(header.split("=", 1) for header in headers))
    try:
        print(Path(rest[0]).read_text())
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 4
    return 0


def ask(method: str, url: str, headers: dict[str, str]) -> int:
    """Print the body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=5)
    connection.request(method, parts.path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    if answer.status == 200:
        print(body)
        return 0
    print(json.dumps([answer.status, body]), file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

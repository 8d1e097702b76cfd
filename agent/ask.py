"""Asks the running agent over its Unix socket. `python -I -S …/agent/ask.py SOCKET [GRANT]` is what `configure` writes
as `credential_process`: SDKs start it for a command, or for each call, so it must cost little more than Python itself.

Hence no import here but what is built in, and no class: `socket`, `json` and `argparse` cost more than all the rest.
"""

import sys
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket  # not `socket`: it costs as much as starting Python

DEADLINE = 10.0
"""Seconds for each step; the agent itself waits 5 for its first credentials."""

NOBODY = "agent_not_running"

_HINTS = {
    NOBODY: "Start it with 'trusted-gateway-agent run', or name its socket or run directory.",
    "access_denied": "The profile says who may have a grant, and by which way; see 'trusted-gateway-agent status'.",
    "grant_unknown": "Name one of yours with --grant; 'trusted-gateway-agent status' lists them.",
}
_HINT = "See 'trusted-gateway-agent status', and the agent's log."
_LONGEST_PATH = 107  # of a Unix socket: unix(7)


def ask(path: str, line: str) -> tuple[bytes, str, str]:
    """The agent's answer to a line: a document; or else nothing, a code and a message."""
    try:
        answer = _exchange(path, line.encode() + b"\n")
    except OSError as error:
        return b"", NOBODY, f"No agent answers at {path}: {error.strerror or 'it takes too long'}"
    head, _, document = answer.partition(b"\n")
    if head == b"ok" and document[-1:] == b"\n":
        return document[:-1], "", ""
    word, _, rest = head.decode("utf-8", "replace").partition(" ")
    code, _, message = rest.partition(" ")
    if word == "error" and document == b"" and message:
        return b"", code, message
    return b"", NOBODY, f"What answers at {path} is no agent, or it ended meanwhile"


def hint_for(code: str) -> str:
    """What a person may do about it."""
    return _HINTS.get(code, _HINT)


def credentials(path: str, grant: str = "") -> int:
    """Print the credentials in the form of `credential_process`; the exit status. Errors go to stderr, in two lines."""
    document, code, message = ask(path, f"credentials {grant}" if grant else "credentials")
    if code:
        printable = "".join(letter if letter.isprintable() else "?" for letter in message)
        sys.stderr.write(f"error: {printable} ({code})\nhint: {hint_for(code)}\n")
        return 1
    sys.stdout.write(document.decode() + "\n")
    return 0


def _exchange(path: str, line: bytes) -> bytes:
    directory = -1
    asking = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        asking.settimeout(DEADLINE)
        if len(path) > _LONGEST_PATH:
            import os

            directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
            path = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        asking.connect(path)
        asking.send(line)
        answer = b""
        while part := asking.recv(65536):
            answer += part
        return answer
    finally:
        asking.close()
        if directory >= 0:
            os.close(directory)


if __name__ == "__main__":
    sys.exit(credentials(*sys.argv[1:3]))

"""An operator's certificate is renewed by whichever command comes when half of its life is over, and says nothing."""

from datetime import UTC, datetime, timedelta

from gateway.cli import files
from gateway.cli.client import CERTIFICATE, Answer, Client, OperatorDirectory
from gateway.cli.failure import Failure

YOUNG = timedelta(hours=1)  # since the file was written; until then nobody looks into it, which takes its time
BRIEF = timedelta(hours=2)  # one that lives no longer came by a token, and ends with it
SECONDS = 5.0


def renewed(client: Client, directory: OperatorDirectory) -> Answer:
    """A new certificate for the same key, in place of the old one. Raises Failure."""
    made = client.call("POST", "/v1/operators/self/renew")
    files.write(directory.path / CERTIFICATE, f"{made['certificate']}{made['issuer']}")
    return made


def renew_in_time(directory: OperatorDirectory, address: str | None) -> None:
    """Renew it if it is time. Whatever is in the way: the command that was asked for has its own errors."""
    try:
        if _is_due(directory):
            client = Client(directory, address, timeout=SECONDS)
            try:
                renewed(client, directory)
            finally:
                client.close()
    except (Failure, OSError, ValueError):
        return


def _is_due(directory: OperatorDirectory) -> bool:
    now, path = datetime.now(UTC), directory.path / CERTIFICATE
    if now - datetime.fromtimestamp(path.stat().st_mtime, UTC) < YOUNG:
        return False
    from cryptography import x509

    found = x509.load_pem_x509_certificate(path.read_bytes())
    begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
    return ends - begins > BRIEF and begins + (ends - begins) / 2 <= now < ends

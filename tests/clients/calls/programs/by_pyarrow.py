"""pyarrow: the AWS SDK for C++."""

import re
from collections.abc import Callable
from typing import Any

from pyarrow import fs  # type: ignore[import-not-found]  # in .clients-venv

from tests.clients.calls.jobs import ODD_KEYS, SMALL, long, sha256
from tests.clients.calls.programs.asked import refused, serve, site


class Files:
    """The jobs."""

    def __init__(self) -> None:
        self.site = site()
        self.at = self.site.bucket
        self.s3 = fs.S3FileSystem(
            region="us-east-1", endpoint_override=self.site.address, scheme="http", allow_bucket_creation=False
        )

    def jobs(self) -> dict[str, Callable[[], Any]]:
        """By name."""
        return {
            "put": lambda: self.write("put", SMALL),
            "get": lambda: sha256(self.read(f"{self.at}/put")),
            "head": lambda: self.s3.get_file_info(f"{self.at}/put").size,
            "range": self.range,
            "copy": lambda: self.s3.copy_file(f"{self.at}/put", f"{self.at}/copy of it"),
            "list": lambda: self.paths(""),
            "missing": lambda: refused(lambda: self.read(f"{self.at}/no such key"), code),
            "refused": lambda: refused(lambda: self.read(f"{self.site.forbidden}/secret"), code),
            "odd-keys": self.odd_keys,
            "multipart": self.multipart,
            "delete": self.delete,
        }

    def write(self, key: str, body: bytes) -> None:
        with self.s3.open_output_stream(f"{self.at}/{key}") as file:
            file.write(body)

    def read(self, path: str) -> bytes:
        with self.s3.open_input_stream(path) as file:
            body: bytes = file.read()
        return body

    def range(self) -> Any:
        with self.s3.open_input_file(f"{self.at}/put") as file:
            return sha256(file.read_at(93, 7))

    def paths(self, prefix: str) -> Any:
        where = fs.FileSelector(f"{self.at}/{prefix}".rstrip("/"), recursive=True)
        return sorted(each.path for each in self.s3.get_file_info(where))

    def odd_keys(self) -> Any:
        keys = [key for key in ODD_KEYS if not key.endswith("/") and "//" not in key]  # no such paths
        for key in keys:
            self.write(f"odd/{key}", key.encode())
        return [[self.read(f"{self.at}/odd/{key}").decode() for key in keys] == keys, self.paths("odd")]

    def multipart(self) -> Any:
        self.write("long", long())
        return sha256(self.read(f"{self.at}/long"))

    def delete(self) -> Any:
        self.s3.delete_file(f"{self.at}/copy of it")
        return self.paths("")


def code(error: Exception) -> str | None:
    """What the error says of AWS's."""
    if found := re.search(r"ACCESS_DENIED|HTTP status 403", str(error)):
        return found[0]
    return type(error).__name__ if isinstance(error, OSError) else None


if __name__ == "__main__":
    serve(Files().jobs(), code)

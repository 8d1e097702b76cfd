"""s3fs, as fsspec's users call it."""

from collections.abc import Callable
from typing import Any

import s3fs  # type: ignore[import-not-found]  # in .clients-venv
from botocore.exceptions import ClientError

from tests.clients.calls.jobs import ODD_KEYS, PART, SMALL, long, sha256
from tests.clients.calls.programs.asked import over_http, refused, serve, site


class Files:
    """The jobs. Nothing is remembered between them."""

    def __init__(self) -> None:
        self.site = site()
        self.at = self.site.bucket
        self.s3 = s3fs.S3FileSystem(use_listings_cache=False, default_block_size=PART, max_concurrency=2)

    def jobs(self) -> dict[str, Callable[[], Any]]:
        """By name."""
        return {
            "put": self.put,
            "get": lambda: sha256(self.s3.cat_file(f"{self.at}/put")),
            "head": lambda: [self.s3.info(f"{self.at}/put")["size"], self.s3.metadata(f"{self.at}/put")],
            "range": lambda: sha256(self.s3.cat_file(f"{self.at}/put", start=7, end=100)),
            "copy": lambda: self.s3.copy(f"{self.at}/put", f"{self.at}/copy of it"),
            "list": lambda: self.s3.find(self.at),
            "missing": lambda: refused(lambda: self.s3.cat_file(f"{self.at}/no such key"), code),
            "refused": lambda: refused(lambda: self.s3.cat_file(f"{self.site.forbidden}/secret"), code),
            "odd-keys": self.odd_keys,
            "multipart": self.multipart,
            "presigned": self.presigned,
            "delete": self.delete,
            "delete-many": self.delete_many,
        }

    def put(self) -> Any:
        self.s3.pipe_file(f"{self.at}/put", SMALL)

    def odd_keys(self) -> Any:
        for key in ODD_KEYS:
            self.s3.pipe_file(f"{self.at}/odd/{key}", key.encode())
        keys = [key for key in ODD_KEYS if not key.endswith("/")]  # it takes that off, and reads another object
        return [
            [self.s3.cat_file(f"{self.at}/odd/{key}").decode() for key in keys] == keys,
            self.s3.find(f"{self.at}/odd"),
        ]

    def multipart(self) -> Any:
        with self.s3.open(f"{self.at}/long", "wb") as file:
            file.write(long())
        with self.s3.open(f"{self.at}/long", "rb") as file:
            return sha256(file.read())

    def presigned(self) -> Any:

        s3 = s3fs.S3FileSystem(config_kwargs={"signature_version": "s3v4"})  # else it signs as S3 did before 2014
        return over_http("GET", s3.sign(f"{self.at}/put", expiration=60))

    def delete(self) -> Any:
        self.s3.rm_file(f"{self.at}/copy of it")
        return self.s3.exists(f"{self.at}/copy of it")

    def delete_many(self) -> Any:
        self.s3.rm(f"{self.at}/odd", recursive=True)
        return self.s3.find(f"{self.at}/odd")


def code(error: Exception) -> str | None:
    """AWS's code, or the error of the operating system that s3fs makes of it."""
    if isinstance(error, ClientError):
        return str(error.response["Error"]["Code"])
    return type(error).__name__ if isinstance(error, OSError) else None


if __name__ == "__main__":
    serve(Files().jobs(), code)

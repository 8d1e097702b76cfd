"""obstore: Rust's object_store."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import obstore  # type: ignore[import-not-found]  # in .clients-venv
from obstore.exceptions import BaseError  # type: ignore[import-not-found]  # in .clients-venv
from obstore.store import S3Store  # type: ignore[import-not-found]  # in .clients-venv

from tests.clients.calls.jobs import ODD_KEYS, PART, SMALL, long, sha256
from tests.clients.calls.programs.asked import over_http, refused, serve, site


class Storage:
    """The jobs."""

    def __init__(self) -> None:
        self.site = site()
        self.s3, self.forbidden = self.store(self.site.bucket), self.store(self.site.forbidden)

    def store(self, bucket: str) -> Any:
        return S3Store(
            bucket,
            endpoint=self.site.endpoint,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
            virtual_hosted_style_request=False,
        )

    def jobs(self) -> dict[str, Callable[[], Any]]:
        """By name."""
        return {
            "put": lambda: obstore.put(self.s3, "put", SMALL)["e_tag"],
            "get": lambda: sha256(self.read("put")),
            "head": lambda: [obstore.head(self.s3, "put")[name] for name in ("size", "e_tag")],
            "range": lambda: sha256(bytes(obstore.get_range(self.s3, "put", start=7, end=100))),
            "copy": lambda: obstore.copy(self.s3, "put", "copy of it"),
            "list": lambda: self.keys(None),
            "unchanged": self.unchanged,
            "missing": lambda: refused(lambda: self.read("no such key"), code),
            "refused": lambda: refused(lambda: obstore.get(self.forbidden, "secret"), code),
            "odd-keys": self.odd_keys,
            "multipart": self.multipart,
            "presigned": self.presigned,
            "delete": self.delete,
            "delete-many": self.delete_many,
        }

    def read(self, key: str) -> bytes:
        return bytes(obstore.get(self.s3, key).bytes())

    def keys(self, prefix: str | None) -> Any:
        return sorted(each["path"] for page in obstore.list(self.s3, prefix) for each in page)

    def unchanged(self) -> Any:
        etag = obstore.head(self.s3, "put")["e_tag"]
        return refused(lambda: obstore.get(self.s3, "put", options={"if_none_match": etag}), code)

    def odd_keys(self) -> Any:
        keys = [key for key in ODD_KEYS if not key.endswith("/") and "//" not in key]  # it has no such paths
        for key in keys:
            obstore.put(self.s3, f"odd/{key}", key.encode())
        return [[self.read(f"odd/{key}").decode() for key in keys] == keys, self.keys("odd")]

    def multipart(self) -> Any:
        obstore.put(self.s3, "long", long(), use_multipart=True, chunk_size=PART)
        return sha256(self.read("long"))

    def presigned(self) -> Any:
        put, get = (obstore.sign(self.s3, method, "pre signed", timedelta(seconds=60)) for method in ("PUT", "GET"))
        return [over_http("PUT", put, SMALL), over_http("GET", get)]

    def delete(self) -> Any:
        obstore.delete(self.s3, "copy of it")
        return self.keys(None)

    def delete_many(self) -> Any:
        obstore.delete(self.s3, self.keys("odd"))
        return self.keys("odd")


def code(error: Exception) -> str | None:
    """The class of its error says which it is."""
    return type(error).__name__ if isinstance(error, BaseError | OSError) else None


if __name__ == "__main__":
    serve(Storage().jobs(), code)

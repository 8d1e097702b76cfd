"""minio-py, which signs by itself."""

import io
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from minio import Minio  # type: ignore[import-not-found]  # in .clients-venv
from minio.commonconfig import CopySource  # type: ignore[import-not-found]  # in .clients-venv
from minio.deleteobjects import DeleteObject  # type: ignore[import-not-found]  # in .clients-venv
from minio.error import S3Error  # type: ignore[import-not-found]  # in .clients-venv

from tests.clients.calls.jobs import ODD_KEYS, PART, SMALL, long, sha256
from tests.clients.calls.programs.asked import over_http, refused, serve, site


class Storage:
    """The jobs."""

    def __init__(self) -> None:
        self.site = site()
        self.bucket = self.site.bucket
        self.s3 = Minio(
            self.site.address,
            access_key=os.environ["AWS_ACCESS_KEY_ID"],
            secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            session_token=os.environ.get("AWS_SESSION_TOKEN"),
            secure=False,
            region="us-east-1",
        )

    def jobs(self) -> dict[str, Callable[[], Any]]:
        """By name."""
        return {
            "put": lambda: self.put("put", SMALL),
            "get": lambda: sha256(self.read("put")),
            "head": lambda: [
                self.s3.stat_object(self.bucket, "put").size,
                self.s3.stat_object(self.bucket, "put").etag,
            ],
            "range": lambda: sha256(self.read("put", offset=7, length=93)),
            "copy": lambda: self.s3.copy_object(self.bucket, "copy of it", CopySource(self.bucket, "put")).etag,
            "list": lambda: self.keys(""),
            "unchanged": self.unchanged,
            "missing": lambda: refused(lambda: self.read("no such key"), code),
            "refused": lambda: refused(lambda: self.read("secret", bucket=self.site.forbidden), code),
            "odd-keys": self.odd_keys,
            "multipart": self.multipart,
            "presigned": self.presigned,
            "delete": self.delete,
            "delete-many": self.delete_many,
        }

    def put(self, key: str, body: bytes) -> Any:
        return self.s3.put_object(self.bucket, key, io.BytesIO(body), len(body), part_size=PART).etag

    def read(self, key: str, bucket: str = "", **more: Any) -> bytes:
        answer = self.s3.get_object(bucket or self.bucket, key, **more)
        try:
            body: bytes = answer.read()
        finally:
            answer.close()
        return body

    def keys(self, prefix: str) -> Any:
        return [each.object_name for each in self.s3.list_objects(self.bucket, prefix, recursive=True)]

    def unchanged(self) -> Any:
        etag = self.s3.stat_object(self.bucket, "put").etag
        headers = {"If-None-Match": f'"{etag}"'}
        try:
            self.s3.get_object(self.bucket, "put", request_headers=headers).close()
        except S3Error as error:
            return error.code
        except Exception as error:  # 304 has no body, and it makes an error of its own of that
            return type(error).__name__

    def odd_keys(self) -> Any:
        for key in ODD_KEYS:
            self.put(f"odd/{key}", key.encode())
        return [[self.read(f"odd/{key}").decode() for key in ODD_KEYS] == list(ODD_KEYS), self.keys("odd/")]

    def multipart(self) -> Any:
        return [self.put("long", long()), sha256(self.read("long"))]

    def presigned(self) -> Any:
        put, get = (
            presign(self.bucket, "pre signed", timedelta(seconds=60))
            for presign in (self.s3.presigned_put_object, self.s3.presigned_get_object)
        )
        return [over_http("PUT", put, SMALL), over_http("GET", get)]

    def delete(self) -> Any:
        self.s3.remove_object(self.bucket, "copy of it")
        return refused(lambda: self.s3.stat_object(self.bucket, "copy of it"), code)

    def delete_many(self) -> Any:
        errors = self.s3.remove_objects(self.bucket, [DeleteObject(f"odd/{key}") for key in ODD_KEYS])
        return [[str(error) for error in errors], self.keys("odd/")]


def code(error: Exception) -> str | None:
    """AWS's code of an error."""
    return str(error.code) if isinstance(error, S3Error) else None


if __name__ == "__main__":
    serve(Storage().jobs(), code)

"""Freezes in sigv4.json what botocore signs, stage by stage: `python -m tests.vectors.sigv4 [SUITE]`.

The requests are those of AWS's own suite for Signature Version 4, and some of S3. SUITE is the suite's folder (in the
source distribution of botocore: tests/unit/auth/aws4_testsuite): then what is computed must be what AWS says, too.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

FILE = Path(__file__).with_suffix(".json")
STAMP = "20150830T123600Z"
ACCESS_KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOST = "example.amazonaws.com"
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUu"
    "wthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQc"
    "HNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/o"
    "LxBA=="
)
SHORT_TOKEN = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def case(
    method: str, target: str, *headers: tuple[str, str],
    body: str = "", token: str | None = None, service: str = "service",
) -> dict[str, Any]:  # fmt: skip
    """A request before it is signed. Only the suite's own service is of the suite."""
    return {
        "method": method, "target": target, "headers": [["host", HOST], *map(list, headers)],
        "body": body, "token": token, "service": service,
    }  # fmt: skip


FORM = "application/x-www-form-urlencoded"
CASES = {
    "get-header-key-duplicate": case("GET", "/", *(("my-header1", v) for v in ("value2", "value2", "value1"))),
    "get-header-value-order": case("GET", "/", *(("my-header1", f"value{n}") for n in (4, 1, 3, 2))),
    "get-header-value-trim": case("GET", "/", ("my-header1", " value1"), ("my-header2", ' "a   b   c"')),
    "get-unreserved": case("GET", f"/{UNRESERVED}"),
    "get-vanilla-empty-query-key": case("GET", "/?Param1=value1"),
    "get-vanilla-query-order-encoded": case("GET", "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1"),
    "get-vanilla-query-order-key-case": case("GET", "/?Param2=value2&Param1=value1"),
    "get-vanilla-query-order-key": case("GET", "/?Param1=value2&Param1=Value1"),
    "get-vanilla-query-order-value": case("GET", "/?Param1=value2&Param1=value1"),
    "get-vanilla-query-unreserved": case("GET", f"/?{UNRESERVED}={UNRESERVED}"),
    "get-vanilla-query": case("GET", "/"),
    "get-vanilla-with-session-token": case("GET", "/", token=SHORT_TOKEN),
    "get-vanilla": case("GET", "/"),
    "normalize-path/get-relative-relative": case("GET", "/example1/example2/../.."),
    "normalize-path/get-relative": case("GET", "/example/.."),
    "normalize-path/get-slash-dot-slash": case("GET", "/./"),
    "normalize-path/get-slash-pointless-dot": case("GET", "/./example"),
    "normalize-path/get-slash": case("GET", "//"),
    "normalize-path/get-slashes": case("GET", "//example//"),
    "normalize-path/get-special-character": case("GET", "/example/$delete"),
    "post-header-key-case": case("POST", "/"),
    "post-header-key-sort": case("POST", "/", ("my-header1", "value1")),
    "post-header-value-case": case("POST", "/", ("my-header1", "VALUE1")),
    "post-sts-token/post-sts-header-before": case("POST", "/", token=TOKEN),
    "post-vanilla-empty-query-value": case("POST", "/?Param1=value1"),
    "post-vanilla-query": case("POST", "/?Param1=value1"),
    "post-vanilla": case("POST", "/"),
    "post-x-www-form-urlencoded-parameters": case(
        "POST", "/", ("content-type", f"{FORM}; charset=utf8"), body="Param1=value1"
    ),
    "post-x-www-form-urlencoded": case("POST", "/", ("content-type", FORM), body="Param1=value1"),
    "s3-put": case("PUT", "/bucket/a%20b/%C3%BC+%2F", ("x-amz-acl", "private"), body="hello", service="s3"),
    "s3-dots": case("GET", "/bucket//a/./b/../c//", service="s3"),
    "s3-list": case("GET", "/bucket?list-type=2&prefix=a%2Fb%20c&delimiter=%2F&start-after=", service="s3"),
    "s3-versions": case("GET", "/bucket?versions=", service="s3", token=TOKEN),
    "lambda-arn": case("GET", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Af/policy", service="lambda"),
}
# Of the suite, but not what may go over HTTP/1.1 (RFC 9112): raw UTF-8 or a blank in a target, a folded header. And one
# that leaves the token out of the signature.
NOT_TAKEN = {
    "get-utf8", "get-vanilla-utf8-query", "normalize-path/get-space", "get-header-value-multiline",
    "post-sts-token/post-sts-header-after",
}  # fmt: skip


def stages(case: dict[str, Any]) -> dict[str, Any]:
    """What botocore makes of it."""
    request = AWSRequest(case["method"], f"https://{HOST}{case['target']}", data=case["body"])
    for name, value in case["headers"]:
        request.headers.add_header(name, value)
    of_s3 = case["service"] == "s3"
    signer = (S3SigV4Auth if of_s3 else SigV4Auth)(
        Credentials(ACCESS_KEY_ID, SECRET, case["token"]), case["service"], "us-east-1"
    )
    query = (S3SigV4QueryAuth if of_s3 else SigV4QueryAuth)(
        Credentials(ACCESS_KEY_ID, SECRET, case["token"]), case["service"], "us-east-1", expires=900
    )
    with mock.patch("botocore.auth.get_current_datetime", return_value=datetime(2015, 8, 30, 12, 36, tzinfo=UTC)):
        signer.add_auth(request)
        # botocore keeps one value of each name in a URL that it presigns.
        names = [part.partition("=")[0] for part in case["target"].partition("?")[2].split("&")]
        presigned = None
        if not case["body"] and len(set(names)) == len(names):
            url = AWSRequest(case["method"], f"https://{HOST}{case['target']}", headers={"host": HOST})
            query.add_auth(url)
            presigned = str(url.url).removeprefix(f"https://{HOST}")
    authorization = request.headers["Authorization"]
    del request.headers["Authorization"]  # botocore would sign it
    canonical = signer.canonical_request(request)
    return {
        **case,
        "canonical_request": canonical,
        "string_to_sign": signer.string_to_sign(request, canonical),
        "authorization": authorization,
        "presigned": presigned,
    }


def compare(suite: Path, name: str, computed: dict[str, Any]) -> None:
    """Raises SystemExit when AWS's suite says something else."""
    for stage, ending in (("canonical_request", "creq"), ("string_to_sign", "sts"), ("authorization", "authz")):
        written = (suite / name / f"{Path(name).name}.{ending}").read_text("utf-8").replace("\r", "")
        if written != computed[stage]:
            sys.exit(f"{name}: the {stage} is not the suite's:\n{written}\n\n{computed[stage]}")


def main() -> None:
    """Write the file."""
    vectors = {name: stages(each) for name, each in CASES.items()}
    if len(sys.argv) > 1:
        suite = Path(sys.argv[1])
        of_suite = {str(path.parent.relative_to(suite)) for path in suite.rglob("*.req")}
        missing = of_suite - vectors.keys() - NOT_TAKEN
        if missing:
            sys.exit(f"not here: {missing}")
        for name in sorted(of_suite & vectors.keys()):
            compare(suite, name, vectors[name])
    FILE.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()

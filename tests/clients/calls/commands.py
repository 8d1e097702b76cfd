"""Jobs as commands of command lines: the AWS CLIs, rclone, s5cmd, s3cmd and curl."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from tests.clients.calls.jobs import ODD_KEYS
from tests.clients.calls.programs.asked import Site

CONFIG = "aws.config"
ETAG = '"1a74cdb696cd85c127953f901dc52371"'  # md5sum of jobs.SMALL
Steps = Callable[[Site, str], "list[Step]"]


@dataclass(frozen=True, slots=True)
class Step:
    """A command: it succeeds, or `fails`. It shows its output, or the hash of the `file` that it wrote, or nothing."""

    words: Sequence[str]
    file: str = ""
    fails: bool = False
    quiet: bool = False


def aws(*command: str, told: Collection[str] = ()) -> Steps:
    """The AWS CLI; for the services in `told`, and for all when that is empty, it has to be told its endpoint."""

    def steps(site: Site, job: str) -> list[Step]:
        def call(service: str, *words: str, fails: bool = False, file: str = "", quiet: bool = False) -> Step:
            where = ["--endpoint-url", site.endpoint] if not told or service in told else []
            return Step([*command, *where, "--output", "json", service, *words], file, fails, quiet)

        return _AWS_JOBS[job](site, call)

    return steps


Call = Callable[..., Step]


def _s3api(site: Site, call: Call, *words: str, key: str = "put", **more: object) -> Step:
    return call("s3api", words[0], "--bucket", site.bucket, "--key", key, *words[1:], **more)


def _odd(site: Site, call: Call) -> list[Step]:
    steps = []
    for number, key in enumerate(ODD_KEYS):
        steps.append(_s3api(site, call, "put-object", "--body", "small", key=f"odd/{key}"))
        steps.append(_s3api(site, call, "get-object", f"odd{number}", key=f"odd/{key}", file=f"odd{number}"))
    return [*steps, call("s3api", "list-objects-v2", "--bucket", site.bucket, "--prefix", "odd/")]


def _many(site: Site, call: Call) -> list[Step]:
    doomed = json.dumps({"Objects": [{"Key": f"odd/{key}"} for key in ODD_KEYS]})
    return [
        call("s3api", "delete-objects", "--bucket", site.bucket, "--delete", doomed),
        call("s3api", "list-objects-v2", "--bucket", site.bucket, "--prefix", "odd/"),
    ]


def _sqs(site: Site, call: Call) -> list[Step]:
    queue = f"{site.endpoint}/111122223333/{site.name('queue')}"
    entries = json.dumps([{"Id": str(number), "MessageBody": f"message {number}"} for number in range(2)])
    return [
        call("sqs", "create-queue", "--queue-name", site.name("queue")),
        call("sqs", "send-message", "--queue-url", queue, "--message-body", "ünicode & <xml>"),
        call("sqs", "send-message-batch", "--queue-url", queue, "--entries", entries),
        call("sqs", "receive-message", "--queue-url", queue, "--max-number-of-messages", "10"),
        call("sqs", "delete-queue", "--queue-url", queue),
        call("sqs", "get-queue-url", "--queue-name", site.name("queue"), fails=True),
    ]


def _dynamodb(site: Site, call: Call) -> list[Step]:
    table = ("--table-name", site.name("table"))
    make = ("--key-schema", "AttributeName=id,KeyType=HASH", "--attribute-definitions",
            "AttributeName=id,AttributeType=S", "--billing-mode", "PAY_PER_REQUEST")  # fmt: skip
    return [
        call("dynamodb", "create-table", *table, *make),
        call("dynamodb", "put-item", *table, "--item", '{"id": {"S": "é"}, "n": {"N": "1"}}'),
        call("dynamodb", "get-item", *table, "--key", '{"id": {"S": "é"}}'),
        call("dynamodb", "delete-table", *table),
        call("dynamodb", "get-item", "--table-name", "calls-none", "--key", '{"id": {"S": "x"}}', fails=True),
    ]


def _ec2(site: Site, call: Call) -> list[Step]:
    group = site.name("group")
    named = ("--filters", f"Name=group-name,Values={group}")
    return [
        call("ec2", "create-security-group", "--group-name", group, "--description", "calls and more"),
        call("ec2", "describe-security-groups", *named),
        call("ec2", "delete-security-group", "--group-name", group),
        call("ec2", "describe-instances", "--instance-ids", "i-00000000000000000", fails=True),
    ]


def _sns(site: Site, call: Call) -> list[Step]:
    topic = f"arn:aws:sns:us-east-1:111122223333:{site.name('topic')}"
    return [
        call("sns", "create-topic", "--name", site.name("topic")),
        call("sns", "publish", "--topic-arn", topic, "--message", "ünicode & <xml>"),
        call("sns", "delete-topic", "--topic-arn", topic),
        call("sns", "publish", "--topic-arn", topic, "--message", "x", fails=True),
    ]


def _lambda(site: Site, call: Call) -> list[Step]:
    function = ("--function-name", site.name("function"))
    make = ("--runtime", "python3.11", "--handler", "one.answer", "--role", site.role, "--zip-file", "fileb://code.zip")
    return [
        call("lambda", "create-function", *function, *make),
        call("lambda", "get-function", *function),
        call("lambda", "delete-function", *function),
        call("lambda", "get-function", *function, fails=True),
    ]


_AWS_JOBS: dict[str, Callable[[Site, Call], list[Step]]] = {
    "put": lambda s, c: [_s3api(s, c, "put-object", "--body", "small", "--metadata", "who=cli")],
    "get": lambda s, c: [_s3api(s, c, "get-object", "got", file="got"), _s3api(s, c, "get-object", "got")],
    "head": lambda s, c: [_s3api(s, c, "head-object")],
    "range": lambda s, c: [_s3api(s, c, "get-object", "--range", "bytes=7-99", "got", file="got")],
    "copy": lambda s, c: [_s3api(s, c, "copy-object", "--copy-source", f"{s.bucket}/put", key="copy of it")],
    "list": lambda s, c: [c("s3api", "list-objects-v2", "--bucket", s.bucket, "--page-size", "2"),
                          c("s3", "ls", f"s3://{s.bucket}/", quiet=True)],
    "unchanged": lambda s, c: [_s3api(s, c, "get-object", "--if-none-match", ETAG, "got", fails=True)],
    "missing": lambda s, c: [_s3api(s, c, "get-object", "got", key="no such key", fails=True),
                             _s3api(s, c, "head-object", key="no such key", fails=True)],
    "refused": lambda s, c: [c("s3api", "get-object", "--bucket", s.forbidden, "--key", "secret", "got", fails=True)],
    "odd-keys": _odd,
    "multipart": lambda s, c: [c("s3", "cp", "--no-progress", "long", f"s3://{s.bucket}/long", quiet=True),
                               c("s3", "cp", "--no-progress", f"s3://{s.bucket}/long", "got", file="got"),
                               _s3api(s, c, "head-object", key="long")],
    "presigned": lambda s, c: [
        Step(["sh", "-c", 'url=$("$@") && exec curl -sSf -o got "$url"', "sh",
              *c("s3", "presign", f"s3://{s.bucket}/put").words], file="got")],
    "delete": lambda s, c: [_s3api(s, c, "delete-object", key="copy of it"),
                            _s3api(s, c, "head-object", key="copy of it", fails=True)],
    "delete-many": _many,
    "sqs": _sqs,
    "dynamodb": _dynamodb,
    "ec2": _ec2,
    "sts": lambda s, c: [c("sts", "get-caller-identity", "--query", "Account")],
    "sns": _sns,
    "lambda": _lambda,
}  # fmt: skip


def rclone(command: str) -> Steps:
    """rclone: what it does of these."""

    def steps(site: Site, job: str) -> list[Step]:
        remote = [f"--s3-endpoint={site.endpoint}", "--s3-provider=Other", "--s3-env-auth", "--s3-region=us-east-1",
                  "--s3-force-path-style=true", "--s3-upload-cutoff=5M", "--s3-chunk-size=5M",
                  "--s3-no-check-bucket", "--retries=1", "--low-level-retries=1"]  # fmt: skip

        def call(*words: str, fails: bool = False, file: str = "", quiet: bool = False) -> Step:
            # Its errors begin with the time; what went over the wire says enough.
            return Step([command, "--config=", *remote, *words], file, fails, quiet or fails)

        def at(key: str, bucket: str = site.bucket) -> str:
            return f":s3:{bucket}/{key}"

        odd = [key for key in ODD_KEYS if not key.endswith("/") and "//" not in key]  # it knows no such files
        jobs = {
            "put": [call("copyto", "small", at("put"))],
            "get": [call("copyto", at("put"), "got", file="got")],
            "head": [call("size", "--json", at("put"))],
            "range": [call("cat", "--offset", "7", "--count", "93", at("put"))],
            "copy": [call("copyto", at("put"), at("copy of it"))],
            "list": [call("lsf", "-R", "--format", "ps", at(""))],
            "missing": [call("copyto", at("no such key"), "got", fails=True)],
            "refused": [call("copyto", at("secret", site.forbidden), "got", fails=True)],
            "odd-keys": [step for key in odd for step in (
                call("copyto", "small", at(f"odd/{key}")), call("copyto", at(f"odd/{key}"), "got", file="got"))]
                + [call("lsf", "-R", at("odd/"))],
            "multipart": [call("copyto", "long", at("long")), call("copyto", at("long"), "back", file="back")],
            "presigned": [Step(["sh", "-c", 'url=$("$@") && exec curl -sSf -o got "$url"', "sh",
                                *call("link", at("put")).words], file="got")],
            "delete": [call("deletefile", at("copy of it")), call("lsf", "-R", at(""))],
            "delete-many": [call("delete", at("odd/")), call("lsf", "-R", at(""))],
        }  # fmt: skip
        return jobs[job]

    return steps


def s5cmd(*command: str) -> Steps:
    """s5cmd."""

    def steps(site: Site, job: str) -> list[Step]:
        def call(*words: str, fails: bool = False, file: str = "") -> Step:
            where = ["--retry-count", "0", "--endpoint-url", site.endpoint]
            return Step([*command, *where, *words], file, fails, quiet=fails)

        def at(key: str, bucket: str = site.bucket) -> str:
            return f"s3://{bucket}/{key}"

        # It reads * and ? as patterns, and what ends with / as a folder.
        odd = [key for key in ODD_KEYS if not set("*?") & set(key) and not key.endswith("/")]
        jobs = {
            "put": [call("cp", "--metadata", "who=s5cmd", "small", at("put"))],
            "get": [call("cp", at("put"), "got", file="got")],
            "head": [call("head", at("put"))],
            "copy": [call("cp", at("put"), at("copy of it"))],
            "list": [call("ls", "--etag", at("*"))],
            "missing": [call("cat", at("no such key"), fails=True)],
            "refused": [call("cat", at("secret", site.forbidden), fails=True)],
            "odd-keys": [step for key in odd for step in (
                call("cp", "small", at(f"odd/{key}")), call("cp", "--raw", at(f"odd/{key}"), "got", file="got"))]
                + [call("ls", at("odd/*"))],
            "multipart": [call("cp", "--part-size", "5", "long", at("long")),
                          call("cp", "--part-size", "5", at("long"), "back", file="back")],
            "presigned": [Step(["sh", "-c", 'url=$("$@") && exec curl -sSf -o got "$url"', "sh",
                                *call("presign", at("put")).words], file="got")],
            "delete": [call("rm", at("copy of it")), call("ls", at("*"))],
            "delete-many": [call("rm", at("odd/*")), call("ls", at("*"))],
        }  # fmt: skip
        return jobs[job]

    return steps


def s3cmd(*command: str) -> Steps:
    """s3cmd."""

    def steps(site: Site, job: str) -> list[Step]:
        where = ["--no-ssl", f"--host={site.address}", f"--host-bucket={site.address}", "--region=us-east-1",
                 "--multipart-chunk-size-mb=5", "--no-progress", "--max-retries=0", "--no-preserve"]  # fmt: skip

        def call(*words: str, fails: bool = False, file: str = "") -> Step:
            quiet = fails or words[0] == "put"  # it says how fast it was
            return Step([*command, "--config=/nonexistent", *where, *words], file, fails, quiet)

        def at(key: str, bucket: str = site.bucket) -> str:
            return f"s3://{bucket}/{key}"

        odd = [key for key in ODD_KEYS if not key.endswith("/")]
        jobs = {
            "put": [call("put", "small", at("put"))],
            "get": [call("get", "--force", at("put"), "got", file="got")],
            "head": [call("info", at("put"))],
            "list": [call("ls", "--recursive", "--list-md5", at(""))],
            "missing": [call("get", "--force", at("no such key"), "got", fails=True)],
            "refused": [call("get", "--force", at("secret", site.forbidden), "got", fails=True)],
            "odd-keys": [step for key in odd for step in (
                call("put", "small", at(f"odd/{key}")), call("get", "--force", at(f"odd/{key}"), "got", file="got"))]
                + [call("ls", "--recursive", at("odd/"))],
            "multipart": [call("put", "long", at("long")), call("get", "--force", at("long"), "back", file="back")],
            "delete": [call("del", at("put")), call("ls", "--recursive", at(""))],
            "delete-many": [call("del", "--recursive", "--force", at("odd/")), call("ls", "--recursive", at(""))],
        }  # fmt: skip
        return jobs[job]

    return steps


def curl(command: str) -> Steps:
    """curl, which signs what it is told, and asks for nothing by itself.

    The key is in the environment of a shell, so not among the arguments of the test; curl itself takes it by file.
    """
    script = (
        'printf \'user = "%s:%s"\\n\' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" >curl.key; '
        '[ -z "$AWS_SESSION_TOKEN" ] || '
        'printf \'header = "x-amz-security-token: %s"\\n\' "$AWS_SESSION_TOKEN" >>curl.key; '
        'exec "$0" --config curl.key --aws-sigv4 aws:amz:us-east-1:s3 --path-as-is -sS "$@"'
    )  # fmt: skip

    def steps(site: Site, job: str) -> list[Step]:
        def call(path: str, *words: str, file: str = "", fails: bool = False) -> Step:
            url = f"{site.endpoint}/{path}"
            return Step(["sh", "-c", script, command, *(() if fails else ("--fail",)), *words, url], file)

        def at(key: str) -> str:
            return f"{site.bucket}/{quote(key)}"

        empty = "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        get = ("-H", empty)
        status = ("-o", "error", "-w", "%{http_code} %{size_download}")
        unsigned = ("-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD")
        put = (*unsigned, "-T", "small")
        copy = ("-X", "PUT", "-H", f"x-amz-copy-source: /{site.bucket}/put")
        # This release signs a path as it is written; what ends with / it would give the name of the file.
        odd = [key for key in ODD_KEYS if not set("*'(),;=$!@:~+") & set(key) and not key.endswith("/")]
        jobs = {
            "put": [call(at("put"), *put, "-H", "x-amz-meta-who: curl")],
            "get": [call(at("put"), *get, "-o", "got", file="got")],
            "head": [call(at("put"), *get, "-I", "-w", "%{http_code}", "-o", "head")],
            "range": [call(at("put"), *get, "-r", "7-99", "-o", "got", file="got")],
            "copy": [call(at("copy"), *get, *copy, "-o", "copied")],
            "list": [call(f"{site.bucket}?list-type=2", *get)],
            "unchanged": [call(at("put"), *get, "-H", "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT", *status)],
            "missing": [call(at("none"), *get, *status, fails=True)],
            "refused": [call(f"{site.forbidden}/secret", *get, "-o", "error", "-w", "%{http_code}", fails=True)],
            "odd-keys": [step for key in odd for step in (
                call(at(f"odd/{key}"), *put), call(at(f"odd/{key}"), *get, "-o", "got", file="got"))],
            "delete": [call(at("copy"), *get, "-X", "DELETE"), call(at("copy"), *get, *status, fails=True)],
        }  # fmt: skip
        return jobs[job]

    return steps

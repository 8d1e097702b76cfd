"""Models out of botocore, and the cache of them: a convenience that nobody else may have written."""

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gateway.adapters import aws_models
from gateway.adapters.aws_models import KEPT, Models
from gateway.core.actions.compilation import compiled


class Counting:
    """How often a model was compiled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.compiled: list[str] = []

        def counted(name: str, model: Any) -> dict[str, Any]:
            self.compiled.append(name)
            return compiled(name, model)

        monkeypatch.setattr(aws_models, "compiled", counted)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that a cache has after SQS was asked for."""
    folder = tmp_path_factory.mktemp("models")
    Models(folder).of("sqs")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)


def test_every_service_of_a_signing_name() -> None:
    models = Models(None)
    assert [model.name for model in models.of("sqs")] == ["sqs"]
    assert [model.name for model in models.of("rds")] == ["docdb", "neptune", "rds"]
    assert models.of("no-such-name") == ()
    assert models.of("../sqs") == ()
    names = models.signing_names()
    assert names["elasticloadbalancing"] == ("elb", "elbv2")
    assert len(names) > 300


def test_the_index_is_what_whole_models_say(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Models(None).signing_names()
    assert aws_models._metadata(Path("/nonexistent")) is None
    metadata = aws_models._metadata
    # Some of them the slow way.
    monkeypatch.setattr(aws_models, "_metadata", lambda path: None if path.parts[-3] < "am" else metadata(path))
    assert Models(None).signing_names() == quick


def test_a_model_is_compiled_once(tmp_path: Path, counting: Counting) -> None:
    models = Models(tmp_path / "cache")
    threads = [Thread(target=models.of, args=("sqs",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert models.of("sqs") is models.of("sqs")
    assert Models(tmp_path / "cache").of("sqs")[0].operations.keys() == models.of("sqs")[0].operations.keys()
    assert counting.compiled == ["sqs"]
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").iterdir()} == {0o600}


def test_without_a_cache_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Models(None).of("sqs")
    assert list(tmp_path.iterdir()) == []


def test_no_more_than_some_are_kept(monkeypatch: pytest.MonkeyPatch, counting: Counting) -> None:
    monkeypatch.setattr(aws_models, "KEPT", 2)
    models = Models(None)
    for name in ("sqs", "sns", "sts", "sqs"):
        models.of(name)
    assert counting.compiled == ["sqs", "sns", "sts", "sqs"]
    assert KEPT > 2


def _torn(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def _other_operations(raw: bytes) -> bytes:
    """A deletion that is called a reading, under the old digest."""
    return raw.replace(b'"DeleteQueue"', b'"GetTheQueue"')


def _signed_nonsense(raw: bytes) -> bytes:
    body = json.dumps({"name": "sqs"}).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


@pytest.mark.parametrize(
    "spoil", [_torn, _other_operations, _signed_nonsense, lambda raw: b"", lambda raw: b"\xff\n{}"]
)
def test_what_is_not_as_we_wrote_it_is_made_anew(
    tmp_path: Path, filled: dict[str, bytes], counting: Counting, spoil: Any
) -> None:
    put(tmp_path / "cache", {name: spoil(raw) if name.startswith("sqs") else raw for name, raw in filled.items()})
    assert "DeleteQueue" in Models(tmp_path / "cache").of("sqs")[0].operations
    assert counting.compiled == ["sqs"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()} == filled


def test_a_whole_cache_is_used(tmp_path: Path, filled: dict[str, bytes], counting: Counting) -> None:
    put(tmp_path / "cache", filled)
    assert "DeleteQueue" in Models(tmp_path / "cache").of("sqs")[0].operations
    assert counting.compiled == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_cache_in_which_others_may_write_is_not_used(
    tmp_path: Path, filled: dict[str, bytes], counting: Counting, mode: int
) -> None:
    put(tmp_path / "cache", filled)
    (tmp_path / "cache").chmod(mode)
    assert Models(tmp_path / "cache").of("sqs")
    assert counting.compiled == ["sqs"]


def test_a_link_to_a_cache_is_not_used(tmp_path: Path, filled: dict[str, bytes], counting: Counting) -> None:
    put(tmp_path / "real", filled)
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    assert Models(tmp_path / "cache").of("sqs")
    assert counting.compiled == ["sqs"]


def test_a_file_that_is_a_link_is_not_used(tmp_path: Path, filled: dict[str, bytes], counting: Counting) -> None:
    put(tmp_path / "elsewhere", filled)
    (tmp_path / "cache").mkdir(mode=0o700)
    for name in filled:
        (tmp_path / "cache" / name).symlink_to(tmp_path / "elsewhere" / name)
    assert Models(tmp_path / "cache").of("sqs")
    assert counting.compiled == ["sqs"]


def test_a_cache_of_somebody_else_is_not_used(
    tmp_path: Path, filled: dict[str, bytes], counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "cache", filled)
    somebody_else = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody_else)
    assert Models(tmp_path / "cache").of("sqs")
    assert counting.compiled == ["sqs"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert Models(tmp_path / "file").of("sqs")
    assert Models(tmp_path / "file" / "deeper").of("sqs")


def test_models_in_somebodys_home_are_not_read(tmp_path: Path) -> None:
    """botocore's own loader reads ~/.aws/models, which could rename DeleteQueue."""
    model = tmp_path / ".aws" / "models" / "sqs" / "2099-01-01"
    model.mkdir(parents=True)
    (model / "service-2.json").write_text('{"metadata": {}, "operations": {}, "shapes": {}}')
    script = (
        "from botocore.loaders import Loader\n"
        "from gateway.adapters.aws_models import Models\n"
        "print(Loader().determine_latest_version('sqs', 'service-2'), Models(None).of('sqs')[0].version)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.stdout.split() == ["2099-01-01", "2012-11-05"]

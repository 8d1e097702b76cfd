"""The gateway's own log: one line an entry, whatever is in it, and no exception's text."""

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.adapters.logs import OneLine, begin, configuration
from gateway.core.current import REQUEST_ID

CANARY = f"canary-{10**9}"
EVIL = 'a\r\nb\x1b[2J\u2028\u202e"},{"level":"error\x00'


def entry(form: str, message: str, *args: object, exc_info: object = None) -> str:
    record = logging.LogRecord("trusted_gateway.x", logging.WARNING, "x.py", 1, message, args, exc_info)  # type: ignore[arg-type]
    return OneLine(form).format(record)


@pytest.mark.threat("C17")
@pytest.mark.parametrize("form", ["json", "text"])
def test_C17_an_entry_is_one_harmless_line(form: str) -> None:
    said = entry(form, "path %s", EVIL)
    assert said.isascii()
    assert said.isprintable()
    if form == "json":
        found = json.loads(said)
        assert found["message"] == f"path {EVIL}"
        assert found.keys() == {"at", "level", "logger", "message", "process"}
        assert (found["level"], found["logger"]) == ("warning", "trusted_gateway.x")


def test_the_request_is_named() -> None:
    token = REQUEST_ID.set("an-id")
    try:
        assert json.loads(entry("json", "x"))["request_id"] == "an-id"
        assert " request=an-id " in entry("text", "x")
    finally:
        REQUEST_ID.reset(token)


@pytest.mark.threat("I05")
def test_I05_an_exceptions_text_is_not_in_it() -> None:
    try:
        raise ValueError(CANARY)
    except ValueError:
        said = entry("json", "failed", exc_info=sys.exc_info())
    assert CANARY not in said
    assert "ValueError" in said
    assert "test_logs.py" in said


def test_a_very_long_message_is_cut() -> None:
    assert len(entry("json", "x" * 10**6)) < 20_000


@pytest.fixture
def our_log() -> Iterator[Callable[[Any], object]]:
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in configuration("json", "info")["loggers"])]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    hook, raises = threading.excepthook, logging.raiseExceptions
    begin("json", "info")
    yield threading.excepthook
    threading.excepthook, logging.raiseExceptions = hook, raises
    for each, handlers, level, propagate in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.mark.threat("I05")
def test_I05_what_ends_a_thread_is_logged_without_its_text(our_log: Callable[[Any], object]) -> None:
    said = io.StringIO()
    for each in logging.getLogger("trusted_gateway").handlers:
        if isinstance(each.formatter, OneLine):  # pytest adds handlers of its own
            each.stream = said  # type: ignore[attr-defined]
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        # Called as Python does it: pytest has put a hook of its own into its place.
        our_log(threading.ExceptHookArgs((ValueError, error, error.__traceback__, threading.current_thread())))
    assert CANARY not in said.getvalue()
    assert "ValueError" in json.loads(said.getvalue())["message"]

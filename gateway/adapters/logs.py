"""The gateway's own log, on standard error: one line an entry, JSON unless the settings say otherwise."""

import json
import logging
import logging.config
import threading
import traceback
from datetime import UTC, datetime
from typing import Any

from gateway.core.current import REQUEST_ID

LONGEST = 16 * 1024  # letters of a message: a traceback of ours is shorter


class OneLine(logging.Formatter):
    """An entry as one line of ASCII: whatever is in it ends no line, starts no other, and moves no cursor (C17)."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._as_json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            # Where it was and what kind of error: its own text may quote anything.
            kind = record.exc_info[0]
            text += "\n" + "".join(traceback.format_tb(record.exc_info[2])) + (kind.__name__ if kind else "")
        entry: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": text[:LONGEST],
            "process": record.process,
        }
        if (request_id := REQUEST_ID.get()) is not None:
            entry["request_id"] = request_id
        if self._as_json:
            return json.dumps(entry, ensure_ascii=True, separators=(",", ":"))
        said = json.dumps(entry["message"], ensure_ascii=True)[1:-1]
        request = f" request={request_id}" if request_id else ""
        return f"{entry['at']} {entry['level']} {entry['logger']} [{entry['process']}]{request} {said}"


def configuration(form: str, level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`, and for gunicorn, which makes loggers of its own."""
    ours = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": OneLine, "form": form}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "trusted_gateway": ours,
            "gateway": ours,
            "gunicorn.error": ours,
            "gunicorn.access": {"handlers": [], "propagate": False},  # the audit log is the access log
        },
    }


def begin(form: str, level: str) -> None:
    """Log like this from now on. What ends a thread, or the process, is logged in the same way, without its text."""
    logging.config.dictConfig(configuration(form, level))
    logging.raiseExceptions = False  # a failure to log prints what was to be logged, as it is
    log = logging.getLogger("trusted_gateway")

    def of_thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "?"
        log.error(
            "thread %s ended", name, exc_info=(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
        )

    threading.excepthook = of_thread

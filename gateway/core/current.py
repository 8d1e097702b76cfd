"""What this thread or task is working on: for the log and for traces, never for a decision."""

from contextvars import ContextVar

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being decided."""

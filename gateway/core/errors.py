"""One error for every refusal: a code for programs, a detail that is safe to show, a private context for the log."""

from typing import Any

from gateway.wire.problems import PROBLEMS


class Refusal(Exception):
    """The gateway refuses. `code` is one of `wire.problems.PROBLEMS`; `detail` may be shown to the caller.

    `reason` is a short stable word for the audit record (often finer than `code`, which must not tell an attacker too
    much); `context` holds public facts for it. Neither holds a secret, ever. `retry_after` is in seconds. `faults`
    names each of several, as `path: what is wrong`, and may be shown.
    """

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        reason: str | None = None,
        retry_after: int | None = None,
        faults: tuple[str, ...] = (),
        **context: Any,
    ) -> None:
        if code not in PROBLEMS:
            raise KeyError(code)
        super().__init__(detail or PROBLEMS[code].title)
        self.code = code
        self.detail = detail
        self.reason = reason or code
        self.retry_after = retry_after
        self.faults = faults
        self.context = context


class SettingsError(ValueError):
    """The settings are wrong. `faults` names every one of them, as `key: what is wrong`."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults

"""Two errors: a `Fault` is anything that went wrong here, a `Problem` is what the gateway refused, in its own words."""

from gateway.wire.problems import PROBLEMS

PASSING = frozenset({408, 429, 500, 503})
"""The statuses that say "not now"; every other refusal says "not you", and asking again soon is of no use."""


class Fault(Exception):
    """Something went wrong. `code` is for programs, `detail` and `hint` are for people; none of them holds a secret."""

    def __init__(self, code: str, detail: str, hint: str = "") -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code
        self.detail = detail
        self.hint = hint
        self.retry_after = 0.0


class Problem(Fault):
    """The gateway refused: an RFC 9457 document, or any other status that is no success. `retry_after` in seconds,
    `request_id` as the gateway's log has it.
    """

    request_id = ""

    def __init__(self, code: str, status: int, detail: str = "", retry_after: float = 0.0) -> None:
        known = PROBLEMS.get(code)
        title = known.title if known else f"The gateway answered with status {status}"
        super().__init__(code, f"{title}: {detail}" if detail else title, known.hint if known else "")
        self.status = status
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed soon."""
        return self.status in PASSING

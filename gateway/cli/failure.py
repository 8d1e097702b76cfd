"""How a command fails."""


class Failure(Exception):
    """What the operator is told in one line: `text`, a stable `code`, and a `hint` what to do next.

    `faults` are lines that stand before it: each of several faults.
    """

    def __init__(self, text: str, code: str, hint: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.code = code
        self.hint = hint
        self.faults = faults

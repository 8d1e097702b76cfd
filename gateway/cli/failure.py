"""How a command fails."""


class Failure(Exception):
    """What the operator is told in one line: `text`, a stable `code`, and a `hint` what to do next."""

    def __init__(self, text: str, code: str, hint: str) -> None:
        super().__init__(text)
        self.code = code
        self.hint = hint

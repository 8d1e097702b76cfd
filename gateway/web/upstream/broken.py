"""What goes wrong on the way to AWS. Each is one word for the record, and one problem for the agent."""

from gateway.core.errors import Refusal


class Broken(Exception):
    """The exchange with AWS has failed. `word` is short and stable; no text of AWS is in it.

    `unsent`: nothing of the request was sent. `stale`: it was sent on a connection that had been used before and then
    ended without an answer; most likely the other side had already closed it, but that is not sure.
    """

    code = "upstream_broken"  # 502

    def __init__(self, word: str, *, unsent: bool = False, stale: bool = False) -> None:
        super().__init__(word)
        self.word = word
        self.unsent = unsent
        self.stale = stale

    def refusal(self) -> Refusal:
        """As it is told to the agent, while it was told nothing else."""
        return Refusal("upstream_unavailable" if self.unsent else self.code, reason=self.word)


class TooSlow(Broken):
    """AWS has let a deadline pass after it was sent the request: it may have acted upon it (threat F06)."""

    code = "upstream_timeout"  # 504

"""The one place where credentials are handed out: by the agent's state, the rule of `access`, and from memory.

Every door ends here: the container endpoint, the metadata look-alike, the Unix socket, the file.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping

from agent.credentials import Lent, Unavailable
from agent.serve import access
from agent.serve.access import Offer
from agent.serve.guard import Refused

Lend = Callable[[str, float], Lent]


class Desk:
    """Any thread may ask. `own` is the agent's uid; `offers` are replaced whole."""

    def __init__(self, lend: Lend, state: Callable[[], str], own: int) -> None:
        self._lend, self._state, self.own = lend, state, own
        self.offers: Mapping[str, Offer] = {}
        self._answers: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()

    def offer(self, offers: Mapping[str, Offer]) -> None:
        """From now on it is these."""
        self.offers = offers

    def check_state(self) -> None:
        """Neither a revoked agent nor one that has just started has anything. Raises Refused and Unavailable."""
        state = self._state()
        if state == "revoked":
            raise Refused(403, "AccessDenied", "The instance is revoked (instance_revoked)")
        if state != "enrolled":
            raise Unavailable("starting", "The agent is not enrolled yet", retry_after=1.0)

    def lend(self, grant: str, way: str, uid: int, wait: float) -> Lent:
        """The grant's credentials for this user, within `wait` seconds. Raises Refused and Unavailable."""
        self.check_state()
        access.check_user(self.offers.get(grant), uid, self.own)
        return self.lend_to_bearer(grant, way, wait)

    def lend_to_bearer(self, grant: str, way: str, wait: float) -> Lent:
        """The same for whoever has shown a token of this grant, or owns a file with it."""
        offer = self.offers.get(grant)
        if offer is None:
            raise Unavailable("grant_refused", "The instance has no such grant", refused=True)
        access.check_door(offer, way)
        lent = self._lend(grant, wait)
        with self._counting:
            self._answers[grant, way] += 1
        return lent

    def find(self, grant: str | None, way: str | None, uid: int) -> Offer:
        """The grant that is named, or the only one that this user may have. Raises Refused."""
        if grant is None:
            return access.choose(self.offers, way, uid, self.own)
        return access.check_user(self.offers.get(grant), uid, self.own)

    def may(self, offer: Offer, uid: int) -> bool:
        """Whether this user may have it at all."""
        return access.may(offer, uid, self.own)

    def answers(self, grant: str) -> dict[str, int]:
        """How often credentials were handed out, by way."""
        with self._counting:
            return {way: count for (name, way), count in sorted(self._answers.items()) if name == grant}

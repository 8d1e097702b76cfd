"""The profile that is in force for an instance, read once for as long as its row is the same."""

from dataclasses import replace

from gateway.core import profile
from gateway.core.errors import Refusal
from gateway.core.identity import Identity
from gateway.core.model import Profile
from gateway.core.profile import ProfileRules
from gateway.core.revocation import is_stopped
from gateway.ports import Transaction


class Applied:
    """Raises Refusal `grant_refused` for an instance whose profile is gone, was revoked, or was valid only once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Profile, ProfileRules]] = {}

    def rules(self, tx: Transaction, identity: Identity) -> ProfileRules:
        """The profile of this instance as it is now."""
        applied = tx.profiles.get(name=identity.instance.profile)
        if applied is None:
            raise Refusal("grant_refused", reason="profile_missing")
        known = self._known.get(applied.name)
        if known is None or known[0] != applied:
            known = self._known[applied.name] = (applied, _read(applied))
        return known[1]


def _read(applied: Profile) -> ProfileRules:
    if is_stopped(applied):
        why = "The profile is revoked: an operator has to apply it anew"
        raise Refusal("grant_refused", why, reason="profile_revoked")
    try:
        rules = profile.read(applied.document, source_address=True)
    except Refusal:  # it was applied when the rules were others
        why = "The profile is no longer valid: an operator has to apply it anew"
        raise Refusal("grant_refused", why, reason="profile_outdated") from None
    revoked = frozenset(name for name in rules.grants if is_stopped(applied, name))
    left = {name: grant for name, grant in rules.grants.items() if name not in revoked}
    return replace(rules, grants=left, revoked=revoked)

"""Which local user may have which grant, at which door: one rule, and every door asks it. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agent.serve.guard import Refused
from gateway.wire.messages import GrantSummary


@dataclass(frozen=True, slots=True)
class Offer:
    """A grant on this machine: at which doors (of `DOORS`) it may be had, by which users (with their uids) beside root
    and the agent's own, and by which ways (of `WAYS`) its calls reach AWS.
    """

    name: str
    doors: tuple[str, ...]
    users: tuple[tuple[str, int], ...] = ()
    ways: tuple[str, ...] = ("token",)

    @property
    def has_calls(self) -> bool:
        """Whether its calls go to the endpoint for calls, with a dummy key."""
        return any(way != "token" for way in self.ways)


def resolve(
    grants: Iterable[GrantSummary], uid_of: Callable[[str], int | None]
) -> tuple[dict[str, Offer], frozenset[str]]:
    """The offers by name, and the names that are no user of this machine: such a name allows nobody."""
    offers: dict[str, Offer] = {}
    unknown: set[str] = set()
    for grant in grants:
        found = [(user, uid_of(user)) for user in dict.fromkeys(grant.users)]
        unknown.update(user for user, uid in found if uid is None)
        known = tuple((user, uid) for user, uid in found if uid is not None)
        offers[grant.name] = Offer(grant.name, grant.doors, known, grant.ways)
    return offers, frozenset(unknown)


def may(offer: Offer, uid: int, own: int) -> bool:
    """The rule. `own` is the uid of the agent."""
    return uid in (0, own) or any(uid == each for _, each in offer.users)


def check_user(offer: Offer | None, uid: int, own: int) -> Offer:
    """The offer, if it is for this user. What is not for him and what is not there look alike. Raises Refused."""
    if offer is None or not may(offer, uid, own):
        raise Refused(403, "AccessDenied", f"There is no such grant for the user with uid {uid}")
    return offer


def check_door(offer: Offer, door: str) -> None:
    """Raises Refused when the profile does not let the grant go by this door, whoever asks."""
    if door not in offer.doors:
        raise Refused(
            403, "AccessDenied", f"The grant {offer.name} is not delivered by {door}, but by {_list(offer.doors)}"
        )


def choose(offers: Mapping[str, Offer], door: str | None, uid: int, own: int) -> Offer:
    """The only grant that this user may have (at this door, if one is named). Raises Refused when it is not one."""
    his = [offer for offer in offers.values() if may(offer, uid, own) and (door is None or door in offer.doors)]
    if len(his) == 1:
        return his[0]
    by = f" by {door}" if door else ""
    if not his:
        raise Refused(404, "NotFound", f"There is no grant{by} for the user with uid {uid}")
    raise Refused(404, "NotFound", f"There is more than one grant{by}, name one: {_list(each.name for each in his)}")


def _list(words: Iterable[str]) -> str:
    return ", ".join(sorted(words)) or "nothing"

"""The rule of who may have what, by itself, and the desk that keeps it."""

from datetime import UTC, datetime

import pytest

from agent.credentials import Lent, Unavailable
from agent.serve import access
from agent.serve.access import Offer
from agent.serve.desk import Desk
from agent.serve.guard import Refused
from gateway.wire.messages import USUAL_DOORS, GrantSummary

OWN, WEB, BATCH, OTHER = 990, 33, 44, 55
UIDS = {"web": WEB, "batch": BATCH, "twin": WEB}
APP = Offer("app", ("container", "imds", "process"), (("web", WEB),))
QUIET = Offer("quiet", ("container",), ())
OFFERS = {"app": APP, "quiet": QUIET}


@pytest.mark.parametrize(("uid", "allowed"), [(0, True), (OWN, True), (WEB, True), (BATCH, False), (OTHER, False)])
def test_root_the_agents_own_and_the_users_of_the_grant(uid: int, allowed: bool) -> None:
    assert access.may(APP, uid, OWN) is allowed
    assert access.may(QUIET, uid, OWN) is (uid in (0, OWN))


def test_names_become_uids_and_unknown_ones_nobody() -> None:
    grants = [
        GrantSummary("a", 900, users=("web", "nobody-here", "web")),
        GrantSummary("b", 900, ("file",), ("twin", "nobody-here")),
        GrantSummary("c", 900, users=("nobody-here",)),
    ]
    offers, unknown = access.resolve(grants, UIDS.get)
    assert unknown == {"nobody-here"}
    assert offers == {
        "a": Offer("a", USUAL_DOORS, (("web", WEB),)),
        "b": Offer("b", ("file",), (("twin", WEB),)),
        "c": Offer("c", USUAL_DOORS, ()),
    }


def test_the_only_one_is_chosen_and_no_other() -> None:
    assert access.choose(OFFERS, None, WEB, OWN) == APP
    assert access.choose(OFFERS, "process", 0, OWN) == APP
    for way, uid in ((None, 0), (None, OTHER), ("file", 0)):
        with pytest.raises(Refused) as told:
            access.choose(OFFERS, way, uid, OWN)
        assert told.value.status == 404


def lent(grant: str, wait: float) -> Lent:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Lent(grant, f"{wait}", "token", now, now)


@pytest.mark.parametrize(
    ("grant", "way", "uid", "status"),
    [
        ("app", "process", OTHER, 403),
        ("app", "imds", BATCH, 403),
        ("quiet", "container", WEB, 403),
        ("none", "process", 0, 403),
        ("app", "file", 0, 403),
        ("quiet", "imds", OWN, 403),
    ],
)
def test_the_desk_gives_nothing_to_who_may_not(grant: str, way: str, uid: int, status: int) -> None:
    desk = Desk(lent, lambda: "enrolled", OWN)
    desk.offer(OFFERS)
    with pytest.raises(Refused) as told:
        desk.lend(grant, way, uid, 0.0)
    assert told.value.status == status
    assert desk.answers(grant) == {}
    assert desk.lend("app", "process", WEB, 0.5).secret_access_key == "0.5", "the control"
    assert desk.answers("app") == {"process": 1}


def test_the_desk_is_closed_while_starting_and_when_revoked() -> None:
    state = "starting"
    desk = Desk(lent, lambda: state, OWN)
    desk.offer(OFFERS)
    with pytest.raises(Unavailable):
        desk.lend("app", "process", 0, 0.0)
    state = "revoked"
    with pytest.raises(Refused, match="revoked"):
        desk.lend("app", "process", 0, 0.0)
    state = "enrolled"
    assert desk.lend("app", "process", 0, 0.0)

"""A second person, by the command line: what commands ask for besides the change itself, and what nobody is shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from deploy.demo.cloud import Cloud, seed
from tests.conftest import Known
from tests.end_to_end.crowd import OwnWorld
from tests.end_to_end.people import person
from tests.end_to_end.test_operators import Colleague
from tests.end_to_end.test_operators import _directory as directory
from tests.end_to_end.test_upstream_keys import import_revoker, key
from tests.end_to_end.world import World
from tests.gateway.cli.terminal import Terminal

ACCOUNTS = count(333400000001)
TABLES = """[approvals]
permissions = ["operator:key:*", "operator:everything:revoke", "operator:instance:revoke", "operator:lease:revoke"]
"""
SECRET = "wJalrXUtnFEMIxK7MDENGxbPxRfiCYEXAMPLEKEY"
TICKET = "0123456789abcdef" * 3


@contextmanager
def two(own_world: OwnWorld, **options: object) -> Iterator[tuple[World, Colleague]]:
    """A gateway where two people are needed, and bob."""
    with own_world(tables=TABLES, **options) as world:
        person(world, "bob", "administrator")
        yield world, directory(world, "bob")


def approval(said: str) -> str:
    """The id of what has to be agreed to, of what a command said."""
    assert "(approval_needed)" in said
    return said.partition("approval give ")[2][:19]


def answering(world: World, *command: str) -> tuple[int, str]:
    """The status of a command at a terminal, where whoever is asked says yes; and the screen."""
    with Terminal([*world.site.command, *command], world.site.environment()) as alice:
        alice.reads("Go on?")
        alice.presses(b"y\n")
        return alice.ends(), alice.seen


@pytest.mark.threat("G11")
@pytest.mark.timeout(240)
def test_G11_keys_are_rotated_and_disabled_by_two(own_world: OwnWorld, cloud: Cloud, known: Known) -> None:
    account = str(next(ACCOUNTS))
    made = seed(cloud.endpoint, account, f"data-{account}")
    known.add(made.secret)
    with two(own_world, seeded=made) as (world, bob):
        import_revoker(world, account, known)
        before = key(world)["access_key_id"]
        assert "would replace" in world.site.cli("key", "rotate", "main", "--dry-run")
        id_ = approval(world.site.cli("key", "rotate", "main", status=1))
        bob.cli("approval", "give", id_, "--yes")
        assert "main is rotated" in world.site.cli("--approval", id_, "key", "rotate", "main")
        assert key(world)["access_key_id"] != before
        assert len(world.rows("approval")) == 1, "the polls and the dry run needed none"
        assert "(approval_refused)" in world.site.cli("--approval", id_, "key", "rotate", "main", status=1)

        assert "would cut" in world.site.cli("key", "disable", "main", "--dry-run")
        status, said = answering(world, "key", "disable", "main")
        assert (status, key(world)["state"]) == (1, "active")
        id_ = approval(" ".join(said.split()))
        bob.cli("approval", "give", id_, "--yes")
        status, said = answering(world, "--approval", id_, "key", "disable", "main")
        assert (status, key(world)["state"]) == (0, "disabled"), said
        assert len(world.rows("approval")) == 2


@pytest.mark.threat("G11")
def test_G11_everything_is_revoked_by_two(own_world: OwnWorld) -> None:
    with two(own_world) as (world, bob):
        world.enrolled()
        status, said = answering(world, "revoke", "everything")
        assert "1 instance(s)" in said, "who is asked is told what will be lost"
        id_ = approval(" ".join(said.split()))
        assert (status, world.rows("revocation")) == (1, [])
        bob.cli("approval", "give", id_, "--yes")
        status, said = answering(world, "--approval", id_, "revoke", "everything")
        assert (status, len(world.rows("revocation")), len(world.rows("approval"))) == (0, 1, 1), said


@pytest.mark.threat("I05")
def test_I05_a_secret_in_the_place_of_a_name_is_shown_to_nobody(own_world: OwnWorld) -> None:
    with two(own_world) as (world, _):
        for command in (
            ("revoke", "lease", SECRET),
            ("revoke", "lease", TICKET),
            ("revoke", "instance", SECRET),
            ("key", "rotate", SECRET),
            ("key", "disable", SECRET, "--yes"),
        ):
            assert "(malformed_request)" in world.site.cli(*command, status=1), command
        assert "(upstream_key_unknown)" in world.site.cli("key", "disable", SECRET, "--dry-run", status=1)
        approval(world.site.cli("key", "rotate", "main", status=1))  # the control
        (waits,) = world.rows("approval")
        assert waits["object"] == "/v1/keys/main/rotate"
        for secret in (SECRET, TICKET):
            assert secret not in str(world.everything_but_the_log()) + str(world.audit()) + world.site.log.read_text()

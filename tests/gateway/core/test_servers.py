"""What an order may contain, and how what machines say is made harmless."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.servers import (
    LONGEST_OUTPUT,
    Enrolment,
    LaunchPlan,
    Machine,
    MachineOrder,
    Server,
    readable,
    tag_faults,
    user_data,
    user_data_faults,
)
from gateway.wire.messages import UserData, read_user_data, user_data_line

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LINE = user_data_line(UserData("gateway.example:8443", "ab" * 32, "a-ticket"))


@pytest.mark.parametrize("extra", ["", "#cloud-config\npackages: [nginx]", "#!/bin/sh\necho hello\n\n"])
def test_the_gateways_line_is_behind_the_operators_text_and_an_agent_finds_it(extra: str) -> None:
    made = user_data(extra, LINE)
    first, *middle, last = made.splitlines()
    assert first == (extra or "#cloud-config").splitlines()[0]
    assert last == LINE
    assert "\n".join([first, *middle]).rstrip() == (extra or "#cloud-config").rstrip()
    found = read_user_data(made.encode())
    assert found is not None
    assert found.ticket == "a-ticket"


def test_what_is_no_user_data_is_told() -> None:
    assert user_data_faults("#!/bin/sh\n# not #trusted-gateway here\n") == ()
    assert user_data_faults("#cloud-config\n#trusted-gateway {}\n") != ()
    assert user_data_faults("a\0b") != ()
    assert user_data_faults("x" * 15 * 1024) == ()
    assert user_data_faults("x" * (15 * 1024 + 1)) != ()
    assert user_data_faults("é" * 8 * 1024) != ()


def test_tags_are_such_as_aws_takes() -> None:
    assert tag_faults({"Name": "web 1", "team": "", "a/b+c=d@e:f": "ü"}) == ()
    for tags in (
        {"aws:x": "a"},
        {"AWS:x": "a"},
        {"": "a"},
        {"a": "x" * 257},
        {"a": "<b>"},
        {"a": "b\n"},
        {"k" * 129: ""},
    ):
        assert tag_faults(tags) != (), tags
    assert tag_faults({f"k{i}": "" for i in range(50)}) == ()
    assert tag_faults({f"k{i}": "" for i in range(51)}) != ()


def test_only_a_machine_that_runs_is_up() -> None:
    def server(state: str, launched_at: datetime = NOW) -> Server:
        machine = Machine("1", "us-east-1", "i-1", state, launched_at, "ami-1", "t3.micro")
        return Server(machine, Enrolment.NEVER, None, None)

    assert server("running").uptime(NOW + timedelta(hours=3)) == timedelta(hours=3)
    assert server("running", NOW + timedelta(seconds=9)).uptime(NOW) == timedelta()  # clocks differ
    assert server("stopped").uptime(NOW) is None


@pytest.mark.threat("C17")
def test_C17_a_consoles_output_does_nothing_to_a_terminal() -> None:
    evil = "\x1b[2Jboot\r\n\x1b]0;title\x07ok\ttab\x1bP1;x\x1b\\\x9b31mred\x00\x08\u202e\u200b end\rnext\x1b(B"
    assert readable(evil) == "boot\nok\ttab31mred end\nnext"
    assert readable("\x1b]0;never ends") == ""


def test_a_consoles_output_is_cut_at_its_beginning() -> None:
    assert readable("a" * LONGEST_OUTPUT + "b") == "a" * (LONGEST_OUTPUT - 1) + "b"


def test_an_order_does_not_print_its_ticket() -> None:
    order = MachineOrder(LaunchPlan("ami-1", "us-east-1", "t3.micro"), {}, user_data("", LINE), "token")
    assert "a-ticket" not in f"{order!r} {order}"

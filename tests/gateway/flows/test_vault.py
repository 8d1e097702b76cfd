"""The shelf of upstream keys: what is said, and recorded, of a name that no key has."""

import json
from collections.abc import Callable

import pytest

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.flows.vault import UpstreamKeys, named
from gateway.ports import Transaction
from tests.gateway.flows.conftest import Gateway

PASTED = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.threat("I05")
@pytest.mark.parametrize("look", [named, None], ids=["named", "openable"])
def test_I05_a_secret_in_the_place_of_a_name_is_not_repeated(
    gateway: Gateway, look: Callable[[Transaction, str], object] | None
) -> None:
    asked = look or UpstreamKeys(gateway.journal, gateway.vault, gateway.aws, gateway.time).openable

    def disable() -> None:
        with gateway.journal.call(Name.OPERATOR_KEY_DISABLE, "an-id", None) as call, gateway.store.read() as tx:
            call.object = f"upstream_key/{PASTED}"
            asked(tx, PASTED)

    with pytest.raises(Refusal) as refused:
        disable()
    assert refused.value.code == "upstream_key_unknown"
    assert PASTED not in f"{refused.value} {refused.value.detail} {refused.value.faults} {refused.value.context}"
    record = gateway.records()[-1]
    assert (record["name"], record["allowed"], record["object"]) == ("operator:key:disable", False, "upstream_key")
    assert PASTED not in json.dumps(record)

"""What `audit verify` is told, while the log grows under it."""

from types import SimpleNamespace

import pytest

from gateway.core.audit import Name
from gateway.core.verification import Witness, verify, witness_of, witness_of_heads
from gateway.flows.read_audit import ReadAudit
from gateway.web.admin.audit import Newest, routes
from gateway.wire import checkpoint as wire
from tests.gateway.flows.conftest import Gateway
from tests.gateway.flows.test_checkpoint import checkpoints, happen, log


@pytest.mark.threat("I04")
def test_I04_a_log_that_grows_meanwhile_is_no_broken_log(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker records, and signs, between any two looks: nobody is told of records that he will not be shown."""
    flow = checkpoints(gateway)
    happen(gateway, 3)
    flow.make()
    for name in ("begin", "exist", "show"):
        real = getattr(flow, name)

        def meanwhile(*given: int | None, real=real) -> object:  # type: ignore[no-untyped-def]
            happen(gateway, 2)
            flow.make()
            return real(*given)

        monkeypatch.setattr(flow, name, meanwhile)
    read = ReadAudit(gateway.store, gateway.journal, "td")
    (route,) = [
        each for each in routes(gateway.journal, read, flow, lambda *_: "") if each.rule == "/v1/audit/checkpoint"
    ]
    answer = route.answer(SimpleNamespace(call=gateway.call(Name.OPERATOR_AUDIT_READ), query=Newest()))  # type: ignore[arg-type]
    heads = {head.chain: (head.seq, head.hash) for head in answer.heads}
    signed = wire.read(answer.checkpoint.statement)
    assert all(state.size <= heads[name][0] for name, state in signed.chains.items())
    told = log(gateway)[: sum(seq for seq, _ in heads.values())]
    assert verify(told, [witness_of(signed), Witness("the gateway", witness_of_heads(heads).chains)])

"""A change happens once, however often its request is sent: its answer is kept under the operator's idempotency key.

draft-ietf-httpapi-idempotency-key-header-07. The key is reserved before; the transaction that decides marks the row,
so that what was done is never done again; the answer is kept after. A crash at any point leaves the key free (nothing
was done) or spent (it was).
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from gateway.core.errors import Refusal
from gateway.core.operator_model import KeptAnswer
from gateway.flows.journal import Call, Journal
from gateway.ports import Clock, Store, Transaction, Vault
from gateway.wire.secret import Secret

log = logging.getLogger("trusted_gateway.once")

LIFE = timedelta(hours=24)
LOST = timedelta(minutes=1)  # no request takes longer: whoever reserved the key is gone
UNDER_WAY, DONE = 0, 1  # `KeptAnswer.status` before there is an answer
ACCEPTED = 202  # nothing was done yet: the same request is to be sent again


@dataclass(frozen=True, slots=True)
class Order:
    """A request that brought an idempotency key. `resumes`: what does it can be run again where it stopped."""

    operator: str
    key: str
    request_sha256: str
    resumes: bool = False

    @property
    def id(self) -> str:
        """An operator's name has no slash in it: no key of one is the key of another."""
        return f"{self.operator}/{self.key}"


class Once:
    """Raises Refusal: `idempotency_mismatch` for another request under the same key, `conflict` while it is under way,
    and whatever the request itself is refused with.
    """

    def __init__(self, store: Store, journal: Journal, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._vault = vault
        self._clock = clock

    def answer(self, call: Call, order: Order, do: Callable[[], Mapping[str, Any]]) -> tuple[Mapping[str, Any], bool]:
        """The answer of `do`, in plain values with its `status`, and whether it was kept from an earlier time."""
        row, is_ours = self._reserve(order)
        if not is_ours:
            return self._again(call, order, row), True
        if not order.resumes:
            call.alongside = lambda tx: _mark(tx, row)
        try:
            answer = do()
        except Refusal as refusal:
            self._refused(call, order, row, refusal)
            raise
        if answer["status"] == ACCEPTED:
            self._free(row)
        else:
            kept = {"answer": answer, "object": call.object, "first": call.request_id}
            self._keep(order, row, answer["status"], kept)
        return answer, False

    def _reserve(self, order: Order) -> tuple[KeptAnswer, bool]:
        """The row of this key, and whether it is now ours."""
        now = self._clock()
        ours = KeptAnswer(order.id, order.request_sha256, UNDER_WAY, None, now, now + LIFE)

        def unit(tx: Transaction) -> tuple[KeptAnswer, bool]:
            found = tx.answers.get(id=order.id)
            if found is None:
                return ours, tx.answers.add(ours)
            if found.expires_at <= now:
                return ours, tx.answers.swap(found, ours)
            if found.request_sha256 != order.request_sha256:
                raise Refusal("idempotency_mismatch")
            if found.status == UNDER_WAY and found.created_at + LOST <= now:
                return ours, tx.answers.swap(found, ours)
            return found, False

        return self._store.write(unit)

    def _again(self, call: Call, order: Order, row: KeptAnswer) -> Mapping[str, Any]:
        if row.sealed_answer is None and row.created_at + LOST > self._clock():
            raise Refusal("conflict", "This very request is under way", reason="under_way", retry_after=1)
        if row.sealed_answer is None:
            detail = "This very request was done, and its answer is lost: look at what it did"
            raise Refusal("conflict", detail, reason="answer_lost")
        with self._vault.open(_context(order), row.sealed_answer) as plain:
            kept = json.loads(plain)
        call.object = kept["object"]
        if "refusal" in kept:
            told = kept["refusal"]
            raise Refusal(**told | {"faults": tuple(told["faults"])}, reason="answered_again", first=kept["first"])
        self._journal.allow(call, reason="answered_again", first=kept["first"])
        answer: Mapping[str, Any] = kept["answer"]
        return answer

    def _refused(self, call: Call, order: Order, row: KeptAnswer, refusal: Refusal) -> None:
        """What is refused may be tried again, unless something was done before."""
        with self._store.read() as tx:
            found = tx.answers.get(id=order.id)
        if found == replace(row, status=DONE):
            told = {"code": refusal.code, "detail": refusal.detail, "faults": refusal.faults}
            kept = {"refusal": told, "object": call.object, "first": call.request_id}
            self._keep(order, row, DONE, kept)
        elif found == row:
            self._free(row)

    def _keep(self, order: Order, row: KeptAnswer, status: int, kept: Mapping[str, Any]) -> None:
        """What cannot be kept is answered all the same: it was done."""

        def unit(tx: Transaction) -> None:
            found = tx.answers.get(id=order.id)
            if found is not None and found.created_at == row.created_at:
                tx.answers.swap(found, replace(row, status=status, sealed_answer=sealed))

        try:
            sealed = self._vault.seal(_context(order), Secret(json.dumps(kept)))
            self._store.write(unit)
        except Refusal as refusal:
            log.warning("an answer is not kept: %s", refusal.code)

    def _free(self, row: KeptAnswer) -> None:
        def unit(tx: Transaction) -> None:
            found = tx.answers.get(id=row.id)
            if found is not None and found.created_at == row.created_at:
                tx.answers.remove(found)

        self._store.write(unit)


def _mark(tx: Transaction, row: KeptAnswer) -> None:
    """In the transaction that decides. Whoever lost the key meanwhile does nothing."""
    if not tx.answers.swap(row, replace(row, status=DONE)):
        raise Refusal("conflict", "This very request is under way", reason="under_way", retry_after=1)


def _context(order: Order) -> str:
    return f"answer/{order.id}/{order.request_sha256}"

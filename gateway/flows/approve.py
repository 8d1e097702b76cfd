"""A second person for what is sensitive: ask, give, refuse, spend. Each leaves one decision.

Who asks sends the request and is told to wait; others agree; who asked sends the very same request again, with the
approval's id. It is spent in the transaction that decides that request: once, or not at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from gateway.core import approval, rights
from gateway.core.approval import ApprovalRules
from gateway.core.audit import Kind, Name
from gateway.core.errors import Refusal
from gateway.core.operator_model import Approval, ApprovalState
from gateway.flows.admit import Admitted
from gateway.flows.journal import Call, Journal
from gateway.ports import Clock, RandomBytes, Store, Transaction
from gateway.wire.messages import instant

MOST_OPEN = 100  # of one operator
KEPT = timedelta(days=1)  # behind its end, for who wonders what became of it


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: `sha256` is of all of it, `shown` what others see, `approval` the id that came with it."""

    sha256: str
    shown: Mapping[str, Any]
    approval: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """An approval, how many agree, and how many have to."""

    approval: Approval
    given: int
    needed: int


class Approve:
    """Raises Refusal."""

    def __init__(self, store: Store, journal: Journal, clock: Clock, random: RandomBytes, rules: ApprovalRules) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._random = random
        self._rules = rules

    def is_needed(self, call: Call) -> bool:
        """Whether others have to agree to what is asked for."""
        return self._rules.ask_for(call.name)

    def demand(self, call: Call, admitted: Admitted, request: Request) -> Standing | None:
        """None: go on. Else nothing may be done yet, which is recorded, and others are asked."""
        if not self.is_needed(call):
            return None
        name = admitted.operator.name
        if request.approval is None:
            return self._ask(call, name, request)
        with self._store.read() as tx:
            found = approval.demand(tx.approvals.get(id=request.approval), name, request.sha256, self._clock())
            standing = self._standing(tx, found)
        if standing.given < standing.needed:
            return self._wait(call, standing)
        call.alongside = partial(self._spend, call.alongside, name, request)
        return None

    def open(self, call: Call, admitted: Admitted, *, after: str | None, limit: int) -> list[Standing]:
        """The approvals that are not over and concern this operator: as who asked, or as who may agree."""
        self._journal.allow(call)
        now, mine, own = self._clock(), admitted.operator.name, admitted.rights
        with self._store.read() as tx:
            rows = [row for row in tx.approvals.find(after=after) if row.expires_at > now]
            shown = [row for row in rows if row.asked_by == mine or own.permits_anywhere(Name(row.permission))]
            return [self._standing(tx, row) for row in shown[:limit]]

    def give(self, call: Call, admitted: Admitted, id_: str) -> Standing:
        """Agree. Twice is once, and nobody agrees with what they asked for themselves."""
        now, name = self._clock(), admitted.operator.name

        def unit(tx: Transaction) -> Standing:
            row = self._found(tx, call, id_, now)
            if row.asked_by == name:
                raise Refusal("operator_forbidden", "It takes another person than who asks", reason="own_request")
            _demand_permission(admitted, row)
            if name in row.given_by:
                tx.audit.append(call.event(Kind.DECISION, reason="already_given"))
                return self._standing(tx, row)
            after = replace(row, given_by={**row.given_by, name: instant(now)})
            standing = self._standing(tx, after)
            if standing.given >= standing.needed:
                standing = replace(standing, approval=replace(after, state=ApprovalState.GIVEN))
            self._swap(tx, row, standing.approval)
            tx.audit.append(
                call.event(
                    Kind.DECISION,
                    permission=row.permission,
                    asked_by=row.asked_by,
                    request_sha256=row.request_sha256,
                    given=standing.given,
                    needed=standing.needed,
                )
            )
            return standing

        return self._journal.write(call, unit)

    def refuse(self, call: Call, admitted: Admitted, id_: str) -> Standing:
        """Say no, which is final; or take back what one asked for."""
        now = self._clock()

        def unit(tx: Transaction) -> Standing:
            row = self._found(tx, call, id_, now)
            if row.asked_by != admitted.operator.name:
                _demand_permission(admitted, row)
            after = replace(row, state=ApprovalState.REFUSED)
            self._swap(tx, row, after)
            tx.audit.append(call.event(Kind.DECISION, permission=row.permission, asked_by=row.asked_by))
            return self._standing(tx, after)

        return self._journal.write(call, unit)

    def _ask(self, call: Call, name: str, request: Request) -> Standing:
        now = self._clock()
        ours = Approval(
            id=f"ap-{self._random(8).hex()}",
            permission=call.name.value,
            object=str(request.shown["path"]),
            request_sha256=request.sha256,
            request=request.shown,
            asked_by=name,
            asked_at=now,
            expires_at=now + self._rules.life,
            state=ApprovalState.OPEN,
            given_by={},
        )

        def unit(tx: Transaction) -> Standing:
            waiting = [row for row in tx.approvals.find(asked_by=name) if row.expires_at > now and _lives(row)]
            row = next((row for row in waiting if row.request_sha256 == request.sha256), None)
            if row is None:
                if len(waiting) >= MOST_OPEN:
                    raise Refusal("too_many_requests", "Too many of your requests wait for others", retry_after=60)
                if not tx.approvals.add(ours):
                    raise Refusal("conflict")
            standing = self._standing(tx, row or ours)
            self._recorded(tx, call, standing)
            return standing

        return self._journal.write(call, unit)

    def _wait(self, call: Call, standing: Standing) -> Standing:
        self._journal.write(call, lambda tx: self._recorded(tx, call, standing))
        return standing

    def _recorded(self, tx: Transaction, call: Call, standing: Standing) -> None:
        call.alongside = None  # that is for what is done
        call.object = f"approval/{standing.approval.id}"
        path, given, needed = standing.approval.object, standing.given, standing.needed
        tx.audit.append(
            call.event(Kind.DECISION, allowed=False, reason="approval_needed", path=path, given=given, needed=needed)
        )

    def _spend(
        self, before: Callable[[Transaction], None] | None, name: str, request: Request, tx: Transaction
    ) -> None:
        """In the transaction that decides: what was looked at before is looked at once more."""
        if before is not None:
            before(tx)
        row = approval.demand(tx.approvals.get(id=request.approval), name, request.sha256, self._clock())
        if self._standing(tx, row).given < self._rules.count:
            raise Refusal("approval_refused", "Somebody who agreed no longer counts", reason="approval_withdrawn")
        self._swap(tx, row, replace(row, state=ApprovalState.SPENT))

    def _found(self, tx: Transaction, call: Call, id_: str, now: datetime) -> Approval:
        row = tx.approvals.get(id=id_)
        if row is None or row.expires_at <= now:
            raise Refusal("approval_unknown")
        call.object = f"approval/{row.id}"
        if not _lives(row):
            raise Refusal("conflict", f"It is {row.state.value}", reason=f"approval_{row.state.value}")
        return row

    def _standing(self, tx: Transaction, row: Approval) -> Standing:
        people = [found for name in row.given_by if (found := tx.operators.get(name=name))]
        roles = rights.known(tx.roles.find())
        return Standing(row, approval.given(row, people, roles), self._rules.count)

    def _swap(self, tx: Transaction, old: Approval, new: Approval) -> None:
        if not tx.approvals.swap(old, new):
            raise Refusal("conflict")


def _lives(row: Approval) -> bool:
    return row.state in (ApprovalState.OPEN, ApprovalState.GIVEN)


def _demand_permission(admitted: Admitted, row: Approval) -> None:
    """Who agrees could do it alone, and everywhere: what exactly is asked for may be anywhere."""
    if not admitted.rights.permits_anywhere(Name(row.permission)):
        raise Refusal("operator_forbidden", reason="permission_missing")

"""What a unit of work sees of the store: the rows of every kind, and the audit log."""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from gateway import ports
from gateway.adapters.sql.audit import ChainedLog, ReadLog
from gateway.adapters.sql.rows import SqlCertificates, SqlInstances, SqlLeases, SqlRows
from gateway.core import model, operator_model
from gateway.core.audit import Event


class SqlTransaction:
    """`ports.Transaction` on a connection that has begun one. `before_change` precedes every change of a row."""

    def __init__(self, connection: Connection, audit: ports.AuditLog, before_change: Callable[[], None]) -> None:
        place = (connection, before_change)
        self.seals: ports.Rows[model.SealRecord] = SqlRows(model.SealRecord, *place)
        self.signers: ports.Rows[model.Signer] = SqlRows(model.Signer, *place)
        self.upstream_keys: ports.Rows[model.UpstreamKey] = SqlRows(model.UpstreamKey, *place)
        self.profiles: ports.Rows[model.Profile] = SqlRows(model.Profile, *place)
        self.profile_versions: ports.Rows[model.ProfileVersion] = SqlRows(model.ProfileVersion, *place)
        self.tickets: ports.Rows[model.Ticket] = SqlRows(model.Ticket, *place)
        self.instances: ports.Instances = SqlInstances(model.Instance, *place)
        self.certificates: ports.Certificates = SqlCertificates(model.Certificate, *place)
        self.nonces: ports.Rows[model.Nonce] = SqlRows(model.Nonce, *place)
        self.leases: ports.Leases = SqlLeases(model.Lease, *place)
        self.flights: ports.Rows[model.Flight] = SqlRows(model.Flight, *place)
        self.bearer_tokens: ports.Rows[model.BearerToken] = SqlRows(model.BearerToken, *place)
        self.dummy_keys: ports.Rows[model.DummyKey] = SqlRows(model.DummyKey, *place)
        self.meters: ports.Rows[model.Meter] = SqlRows(model.Meter, *place)
        self.operators: ports.Rows[operator_model.Operator] = SqlRows(operator_model.Operator, *place)
        self.roles: ports.Rows[operator_model.Role] = SqlRows(operator_model.Role, *place)
        self.approvals: ports.Rows[operator_model.Approval] = SqlRows(operator_model.Approval, *place)
        self.answers: ports.Rows[operator_model.KeptAnswer] = SqlRows(operator_model.KeptAnswer, *place)
        self.revocations: ports.Rows[operator_model.Revocation] = SqlRows(operator_model.Revocation, *place)
        self.cuts: ports.Rows[operator_model.Cut] = SqlRows(operator_model.Cut, *place)
        self.fences: ports.Rows[operator_model.Fence] = SqlRows(operator_model.Fence, *place)
        self.rotations: ports.Rows[operator_model.Rotation] = SqlRows(operator_model.Rotation, *place)
        self.launches: ports.Rows[operator_model.Launch] = SqlRows(operator_model.Launch, *place)
        self.checkpoints: ports.Rows[operator_model.Checkpoint] = SqlRows(operator_model.Checkpoint, *place)
        self.findings: ports.Rows[operator_model.Finding] = SqlRows(operator_model.Finding, *place)
        self.cursors: ports.Rows[operator_model.Cursor] = SqlRows(operator_model.Cursor, *place)
        self.crls: ports.Rows[model.Crl] = SqlRows(model.Crl, *place)
        self.audit = audit


def snapshot(connection: Connection) -> SqlTransaction:
    """The transaction of a read: what would change something raises TypeError."""
    return SqlTransaction(connection, ReadLog(connection), _read_only)


def _read_only() -> None:
    raise TypeError("a read changes nothing")


class Batch:
    """Many units in one transaction, each all or nothing. Raises Refusal as `ChainedLog` does."""

    def __init__(self, connection: Connection, chain: str, now: datetime) -> None:
        self._connection = connection
        self._changed = False
        self._log = ChainedLog(connection, chain, now, self._before_change)
        self._transaction = SqlTransaction(connection, self._log, self._before_change)

    def run(self, unit: Callable[[ports.Transaction], Any], answer: "Future[Any]") -> Callable[[], None]:
        """Run one unit, and return what will settle its answer. Raises when the engine failed."""
        mark = self._log.mark()
        try:
            value = unit(self._transaction)
            if self._changed:
                self._say("RELEASE SAVEPOINT unit")
            return partial(answer.set_result, value)
        except BaseException as error:
            if self._connection.invalidated:
                raise
            if self._changed:
                self._say("ROLLBACK TO SAVEPOINT unit")
                self._say("RELEASE SAVEPOINT unit")
            self._log.back_to(mark)
            return partial(answer.set_exception, error)
        finally:
            self._changed = False

    def finish(self) -> list[Event]:
        """Write the batch's audit records, and return them; the transaction can commit after it."""
        self._log.flush()
        return self._log.appended

    def _before_change(self) -> None:
        # A unit that only appends to the log needs no savepoint: its records are in memory still.
        if not self._changed:
            self._say("SAVEPOINT unit")
            self._changed = True

    def _say(self, statement: str) -> None:
        self._connection.exec_driver_sql(statement)  # begin_nested() compiles its statements anew each time: 100 µs

"""What operators do with profiles: look, apply, go back. Each leaves one decision; each version is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core import profile
from gateway.core.audit import Kind
from gateway.core.errors import Refusal
from gateway.core.model import Profile, ProfileVersion
from gateway.core.precondition import ANYTHING, Expected
from gateway.flows.journal import Call, Journal
from gateway.ports import Clock, SecretDetector, Store, Transaction


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of it: the profile in force (or that would be), whether it is another than before, and which that
    was.
    """

    profile: Profile
    changed: bool
    previous: int | None


class Profiles:
    """Raises Refusal."""

    def __init__(
        self, store: Store, journal: Journal, detector: SecretDetector, clock: Clock, *, source_address: bool
    ) -> None:
        self._store = store
        self._journal = journal
        self._detector = detector
        self._clock = clock
        self._source_address = source_address

    def vet(self, name: str, document: Mapping[str, Any]) -> None:
        """Raises Refusal for a document that would not be applied, whatever is in force."""
        self._read(name, profile.normal(document))

    def apply(
        self,
        call: Call,
        name: str,
        document: Mapping[str, Any],
        expected: Expected = ANYTHING,
        *,
        dry_run: bool = False,
    ) -> Applied:
        """Validate and keep a profile; the same document again changes nothing, and neither does a dry run."""
        call.object = f"profile/{name}"
        document = profile.normal(document)
        rules = self._read(name, document)

        def unit(tx: Transaction) -> Applied:
            return self._put(call, tx, rules, document, expected, dry_run=dry_run)

        return self._journal.write(call, unit)

    def roll_back(self, call: Call, name: str, version: int, expected: Expected = ANYTHING) -> Applied:
        """Apply the document of an earlier version anew, if it is valid by the rules of today."""
        call.object = f"profile/{name}"
        with self._store.read() as tx:
            document = profile.normal(_version_of(tx, name, version).document)
        rules = self._read(name, document)

        def unit(tx: Transaction) -> Applied:
            return self._put(call, tx, rules, document, expected, from_version=version)

        return self._journal.write(call, unit)

    def all(self, call: Call) -> list[Profile]:
        """All profiles."""
        self._journal.allow(call)
        with self._store.read() as tx:
            return list(tx.profiles.find())

    def one(self, call: Call, name: str, version: int | None) -> ProfileVersion:
        """A profile as it is in force, or as it was applied as this version."""
        call.object = f"profile/{name}"
        with self._store.read() as tx:
            found = _version_of(tx, name, version)
        self._journal.allow(call, version=found.version)
        return found

    def versions(self, call: Call, name: str) -> Sequence[ProfileVersion]:
        """Every version of a profile, the latest first."""
        call.object = f"profile/{name}"
        with self._store.read() as tx:
            _in_force(tx, name)
            found = tx.profile_versions.find(name=name)
        self._journal.allow(call)
        return sorted(found, key=lambda each: each.version, reverse=True)

    def _read(self, name: str, document: Mapping[str, Any]) -> profile.ProfileRules:
        rules = profile.read(document, source_address=self._source_address)
        if rules.name != name:
            fault = "name: differs from the name in the path"
            raise Refusal("profile_invalid", fault, faults=(fault,))
        if rules.launch and (found := self._detector(rules.launch.user_data)):
            faults = tuple(f"launch.user_data: {each}" for each in found)
            raise Refusal("profile_invalid", "; ".join(faults), reason="user_data_refused", faults=faults)
        return rules

    def _put(
        self,
        call: Call,
        tx: Transaction,
        rules: profile.ProfileRules,
        document: Mapping[str, Any],
        expected: Expected,
        *,
        dry_run: bool = False,
        from_version: int | None = None,
    ) -> Applied:
        if tx.upstream_keys.get(name=rules.upstream) is None:
            fault = f"upstream: no upstream key is named {rules.upstream!r}"
            raise Refusal("upstream_key_unknown", fault, faults=(fault,))
        before = tx.profiles.get(name=rules.name)
        expected.demand(before.version if before else None)
        number, now = before.version + 1 if before else 1, self._clock()
        after = Profile(rules.name, number, dict(document), now, call.subject or "")
        changed = before is None or before.revoked is not None or profile.normal(before.document) != after.document
        if before is not None and not changed:
            after = before
        if changed and not dry_run:
            kept = tx.profiles.swap(before, after) if before else tx.profiles.add(after)
            if not kept or not tx.profile_versions.add(_as_version(after)):
                raise Refusal("conflict")
        facts: dict[str, Any] = {"version": after.version, "grants": sorted(rules.grants), "changed": changed}
        facts |= {"dry_run": True} if dry_run else {}
        facts |= {"from_version": from_version} if from_version else {}
        tx.audit.append(call.event(Kind.DECISION, **facts))
        return Applied(after, changed, before.version if before else None)


def _in_force(tx: Transaction, name: str) -> Profile:
    found = tx.profiles.get(name=name)
    if found is None:
        raise Refusal("profile_unknown")
    return found


def _version_of(tx: Transaction, name: str, version: int | None) -> ProfileVersion:
    current = _in_force(tx, name)
    if version is None or version == current.version:
        return _as_version(current)
    found = tx.profile_versions.get(id=_id(name, version))
    if found is None:
        raise Refusal("profile_unknown", f"There is no version {version}")
    return found


def _id(name: str, version: int) -> str:
    return f"{name}/{version:08d}"


def _as_version(applied: Profile) -> ProfileVersion:
    return ProfileVersion(
        _id(applied.name, applied.version),
        applied.name,
        applied.version,
        applied.document,
        applied.applied_at,
        applied.applied_by,
    )

"""Expectations: what a policy shall allow, and what not, as a document that a person writes. Pure.

    policy: reports.json          # or a policy itself, or a list of both; or `statements:`, or `condition:`
    cases:
      - {action: s3:GetObject, resource: "arn:aws:s3:::reports/q1.csv", expect: allowed}

What stands above (`policy`, `action`, `resource`, `context`, `page`) holds for all below that do not say otherwise:
a document may have `groups`, a group has `cases`. A list of actions or resources is a case for each of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from gateway.core.policy.document import VERSION
from gateway.core.policy.judge import Ask, Context, Judge, Named
from gateway.wire.strict import Malformed

EXPECTED = ("allowed", "denied", "not_allowed", "malformed")
"""What a decision can be; `malformed`: IAM would refuse the policy, and so do we."""
UNKNOWN = "unknown"
"""An action or a resource that cannot be known."""

_POLICIES = ("policy", "statements", "condition")
_INHERITED = {*_POLICIES, "action", "resource", "context", "page"}
_FIELDS = {
    "document": _INHERITED | {"about", "cases", "groups"},
    "group": _INHERITED | {"what", "cases"},
    "case": _INHERITED | {"expect", "why"},
}

Load = Callable[[str], Sequence[Named]]
"""The policies in a file that a document names. Raises Malformed."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question, and what shall come of it. `place` is where it stands: `groups[1].cases[3]`."""

    place: str
    what: str
    policies: tuple[Named, ...]
    ask: Ask
    expect: str
    why: str
    page: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `statements` decided; for a malformed policy they are its faults."""

    case: Case
    found: str
    statements: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.found == self.case.expect


@dataclass(frozen=True, slots=True)
class _Above:
    """What holds for all below."""

    policies: tuple[Named, ...] = ()
    action: tuple[str, ...] = ()
    resource: tuple[str, ...] = ()
    context: Context | None = None
    page: str = ""
    what: str = ""


def read(document: object, load: Load) -> tuple[Case, ...]:
    """Every case of a document. Raises Malformed: all faults at once, each as `path: what is wrong`; no case at all."""
    faults: list[str] = []
    cases = list(_document(document, load, faults))
    if not cases and not faults:
        faults.append("cases: there is none")
    if faults:
        raise Malformed(*faults)
    return tuple(cases)


def run(cases: Sequence[Case], judge: Judge) -> tuple[Outcome, ...]:
    """What comes of each, in order."""
    return tuple(_outcome(case, judge) for case in cases)


def _outcome(case: Case, judge: Judge) -> Outcome:
    try:
        decision = judge(case.policies, case.ask)
    except Malformed as malformed:
        return Outcome(case, "malformed", malformed.faults)
    return Outcome(case, decision.kind, tuple(decision.statements))


def _document(document: object, load: Load, faults: list[str]) -> Iterator[Case]:
    if not isinstance(document, dict):
        faults.append("body: must be an object")
        return
    _unknown(document, "document", "", faults)
    above = _below(_Above(), document, "", load, faults)
    yield from _cases(document.get("cases", []), "cases", above, load, faults)
    groups = document.get("groups", [])
    if not isinstance(groups, list):
        faults.append("groups: must be a list")
        return
    for i, group in enumerate(groups):
        where = f"groups[{i}]"
        if not isinstance(group, dict):
            faults.append(f"{where}: must be an object")
            continue
        _unknown(group, "group", f"{where}.", faults)
        inner = replace(above, what=str(group.get("what", "")))
        inner = _below(inner, group, f"{where}.", load, faults)
        yield from _cases(group.get("cases"), f"{where}.cases", inner, load, faults)


def _cases(found: object, where: str, above: _Above, load: Load, faults: list[str]) -> Iterator[Case]:
    if not isinstance(found, list):
        faults.append(f"{where}: must be a list")
        return
    for i, written in enumerate(found):
        place = f"{where}[{i}]"
        if not isinstance(written, dict):
            faults.append(f"{place}: must be an object")
            continue
        _unknown(written, "case", f"{place}.", faults)
        own = _below(above, written, f"{place}.", load, faults)
        if written.get("expect") not in EXPECTED:
            faults.append(f"{place}.expect: must be one of {', '.join(EXPECTED)}")
        missing = [name for name in ("action", "resource") if not getattr(own, name)]
        missing += ["policy"] if not own.policies else []
        faults += [f"{place}: has no {name}, and nothing above has" for name in missing]
        why = written.get("why", "")
        for action, resource in product(own.action, own.resource):
            ask = Ask(_known(action), _known(resource), own.context or {})
            yield Case(place, own.what, own.policies, ask, str(written.get("expect")), str(why), own.page)


def _below(above: _Above, written: Mapping[str, Any], where: str, load: Load, faults: list[str]) -> _Above:
    """What holds with this put over what holds above."""
    changed: dict[str, Any] = {}
    for name in ("action", "resource"):
        if name in written:
            changed[name] = _texts(written[name], f"{where}{name}", faults)
    if "context" in written:
        changed["context"] = {**(above.context or {}), **_context(written["context"], f"{where}context", faults)}
    if "page" in written:
        changed["page"] = str(written["page"])
    present = [name for name in _POLICIES if name in written]
    if len(present) > 1:
        faults.append(f"{where}{present[1]}: stands beside {present[0]}")
    elif present:
        try:
            changed["policies"] = tuple(_policies(present[0], written[present[0]], load))
        except Malformed as malformed:
            faults += [f"{where}{present[0]}: {fault}" for fault in malformed.faults]
    return replace(above, **changed)


def _policies(kind: str, written: Any, load: Load) -> Iterator[Named]:
    if kind == "condition":
        allow = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": written}
        yield Named("policy", {"Version": VERSION, "Statement": [allow]})
    elif kind == "statements":
        yield Named("policy", {"Version": VERSION, "Statement": written})
    else:
        several = written if isinstance(written, list) else [written]
        for i, each in enumerate(several):
            if isinstance(each, str):
                yield from load(each)
            elif isinstance(each, dict):
                yield Named(f"policy {i + 1}" if len(several) > 1 else "policy", each)
            else:
                raise Malformed("must be a file's name or a policy")


def _context(written: object, where: str, faults: list[str]) -> Context:
    """Numbers and truth values are taken as IAM has them: as text."""
    if not isinstance(written, dict):
        faults.append(f"{where}: must be an object")
        return {}
    found: dict[str, str | tuple[str, ...]] = {}
    for key, value in written.items():
        several = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str | int | float) for each in several):
            faults.append(f"{where}.{ascii(key)[1:-1][:40]}: must be a text, or a list of such")
            continue
        texts = tuple(str(each).lower() if isinstance(each, bool) else str(each) for each in several)
        found[key.lower()] = texts if isinstance(value, list) else texts[0]
    return found


def _texts(written: object, where: str, faults: list[str]) -> tuple[str, ...]:
    several = written if isinstance(written, list) else [written]
    if not several or not all(isinstance(each, str) and each for each in several):
        faults.append(f"{where}: must be a text, or a list of such")
        return (UNKNOWN,)
    return tuple(several)


def _known(written: str) -> str | None:
    return None if written == UNKNOWN else written


def _unknown(written: Mapping[str, Any], kind: str, where: str, faults: list[str]) -> None:
    faults += [f"{where}{ascii(key)[1:-1][:40]}: is not known here" for key in written if key not in _FIELDS[kind]]

"""Commands about policies: lint them, ask them, test them; and hold them against what instances did."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from gateway.cli import show
from gateway.cli.failure import Failure
from gateway.cli.policy_traffic import replay_command, suggest_command
from gateway.cli.show import JSON

WORDS = {"allowed": "allowed", "denied": "denied", "not_allowed": "not allowed", "malformed": "malformed"}

GRANT = click.option("--grant", metavar="NAME", help="Which of a profile's grants, if it has several.")
SUPPOSED = click.option(
    "--set", "supposed", multiple=True, metavar="NAME=VALUE", help="A template's value: instance.tags.team=web."
)


@click.group()
def policy() -> None:
    """Policies: what they allow, and whether that is what is meant."""


policy.add_command(replay_command)
policy.add_command(suggest_command)


@policy.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, path_type=Path))
@click.option("--strict", is_flag=True, help="Fail for hints, too.")
@JSON
def check(files: tuple[Path, ...], strict: bool, raw: bool) -> None:
    """Check policies (.json, .yaml, .toml), or those in profiles, and hint at what is odd in them."""
    from gateway.adapters.action_catalog import action_names
    from gateway.cli import policy_file
    from gateway.core.policy import document, lint
    from gateway.core.policy.intersect import minified

    faults: list[str] = []
    hints: list[str] = []
    found: list[dict[str, Any]] = []
    for path in files:
        read = policy_file.read(path)
        faulty = read.faults()
        faults += faulty
        for entry in () if faulty else read.entries:
            if entry.document is None:
                continue
            odd = [
                f"{path}:{read.line(entry, each)}: {each}" for each in lint.hints(dict(entry.document), action_names)
            ]
            hints += odd
            letters = len(minified(entry.document))
            if letters > document.LONGEST:
                odd.append(f"{path}: has {letters} letters, and AWS takes {document.LONGEST}")
                hints.append(odd[-1])
            count = len(document.statements(dict(entry.document)))
            found.append({"file": str(path), "grant": entry.grant, "statements": count, "letters": letters,
                          "hints": odd})  # fmt: skip
    if raw:
        show.as_json({"policies": found, "faults": faults})
    else:
        for hint in hints:
            show.line(hint)
        for each in found:
            grant = f", grant {each['grant']}" if each["grant"] else ""
            counts = f"{each['statements']} statement(s), {each['letters']} letters, {len(each['hints'])} hint(s)"
            show.line(f"{each['file']}{grant}: valid; {counts}")
    if faults:
        lines = () if raw else tuple(faults)
        raise Failure(f"{len(faults)} fault(s)", "policy_invalid", policy_file.HINT, lines)
    if strict and hints:
        raise Failure(f"{len(hints)} hint(s)", "policy_doubtful", "Without --strict, hints are told and taken.")


@policy.command()
@click.option("--policy", "files", multiple=True, required=True, metavar="FILE", type=click.Path(path_type=Path),
              help="A policy, or a profile; several decide together.")  # fmt: skip
@click.option("--action", required=True, help="As IAM calls it: s3:GetObject; 'unknown' for one that cannot be known.")
@click.option("--resource", required=True, help="An ARN, or *; 'unknown' for one that cannot be known.")
@click.option("--context", "given", multiple=True, metavar="KEY=VALUE", help="A condition key; a key twice has both.")
@GRANT
@SUPPOSED
@JSON
@click.pass_context
def explain(
    context: click.Context,
    files: tuple[Path, ...],
    action: str,
    resource: str,
    given: tuple[str, ...],
    grant: str | None,
    supposed: tuple[str, ...],
    raw: bool,
) -> None:
    """Decide one request, and tell which statements decided, and why the others did not match.

    Exit status 0 if it is allowed, 1 if it is not.
    """
    from gateway.cli import policy_file
    from gateway.core.policy.expectations import UNKNOWN
    from gateway.core.policy.explain import explain as explained
    from gateway.core.policy.judge import Ask, Judge, Named, supposing

    values = {name: several[-1] for name, several in _pairs(supposed, "--set").items()}
    policies: list[Named] = []
    missing: set[str] = set()
    for path in files:
        read = policy_file.valid(path)
        entry = read.one(grant)
        named, without = supposing(read.named(entry), read.values(entry) | values)
        policies.append(named)
        missing |= without
    keys = {
        key: tuple(several) if len(several) > 1 else several[0] for key, several in _pairs(given, "--context").items()
    }
    ask = Ask(None if action == UNKNOWN else action, None if resource == UNKNOWN else resource, keys)
    judge = Judge()
    decision = judge(policies, ask)
    statements = explained(policies, ask, judge)
    if raw:
        told = [{"name": each.name, "effect": each.effect, "matches": not each.failing, "failing": each.failing}
                for each in statements]  # fmt: skip
        show.as_json({"decision": decision.kind, "decided_by": decision.statements, "statements": told,
                      "templates_without_value": sorted(missing)})  # fmt: skip
    else:
        by = ", ".join(decision.statements) or "no statement allows it"
        show.line(f"{WORDS[decision.kind]}: {by}")
        for each in statements:
            verdict = f"does not match: {', '.join(each.failing)}" if each.failing else "matches"
            show.line(f"  {each.name}, {each.effect}: {verdict}")
        if missing:
            show.line(f"  templates without a value (see --set): {', '.join(sorted(missing))}")
    context.exit(0 if decision else 1)


@policy.command("test")
@click.argument("file", type=click.Path(path_type=Path))
@SUPPOSED
@JSON
def test_(file: Path, supposed: tuple[str, ...], raw: bool) -> None:
    """Run the expectations in FILE (.yaml, .toml): what policies shall allow, and what not."""
    from gateway.cli import policy_file
    from gateway.core.policy import expectations
    from gateway.core.policy.judge import Judge, Named, supposing
    from gateway.wire.strict import Malformed

    values = {name: several[-1] for name, several in _pairs(supposed, "--set").items()}

    def load(name: str) -> list[Named]:
        written, _, grant = name.partition("#")
        try:
            read = policy_file.read(file.parent / written)
            entry = read.one(grant or None)
            return [supposing(read.named(entry), read.values(entry) | values)[0]]
        except Failure as failure:
            raise Malformed(str(failure)) from None

    content, place = policy_file.structure(file, policy_file.text(file))
    try:
        cases = expectations.read(content, load)
    except Malformed as malformed:
        lines = [f"{file}:{place.of(fault).line}: {fault}" for fault in malformed.faults]
        raise policy_file.refused(file, lines) from None
    outcomes = expectations.run(cases, Judge())
    failing = [each for each in outcomes if not each]
    lines_of = [place.of(f"{each.case.place}:").line for each in outcomes]
    if raw:
        show.as_json([_told(outcome, line) for outcome, line in zip(outcomes, lines_of, strict=True)])
    else:
        show.table(
            ("", "LINE", "ACTION", "RESOURCE", "EXPECTED", "IS", "BY"),
            [
                ("ok" if each else "FAILS", str(line), each.case.ask.action or "unknown",
                 each.case.ask.resource or "unknown", WORDS[each.case.expect], WORDS[each.found],
                 ", ".join(each.statements) or "-")
                for each, line in zip(outcomes, lines_of, strict=True)
            ],
            "there is no expectation",
        )  # fmt: skip
    if failing:
        text = f"{len(failing)} of {len(outcomes)} expectation(s) fail"
        raise Failure(text, "expectation_failed", "'trusted-gateway policy explain' tells why.")
    if not raw:
        show.line(f"{len(outcomes)} expectation(s) hold")


def _told(outcome: Any, line: int) -> dict[str, Any]:
    case = outcome.case
    return {
        "line": line,
        "what": case.what,
        "action": case.ask.action,
        "resource": case.ask.resource,
        "context": dict(case.ask.context),
        "expected": case.expect,
        "decision": outcome.found,
        "decided_by": list(outcome.statements),
        "holds": bool(outcome),
    }


def _pairs(written: Iterable[str], option: str) -> dict[str, list[str]]:
    """`KEY=VALUE` as often as it was given. Raises UsageError."""
    found: dict[str, list[str]] = {}
    for each in written:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{option} is written KEY=VALUE.")
        found.setdefault(key, []).append(value)
    return found

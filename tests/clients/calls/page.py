"""The part of docs/clients.md about calls, from what the last long run showed."""

from typing import Any

from tests.clients.calls import differences
from tests.clients.calls.table import BY_NAME
from tests.clients.calls.ways import MARKS

_HEAD = """
# Calls

The same clients where nothing is vended: they speak to the agent's endpoint, which has each call signed for (`sign`) or
carried (`proxy`) by the gateway ([Calls](calls.md)). Each did its jobs three times: directly at the local AWS with a
user's key, and by both ways with the dummy key of a grant. Status, headers and body of every answer were compared, and
the bytes that AWS got; of {run}.

| client | jobs | direct | sign | proxy | forms of payload |
|---|---|---|---|---|---|
"""
_DIFFERENCES = """
What may differ from the direct call, and why:

| | |
|---|---|
"""


def render(results: dict[str, Any]) -> str:
    """The part, or nothing when there was no such run."""
    found = results.get("calls")
    if not found:
        return ""
    text = _HEAD.format(run=found["run"])
    text += "".join(_row(name, jobs, found) for name, jobs in found["faults"].items())
    text += "".join(f"| {name} | {why} | | | | |\n" for name, why in found["not_run"].items())
    remarks = [
        f"- {name}: {BY_NAME[name].remark}\n" for name in found["faults"] if name in BY_NAME and BY_NAME[name].remark
    ]
    text += "\n" + "".join(remarks) + _sizes(found.get("sizes", {})) + _DIFFERENCES
    for name, why in differences.OF_AN_ANSWER.items():
        text += f"| `{name}` | {why} |\n"
    for why in dict.fromkeys([*differences.IN_A_BODY.values(), *differences.BY_STATUS_ONLY.values()]):
        text += f"| in a body | {why} |\n"
    return text


def _row(name: str, jobs: dict[str, dict[str, list[str]]], found: dict[str, Any]) -> str:
    modes = [f"`{mode}`" if mode.isupper() else mode for mode in found["modes"][name]]
    columns = [_held(jobs, way) for way in MARKS]
    return f"| {name} | {', '.join(jobs)} | {' | '.join(columns)} | {', '.join(modes)} |\n"


def _held(jobs: dict[str, dict[str, list[str]]], way: str) -> str:
    wrong = [job for job, ways in jobs.items() if ways[way]]
    return f"**no**: {', '.join(wrong)}" if wrong else "yes"


def _sizes(sizes: dict[str, Any]) -> str:
    if not sizes:
        return ""
    text = "\nBodies of {size} GiB, to a sink that verifies signatures and keeps nothing:\n\n".format(size=sizes["gib"])
    text += "| | by | MB/s | agent's memory grew by | gateway's |\n|---|---|---|---|---|\n"
    for row in sizes["rows"]:
        agent, gateway = (f"{row['grown'][name]} MiB" for name in ("agent", "gateway"))
        text += f"| {row['what']} | {row['way']} | {row['rate']} | {agent} | {gateway} |\n"
    return text

"""What the documents hold, and what the program says of itself.

`python -m tests.documents` writes the parts of docs/ that come from the program.
"""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import click

from deploy.demo import REPOSITORY
from gateway.cli.main import cli
from gateway.wire.problems import PROBLEMS

DOCS = REPOSITORY / "docs"
GENERATED = ("cli.md", "problems.md", "threats.md")
CODE = re.compile(r"`([^`\n]+)`")
COMMANDS = """# Commands

What `--help` says, command by command. [Ten sessions](sessions.md) shows the commonest ones at work.

- Every command that answers something takes `--json`; every list takes `--watch`. Long lists take filters.
- Errors go to standard error: one line with a code ([Problems](problems.md)), and a hint. Exit status: 0 done,
  1 failed, 2 a wrong command line, 130 broken off; 3 when `audit reconcile` or `audit findings` found something.
- What takes many things down, or cannot be undone, says what will be lost and asks. `--yes` answers for a script, and
  without a terminal nothing happens that was not answered. `revoke` of one thing, and `approval refuse`, never ask.
- Shells: `eval "$(trusted-gateway completion bash)"` in `~/.bashrc`, `completion zsh` likewise; for fish
  `trusted-gateway completion fish > ~/.config/fish/completions/trusted-gateway.fish`. Names of instances, profiles,
  keys and the like are completed when the gateway answers within a second. Asking for them is recorded as any list is.
- Manual pages: `python -m gateway.cli.man /usr/local/share/man/man1` writes one for each command of the install that
  this Python has; `make man` does in a clone.
"""


def words(text: str) -> list[str]:
    """All that is `code` in running text and tables."""
    return CODE.findall(re.sub(r"(?ms)^```.*?^```$", "", text))


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of every table whose first column has this heading, without the heading itself."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0].strip("| ") == heading:
            inside = True
        elif inside and not line.startswith("|---"):
            found.append(cells)
    return found


def named(text: str, heading: str) -> list[str]:
    """What is `code` in the first column of these tables."""
    return [name for row in table(text, heading) for name in CODE.findall(row[0])]


def differences(what: str, documented: list[str], real: set[str]) -> list[str]:
    """In words: what is missing, what is there that is not real, what is there twice."""
    faults = [f"{what} {name}: is not documented" for name in sorted(real - set(documented))]
    faults += [f"{what} {name}: is documented, and is not there" for name in sorted(set(documented) - real)]
    return faults + [f"{what} {name}: twice" for name in sorted(set(documented)) if documented.count(name) > 1]


# What the program says of itself


def commands() -> dict[str, str]:
    """The help of every command, by its full name."""
    found: dict[str, str] = {}

    def walk(command: click.Command | None, name: str, parent: click.Context | None) -> None:
        assert command is not None
        extra = {} if parent else {"terminal_width": 100, **command.context_settings}
        context = click.Context(command, info_name=name.split()[-1], parent=parent, **extra)
        found[name] = command.get_help(context)
        if isinstance(command, click.Group):
            for each in command.list_commands(context):
                walk(command.get_command(context, each), f"{name} {each}", context)

    walk(cli, "trusted-gateway", None)
    overview = _agent_help()
    found["trusted-gateway-agent"] = overview
    for each in re.findall(r"^    ([a-z-]+)(?: |$)", overview, re.MULTILINE):
        found[f"trusted-gateway-agent {each}"] = _agent_help(each)
    return found


def _agent_help(*command: str) -> str:
    run = [sys.executable, "-m", "agent.main", *command, "--help"]
    environment = {**os.environ, "COLUMNS": "102"}
    return subprocess.run(run, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


@cache
def shown_by() -> dict[str, list[str]]:
    """Threat id → the test modules that name it, in a mark or in a function's name."""
    found: dict[str, set[str]] = {}
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            ids: list[Any] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "threat":
                ids = [each.value for each in node.args if isinstance(each, ast.Constant)]
            elif isinstance(node, ast.FunctionDef) and (match := re.match(r"test_([a-k][0-9]{2})_", node.name.lower())):
                ids = [match[1].upper()]
            for each in ids:
                found.setdefault(each, set()).add(path.relative_to(REPOSITORY).as_posix())
    return {each: sorted(found[each]) for each in sorted(found)}


def constants(root: str, call: str, position: int | str) -> set[str]:
    """The words that stand in this place of every call of this name."""
    found = set()
    for path in (REPOSITORY / root).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and call in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")):
                given = [value for place, value in _arguments(node) if place == position]
                found |= {v.value for v in given if isinstance(v, ast.Constant) and isinstance(v.value, str)}
    return found


def _arguments(call: ast.Call) -> list[tuple[int | str | None, ast.expr]]:
    return [*enumerate(call.args), *((keyword.arg, keyword.value) for keyword in call.keywords)]


# The parts that come from the program


def written(page: str, text: str) -> str:
    """The page as it has to be."""
    if page == "cli.md":
        text = COMMANDS
        for name, said in commands().items():
            text += f"\n## {name}\n```\n{said.strip()}\n```\n"
    elif page == "problems.md":
        rows = [f"| `{p.code}` | {p.status} | {p.title} | {p.hint} |" for p in PROBLEMS.values()]
        content = "\n".join(["| code | status | title | hint |", "|---|---|---|---|", *rows])
        text = re.sub(r"(?s)(tests.documents -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{content}\n{m[2]}", text)
    elif page == "threats.md":

        def row(match: re.Match[str]) -> str:
            links = [f"[{Path(path).stem}](../{path})" for path in shown_by().get(match[2], ())]
            return f"{match[1]} {', '.join(links)} |" if links else f"{match[1]} |"

        text = re.sub(r"(?m)^(\| ([A-K][0-9]{2}) \|.*?\|.*?\|).*$", row, text)
    return text


if __name__ == "__main__":
    for page in GENERATED:
        path = DOCS / page
        path.write_text(written(page, path.read_text() if path.exists() else ""))

"""Do the tests notice? Each mutant of the policy engine is a small change of its code; the engine's tests should fail.

    python -m tests.mutation [MODULE …] [--every N] [--show]

A mutant is made in memory, in a process of its own that starts with pytest loaded; no file changes. What is left alive
is printed, and is either a test that is missing or a change that changes nothing.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "gateway.core.policy"
MODULES = ("literals", "variables", "matching", "operators", "compiled", "engine")
QUICK, THOROUGH = (
    [f"tests/gateway/core/policy/test_{name}.py" for name in names]
    for names in (("operators", "engine"), ("laws", "differential"))
)
LONGEST = 60  # seconds of CPU; a mutant that takes more is noticed, too

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip


def mutants(tree: ast.Module) -> Iterator[tuple[ast.Module, str]]:
    """Every changed copy of the tree, and what was changed in which line."""
    documented = _texts_that_do_nothing(tree)
    for place, node in enumerate(ast.walk(tree)):
        if node in documented or isinstance(node, ast.JoinedStr):
            continue
        for change, changed in enumerate(_changes(node)):
            whole = copy.deepcopy(tree)
            twin = next(each for i, each in enumerate(ast.walk(whole)) if i == place)
            list(_changes(twin, apply=change))
            yield ast.fix_missing_locations(whole), f"{getattr(node, 'lineno', '?')}: {changed}"


def _texts_that_do_nothing(tree: ast.Module) -> set[ast.AST]:
    """Documentation, annotations, and what is said to people."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        silent: list[ast.AST | None] = []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent = [node, node.value]
        elif isinstance(node, ast.AnnAssign | ast.arg):
            silent = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            silent = [node.returns]
        elif isinstance(node, ast.Raise):
            silent = list(node.exc.args) if isinstance(node.exc, ast.Call) else []
        elif isinstance(node, ast.Assign | ast.Call):
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.func)
            silent = [node] if name in ("__slots__", "__all__", "TypeVar", "dataclass", "lru_cache") else []
        found |= {inner for each in silent if each is not None for inner in ast.walk(each)}
    return found


def _changes(node: ast.AST, apply: int | None = None) -> Iterator[str]:
    """What can be changed in this node; the change of the number `apply` is made."""
    options: list[tuple[str, str, object]] = []
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
        options = [(ast.unparse(node), "ops", [_SWAPS[type(node.ops[0])](), *node.ops[1:]])]
    elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in _SWAPS:
        options = [(ast.unparse(node), "op", _SWAPS[type(node.op)]())]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        options = [(ast.unparse(node), "op", ast.UAdd())]
    elif isinstance(node, ast.If | ast.IfExp):
        options = [
            (f"if {ast.unparse(node.test)}: always", "test", ast.Constant(True)),
            (f"if {ast.unparse(node.test)}: never", "test", ast.Constant(False)),
        ]
    elif isinstance(node, ast.Return) and node.value is not None:
        wrong = ast.UnaryOp(ast.Not(), node.value)
        options = [(f"not {ast.unparse(node)}", "value", wrong)]
        if ast.unparse(node.value) not in ("None", "False"):
            options.append((f"{ast.unparse(node)}: None", "value", ast.Constant(None)))
    elif isinstance(node, ast.Raise):
        options = [(ast.unparse(node), "exc", ast.Name("KeyError", ast.Load()))]
    elif isinstance(node, ast.Constant):
        other = _other(node.value)
        options = [] if other is None else [(f"{node.value!r} becomes {other!r}", "value", other)]
    elif isinstance(node, ast.Call) and len(node.args) == 2:
        options = [(f"{ast.unparse(node)}: arguments turned round", "args", node.args[::-1])]
    for i, (shown, field, value) in enumerate(options):
        if i == apply:
            setattr(node, field, value)
        yield shown


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value + "x" if isinstance(value, str) else None


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a tree."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        self._module, self._tree = module, tree

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._module else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, f"<mutant of {self._module}>", "exec"), module.__dict__)  # noqa: S102


def survives(module: str, tree: ast.Module) -> bool:
    """Whether the tests pass with this tree as the module."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.meta_path.insert(0, _Instead(module, tree))
    os._exit(any(pytest.main(["-x", "-q", "-o", "timeout=0", *tests]) for tests in (QUICK, THOROUGH)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=MODULES, help=f"of {PACKAGE}; all of: {' '.join(MODULES)}")
    parser.add_argument("--every", type=int, default=1, help="try only every nth mutant")
    parser.add_argument("--show", action="store_true", help="list the mutants, and try none")
    options = parser.parse_args()
    os.chdir(ROOT)
    tried = alive = 0
    for name in options.modules:
        module = f"{PACKAGE}.{name}"
        tree = ast.parse((ROOT / "gateway" / "core" / "policy" / f"{name}.py").read_text())
        if not options.show and survives(module, tree) is False:
            sys.exit(f"the tests of {module} fail without a mutant")
        for mutant, what in list(mutants(tree))[:: options.every]:
            tried += 1
            if options.show:
                print(f"{name}.py:{what}")
            elif survives(module, mutant):
                alive += 1
                print(f"alive: {name}.py:{what}", flush=True)
    print(f"{tried} mutants" + ("" if options.show else f", {tried - alive} killed: {(tried - alive) / tried:.1%}"))


if __name__ == "__main__":
    main()

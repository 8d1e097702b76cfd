"""The shape of the code: who may import whom, how long a module may be, how things are called, what is in the wheel."""

import ast
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("agent", "certs", "gateway")


class Layer(NamedTuple):
    """What the modules of a package may import: modules of ours, by prefix, and libraries."""

    ours: tuple[str, ...]
    libraries: tuple[str, ...] = ()


CORE = ("gateway.core", "gateway.wire", "certs.reasons")
WEB = ("gateway.web", "gateway.flows", "gateway.ports", "gateway.core", "gateway.wire")
# The most exact prefix holds. What the table of the design does not have, has its reason here.
LAYERS = {
    "gateway": Layer(()),
    "gateway.wire": Layer(("gateway.wire",)),
    "certs": Layer(("certs",), ("cryptography",)),
    "certs.chain": Layer(("certs",), ("cryptography", "OpenSSL")),
    "gateway.core": Layer(CORE),
    "gateway.core.attest": Layer(CORE, ("cryptography", "asn1crypto")),
    "gateway.core.envelope": Layer(CORE, ("cryptography",)),
    "gateway.core.rolesanywhere": Layer(CORE, ("cryptography",)),
    # Ports speak of messages and of secrets, so they name the types of both.
    "gateway.ports": Layer(("gateway.core", "gateway.wire")),
    # Certificates and keys are values of `cryptography`: flows hand them to certs, and take them from there.
    "gateway.flows": Layer(
        ("gateway.flows", "gateway.ports", "gateway.core", "gateway.wire", "certs"), ("cryptography",)
    ),
    "gateway.adapters": Layer(("gateway.ports", "gateway.core", "gateway.wire")),
    # boto3 has no deadline for a whole call, and no limit on how many there are: the bulkhead has,
    # and the breaker knows when not to ask at all.
    "gateway.adapters.aws": Layer(
        ("gateway.adapters.breaker", "gateway.adapters.bulkhead", "gateway.ports", "gateway.core", "gateway.wire"),
        ("boto3", "botocore"),
    ),
    # The same library by the same client: it adds operations of EC2, and no second way to AWS.
    "gateway.adapters.aws_machines": Layer(
        ("gateway.adapters.aws", "gateway.ports", "gateway.core", "gateway.wire"),
    ),
    # And CloudTrail's, and the objects of a trail's bucket.
    "gateway.adapters.aws_cloudtrail": Layer(
        ("gateway.adapters.aws", "gateway.ports", "gateway.core", "gateway.wire"),
    ),
    # And operations of IAM; it asks botocore besides which partition a region is of.
    "gateway.adapters.aws_iam": Layer(
        ("gateway.adapters.aws", "gateway.ports", "gateway.core", "gateway.wire"), ("botocore",)
    ),
    "gateway.adapters.secret_detector": Layer(("gateway.core",), ("detect_secrets", "cryptography")),
    "gateway.adapters.certificate_files": Layer(("gateway.core", "gateway.wire"), ("cryptography",)),
    "gateway.adapters.seal_passphrase": Layer(("gateway.core", "gateway.wire"), ("cryptography",)),
    # AWS's models, addresses and actions: three adapters that read package data, in the nouns of `core.actions`.
    "gateway.adapters.aws_models": Layer(("gateway.core", "gateway.wire"), ("botocore",)),
    "gateway.adapters.aws_endpoints": Layer(("gateway.core", "gateway.wire"), ("botocore",)),
    "gateway.adapters.action_catalog": Layer(("gateway.core", "gateway.wire")),
    "gateway.adapters.throttle": Layer(("gateway.core",), ("limits",)),
    # joserfc is the part of Authlib that signs and verifies.
    "gateway.adapters.oidc": Layer(("gateway.ports", "gateway.core", "gateway.wire"), ("authlib", "joserfc")),
    "gateway.adapters.metrics": Layer(("gateway.core",), ("prometheus_client",)),
    "gateway.adapters.traces": Layer(("gateway.core",), ("opentelemetry",)),
    # One adapter in several modules.
    "gateway.adapters.sql": Layer(
        ("gateway.adapters.sql", "gateway.ports", "gateway.core", "gateway.wire"), ("sqlalchemy", "alembic")
    ),
    # The web names the ports that its routes are given (Throttle, Moved).
    "gateway.web": Layer(WEB, ("flask", "werkzeug")),
    "gateway.web.server": Layer(
        ("gateway.web.server", "gateway.core", "gateway.wire"), ("gunicorn", "uvloop", "httptools")
    ),
    # Settings are decoded as messages are, and durations are written as in profiles: both are pure.
    "gateway.settings": Layer(("gateway.core", "gateway.wire")),
    "gateway.bootstrap": Layer(("gateway", "certs")),
    "gateway.ceremonies": Layer(("gateway", "certs")),
    # What bootstrap makes of the adapters that tell the outside; with traces, a module that is not always loaded.
    "gateway.observation": Layer(("gateway",), ("flask",)),
    "gateway.traced": Layer(("gateway.adapters", "gateway.flows", "gateway.ports", "gateway.core")),
    # The command line reads settings, profiles, durations and audit records by the pure code that the gateway has for
    # it, shows the dates of certificates, and looks names of actions up in package data, and reads an
    # archive of the audit log as the gateway wrote it. Profiles may be in YAML.
    "gateway.cli": Layer(
        (
            "gateway.cli",
            "gateway.wire",
            "gateway.core",
            "gateway.settings",
            "gateway.bootstrap",
            "gateway.ceremonies",
            "certs",
            "gateway.adapters.action_catalog",
            "gateway.adapters.archive_files",
        ),
        ("click", "rich", "cryptography", "yaml"),
    ),
    "agent": Layer(("agent", "certs", "gateway.wire"), ("cryptography",)),
    # The endpoint for calls speaks HTTP by h11, an extra: loaded only where a grant needs it.
    "agent.calls": Layer(("agent", "gateway.wire"), ("h11",)),
    # A plug-in: botocore is its host's, and imported inside functions only.
    "agent.botocore_signer": Layer(("agent", "gateway.wire"), ("botocore",)),
}
NOBODYS = {
    "certs.chain": ("gateway.flows",),
    "gateway.bootstrap": ("gateway.cli",),
    "gateway.ceremonies": ("gateway.cli", "gateway.bootstrap"),
}  # only these may import it

# The pure ones have no disk, no network, no clock and no dice. (Ruff bans the calls that are not imports.)
PURE = ("certs", "gateway.core", "gateway.wire", "gateway.ports", "gateway.settings")
IMPURE = {
    "asyncio", "http", "logging", "multiprocessing", "os", "random", "secrets", "shutil", "signal", "socket", "ssl",
    "subprocess", "sys", "tempfile", "threading", "time", "urllib.request",
}  # fmt: skip

LONGEST, EXPLAINED_ABOVE = 400, 300
LONG = {
    "agent/lifecycle.py": "the agent's states, and every way from one to another, are read as one",
    "gateway/bootstrap.py": "all parts of the gateway are put together here, and nowhere else",
    "gateway/ports.py": "the outside world, on one page",
    "gateway/settings.py": "every setting, and each fault in them, on one page",
    "gateway/core/reconcile.py": "what is a finding, what is none and what cannot be decided is read as one",
    "gateway/flows/vend.py": "asked, recorded, minted, recorded, answered: what may come between is read as one",
    "deploy/demo/__main__.py": "the story, chapter by chapter, as it is told",
    "deploy/demo/cloud.py": "the local AWS, and the self-check without which a test against it is worth nothing",
}

FORBIDDEN_NAMES = {"base", "common", "data", "handler", "handlers", "helper", "helpers", "manager", "util", "utils"}

# The cases of the threat list. Those of the first slice, delivery, calls and operators are each named by a test.
THREATS = {
    "A": "01 02 03 06 07 08 09 11 12 13 14 16 17 18 19 21 24 25 26",
    "B": "01 02 03 05 07 08 09 10 12 14 15 16 19 20 21 22 23",
    "C": "01 02 03 04 05 06 07 08 09 11 12 13 14 15 16 17 18 19 20 21",
    "D": "01 02 05 06 07 08 09 10 11 12 13 14 15 16 17",
    "E": "01 02 04 08 09",
    "F": "01 02 03 04 05 06 07",
    "G": "01 02 03 04 06 07 08 09 10 11 12 13 14 15 16 17 18",
    "H": "01 03 04 05 06 07 08 10 12 13 14 15",
    "I": "01 02 03 04 05 06 07 08",
    "J": "01 04 05 06 07 08 09 10 11",
    "K": "01 02 03 04 05 06",
}
KNOWN_THREATS = {letter + number for letter, numbers in THREATS.items() for number in numbers.split()}
FIRST_SLICE = {"A12", "A14", "A16", "A17", "A18", "A19", "A21", "B01", "B02", "B03", "B05", "B22"}
DELIVERY = {letter + number for letter in "DJ" for number in THREATS[letter].split()}
CALLS = {letter + number for letter in "CEF" for number in THREATS[letter].split()}
# What concerns a browser (the console's) or a password (there are none) is not of REST and command line.
OPERATORS = {letter + number for letter in "GI" for number in THREATS[letter].split()}
OPERATORS -= {"G02", "G03", "G04", "G08", "G12", "G16"}


# Reading the code


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def _modules() -> dict[str, Path]:
    """Every module of the product, by its dotted name."""
    found = {}
    for path in _sources(*PRODUCT):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_modules()[module].read_text())


def _imports(module: str, *, at_run_time: bool = False) -> Iterator[str]:
    """What a module imports, wherever in it: modules of ours as such, of others as written."""
    tree = _tree(module)
    only_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if at_run_time and node in only_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in _modules() else node.module


def _below(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


def _layer(module: str) -> Layer:
    return LAYERS[max((prefix for prefix in LAYERS if _below(module, (prefix,))), key=len)]


def _faults(module: str, imported: str) -> str | None:
    layer, top = _layer(module), imported.partition(".")[0]
    if top in PRODUCT:
        importers = NOBODYS.get(imported)
        if importers and not _below(module, (*importers, imported)):
            return "is not for it"
        return None if _below(imported, layer.ours) else "is of another layer"
    if top in sys.stdlib_module_names:
        return "is not pure" if _below(module, PURE) and {top, imported} & IMPURE else None
    return None if top in layer.libraries else "is no library of its layer"


# Who may import whom


@pytest.mark.parametrize("module", _modules())
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    assert {name: fault for name in _imports(module) if (fault := _faults(module, name))} == {}


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("gateway.wire.strict", "cryptography"),
        ("gateway.wire.strict", "gateway.core.errors"),
        ("certs.csr", "gateway.wire.secret"),
        ("certs.csr", "OpenSSL.crypto"),
        ("certs.csr", "time"),
        ("gateway.core.profile", "gateway.ports"),
        ("gateway.core.profile", "cryptography.x509"),
        ("gateway.core.profile", "certs.csr"),
        ("gateway.core.attest.ec2", "boto3"),
        ("gateway.flows.vend", "gateway.adapters.aws"),
        ("gateway.flows.vend", "gateway.web.exchange"),
        ("gateway.adapters.aws", "sqlalchemy"),
        ("gateway.adapters.aws", "gateway.flows.vend"),
        ("gateway.adapters.aws", "gateway.adapters.clock"),
        ("gateway.web.exchange", "gateway.adapters.clock"),
        ("gateway.web.exchange", "certs.csr"),
        ("gateway.web.exchange", "uvloop"),
        ("gateway.web.server.head", "gateway.flows.journal"),
        ("gateway.web.server.head", "flask"),
        ("gateway.cli.host", "gateway.flows.vend"),
        ("gateway.cli.host", "gateway.adapters.clock"),
        ("gateway.cli.host", "certs.chain"),
        ("gateway.settings", "os"),
        ("agent.client", "gateway.core.errors"),
        ("agent.client", "certs.chain"),
        ("agent.client", "requests"),
        ("gateway.web.exchange", "gateway.bootstrap"),
    ],
)
def test_the_table_forbids_something(module: str, imported: str) -> None:
    assert module in _modules()
    assert _faults(module, imported)


def test_no_module_imports_itself_in_the_end() -> None:
    ours = {name: {used for used in _imports(name, at_run_time=True) if used in _modules()} for name in _modules()}
    while free := {name for name, used in ours.items() if not used & ours.keys()}:
        for name in free:
            del ours[name]
    assert ours == {}, "these import one another in a circle"


def test_only_the_command_line_the_demo_and_tests_import_the_bootstrap() -> None:
    importers = {
        path.relative_to(ROOT).parts[0]
        for path in _sources(*PRODUCT, "deploy")
        if re.search(r"\bgateway\.bootstrap\b|from gateway import bootstrap", path.read_text())
    }
    assert importers <= {"gateway", "deploy"}


_AGENT = """
import importlib, json, pkgutil, sys

class OnlyTheAgents:
    ALLOWED = ("agent", "certs", "gateway.wire", "cryptography", "_cffi_backend", *sys.stdlib_module_names)
    refused = []
    def find_spec(self, name, path=None, target=None):
        if name != "gateway" and not any(name == one or name.startswith(one + ".") for one in self.ALLOWED):
            self.refused.append(name)
            raise ImportError(name)

sys.meta_path.insert(0, OnlyTheAgents())
OF_AN_EXTRA = [f"agent.calls.{name}" for name in ("endpoint", "inbound", "outbound", "pool", "relay")]
import agent, certs
for package in (agent, certs):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name not in ("certs.chain", *OF_AN_EXTRA):
            importlib.import_module(module.name)
try:
    import flask
except ImportError:
    pass
print(json.dumps([sorted(sys.modules), OnlyTheAgents.refused]))
"""


def test_the_agent_runs_on_the_standard_library_and_cryptography() -> None:
    done = subprocess.run([sys.executable, "-c", _AGENT], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded, refused = json.loads(done.stdout)
    # The hook does refuse. (The standard library looks for Jython, and cryptography can use bcrypt where it is.)
    assert set(refused) - {"org", "bcrypt"} == {"flask"}
    assert {"agent.main", "agent.daemon", "agent.serve.container", "cryptography.x509"} <= set(loaded)
    assert "certs.chain" not in loaded
    assert {name for name in loaded if name.startswith("gateway.")} <= {
        "gateway.wire", "gateway.wire.aws_errors", "gateway.wire.calls", "gateway.wire.checkpoint",
        "gateway.wire.chunks", "gateway.wire.merkle", "gateway.wire.messages",
        "gateway.wire.problems", "gateway.wire.secret", "gateway.wire.sigv4", "gateway.wire.sigv4_authorization",
        "gateway.wire.strict",
    }  # fmt: skip


# Size, names, places


def test_modules_are_short_and_long_ones_are_explained() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in _sources(*PRODUCT, "deploy")}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
    assert {name for name, length in lengths.items() if length > EXPLAINED_ABOVE} == LONG.keys()


def test_every_module_and_every_package_says_what_it_is_for() -> None:
    def speaks(path: Path) -> bool:
        return bool(ast.get_docstring(ast.parse(path.read_text())))

    for path in _sources(*PRODUCT, "deploy"):
        if path.name == "__init__.py":
            assert speaks(path) or (path.parent / "README.md").is_file(), path
        else:
            assert speaks(path) or path == ROOT / "deploy" / "gunicorn.conf.py", path


def test_certs_itself_is_empty() -> None:
    """Or every agent would need what it imports."""
    assert (ROOT / "certs" / "__init__.py").read_text() == ""


def test_every_folder_of_tests_is_a_package() -> None:
    """Or tests/gateway would shadow gateway."""
    assert {path.parent for path in _sources("tests") if not (path.parent / "__init__.py").is_file()} == set()


def test_no_module_has_a_name_that_says_nothing() -> None:
    parts = {
        part for path in _sources(*PRODUCT, "deploy", "tests") for part in path.relative_to(ROOT).with_suffix("").parts
    }
    assert parts & FORBIDDEN_NAMES == set()


def test_nothing_is_called_as_a_transit_gateway_is() -> None:
    short = "t" + "g" + "w"
    word = re.compile(rf"(?i)(?<![a-z0-9+/=]){short}(?![a-z0-9+/=])|{short}[_-]|[_-]{short}")
    texts = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in (*PRODUCT, "deploy", "docs", "tests", "requirements"):
        texts += [
            path for path in (ROOT / folder).rglob("*")
            if path.is_file() and not {"__pycache__", "node_modules"} & set(path.parts)
        ]  # fmt: skip
    found = {str(path) for path in texts if word.search(f"{path.name}\n{path.read_text(errors='replace')}")}
    assert found == set()
    assert word.search(f"{short.upper()}_HOME")


# The package


def test_the_wheel_holds_the_three_packages_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(archive.read(name).decode() for name in names if name.endswith("METADATA"))
    tops = {name.partition("/")[0] for name in names}
    (information,) = tops - set(PRODUCT)
    assert information.endswith(".dist-info")
    inside = {name for name in names if not name.startswith(information)}
    written = {str(path.relative_to(ROOT)) for path in _sources(*PRODUCT)}
    assert {name for name in inside if name.endswith(".py")} - {"gateway/gunicorn.conf.py"} == written
    assert "gateway/gunicorn.conf.py" in inside
    assert any(name.startswith("gateway/adapters/sql/migrations/versions/") for name in inside)
    base = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert [line.split()[1].partition(">")[0] for line in base] == ["cryptography"]


# The threat list

_COLLECTING = """
import sys, pytest
from tests.test_architecture import threats

class Names:
    def pytest_collection_finish(self, session):
        with open(sys.argv[1], "w") as file:
            file.write(" ".join(sorted(threats(session.items))))

sys.exit(pytest.main(["--collect-only", "-qq", "--continue-on-collection-errors", "tests"], plugins=[Names()]))
"""


def threats(items: Iterable[pytest.Item]) -> set[str]:
    """The cases that these tests name, by a mark or in their names."""
    marked = {str(each) for item in items for mark in item.iter_markers("threat") for each in mark.args}
    return marked | {each.upper() for item in items for each in re.findall(r"_([A-Ka-k][0-9]{2})(?=_|\[|$)", item.name)}


@pytest.fixture(scope="module")
def named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The threats that the whole suite names, also when only a part of it is run."""
    config = request.config
    if config.args_source is config.ArgsSource.TESTPATHS and not (config.option.keyword or config.option.markexpr):
        return threats(request.session.items)
    path = tmp_path_factory.mktemp("collected") / "names"
    subprocess.run([sys.executable, "-c", _COLLECTING, str(path)], cwd=ROOT, capture_output=True, check=False)
    return set(path.read_text().split())


def test_tests_name_only_threats_that_exist(named: set[str]) -> None:
    assert named - KNOWN_THREATS == set()
    assert KNOWN_THREATS >= FIRST_SLICE | DELIVERY | CALLS | OPERATORS


def test_the_threats_of_what_is_built_are_each_named_by_a_test(named: set[str]) -> None:
    assert (FIRST_SLICE | DELIVERY | CALLS | OPERATORS) - named == set()

"""The cases of tests/policy_cases, as they are written."""

from functools import cache

from deploy.demo import REPOSITORY
from gateway.cli import profile_yaml
from gateway.core.policy import expectations
from gateway.core.policy.expectations import Case

FOLDER = REPOSITORY / "tests" / "policy_cases"
AWS = "https://docs.aws.amazon.com/"


@cache
def cases() -> dict[str, tuple[Case, ...]]:
    """Every case, by its file."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        document, _ = profile_yaml.read(path.read_text())
        found[path.name] = expectations.read(document, lambda name: ())
    return found


def written() -> list[tuple[str, Case]]:
    """Each case once, also where it asks for several actions or resources."""
    found = {(name, case.place): case for name, each in cases().items() for case in each}
    return [(name, case) for (name, _), case in found.items()]

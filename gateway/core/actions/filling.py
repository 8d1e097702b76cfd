"""From members to ARNs: a template filled, or an ARN that the client gave, held against its type. Pure.

AWS: "Identify AWS resources with Amazon Resource Names (ARNs)", and each service's "Resource types defined by" table.
What cannot be known is None, never a guess: only a literal `*` allows that.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from gateway.core.actions.ask import Ask

_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
_PLACE = ("Partition", "Region", "Account")
LONGEST = 2048  # letters of a name
# "This parameter is stored as a lowercase string" (RDS and ElastiCache API reference), and alike: an ARN there has no
# capital letters, however the request writes the name.
_LOWERED = frozenset({"rds", "elasticache", "memorydb", "redshift"})


def filled(ask: Ask, template: str, fills: Mapping[str, str]) -> list[str | None]:
    """The ARNs that the members make of a template, one for each item of a member that is a list.

    Empty when a member is absent. None in it stands for a resource that cannot be known.
    """
    values: dict[str, list[str | None]] = {}
    last = ""
    for name in _PLACEHOLDER.findall(template):
        if name in _PLACE:
            continue
        last = name
        member = fills[name]
        values[name] = (
            ["*"] if member == "*" else [each if isinstance(each, str) else None for each in ask.each(member)]
        )
    if not all(values.values()):
        return []
    if sum(len(each) > 1 for each in values.values()) > 1:
        return [None]  # two lists: which goes with which, only the service knows
    return [_one(ask, template, choice, last) for choice in _choices(values)]


def literal(ask: Ask, value: object, templates: tuple[str, ...]) -> str | None:
    """An ARN that the client gave, when it is one of these types in the call's partition; else None."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > LONGEST:
        return None
    return value if any(_pattern(each, ask.partition).fullmatch(value) for each in templates) else None


def name_of(value: str | None) -> str | None:
    """A name that can stand in an ARN as it is; None when it is empty, or could be read as more than a name."""
    if not value or ":" in value or value != value.strip() or not value.isprintable() or len(value) > LONGEST:
        return None
    return value


def _choices(values: Mapping[str, list[str | None]]) -> Iterator[dict[str, str | None]]:
    count = max((len(each) for each in values.values()), default=1)
    for i in range(count):
        yield {name: each[i] if len(each) > 1 else each[0] for name, each in values.items()}


def _one(ask: Ask, template: str, choice: Mapping[str, str | None], last: str) -> str | None:
    own = choice.get(last)
    if own is not None and own.startswith("arn:"):
        return literal(ask, own, (template,))
    place = {"Partition": ask.partition, "Region": ask.request.region, "Account": ask.account}
    service = template.split(":")[2]
    for name, value in choice.items():
        if value is not None and value.startswith("arn:"):
            value = _last_of(ask, value)
        elif name.endswith("WithoutLeadingSlash") and value is not None:
            value = value.removeprefix("/")
        plain = name_of(value)
        if plain is None:
            return None
        place[name] = plain.lower() if service in _LOWERED else plain
    return _PLACEHOLDER.sub(lambda found: place[found[1]], template)


def _last_of(ask: Ask, arn: str) -> str | None:
    """The name at the end of an ARN that stands where a name could, if it is of the call's own place."""
    parts = arn.split(":")
    own = [ask.partition, ask.request.region, ask.account]
    if len(parts) != 6 or [parts[1], parts[3], parts[4]] != own or parts[5].count("/") != 1:
        return None
    return parts[5].rpartition("/")[2]


@lru_cache(maxsize=4096)
def _pattern(template: str, partition: str) -> re.Pattern[str]:
    known = {"Partition": re.escape(partition), "Region": "[a-z0-9-]*", "Account": "(?:[0-9]{12}|aws)?"}
    out, end = "", 0
    for found in _PLACEHOLDER.finditer(template):
        out += re.escape(template[end : found.start()]).replace(r"\*", "[^:]*") + known.get(found[1], ".+")
        end = found.end()
    return re.compile(out + re.escape(template[end:]).replace(r"\*", "[^:]*"), re.DOTALL)

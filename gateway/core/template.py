"""Templates in grants: `${instance.id}`, `${instance.tags.team}`, `${profile.name}`, `${lease.id}`. Pure.

A value can never widen a policy. It is put into strings of a parsed policy, so it cannot end them; IAM's own special
letters are escaped as IAM has it (`${*}`, `${?}`, `${$}`); and what separates the parts of an ARN or of a path is
refused. A template whose value is missing fails. IAM's own variables (`${aws:…}`) are left for IAM.

AWS: "IAM policy elements: Variables and tags", which allows them in Resource and in the values of Condition only.
"""

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any

from gateway.core.errors import Refusal
from gateway.core.policy.document import statements
from gateway.core.policy.patterns import VARIABLE

_OURS = re.compile(r"instance\.(id|account|region|tags\.[\w .:/=+@-]{1,128})|profile\.name|grant\.name|lease\.id")
_IAM = re.compile(r"[*?$]|[A-Za-z0-9-]+:[^,}]+(,\s*'[^']*')?")
# AWS: role session names and source identities: [\w+=,.@-]; tags besides: letters, digits, spaces and _.:/=+-@
_NAME_VALUE = re.compile(r"[A-Za-z0-9_+=,.@-]+")
_TAG_VALUE = re.compile(r"[\w .:/=+@-]+")
_POLICY_VALUE = re.compile(r"[\w .,=+@*?$-]+")
_ESCAPED = {"*": "${*}", "?": "${?}", "$": "${$}"}
_WHERE = ("Resource", "NotResource", "Condition")
LONGEST_TAG = 256


def faults(text: str) -> Iterator[str]:
    """What is wrong with the templates in `text`, which is a name or a tag: every `${…}` must be one of ours."""
    for name in _names(text):
        if not _OURS.fullmatch(name):
            yield f"{_shown(name)} is none of our templates"
    if "${" in VARIABLE.sub("", text):
        yield "a ${ has no }"


def policy_faults(policy: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the templates in a parsed policy: unknown ones, and ours where IAM would expand no escapes."""
    for i, statement in enumerate(statements(dict(policy))):
        for element, value in statement.items() if isinstance(statement, dict) else ():
            for text in _strings(value):
                for name in _names(text):
                    if _OURS.fullmatch(name) and element not in _WHERE:
                        yield f"Statement[{i}].{element}: a template may stand in Resource and in Condition only"
                    elif not (_OURS.fullmatch(name) or _IAM.fullmatch(name)):
                        yield (
                            f"Statement[{i}].{element}: {_shown(name)} is none of our templates, and none of IAM's "
                            "variables"
                        )
                if "${" in VARIABLE.sub("", text):
                    yield f"Statement[{i}].{element}: a ${{ has no }}"


def in_policy(policy: Any, values: Mapping[str, str], later: Container[str] = ()) -> Any:
    """The parsed policy with our templates filled in, but for those that come `later`.

    Raises Refusal `grant_refused`.
    """
    if isinstance(policy, str):
        return _fill(policy, values, _POLICY_VALUE, _ESCAPED, later)
    if isinstance(policy, list):
        return [in_policy(item, values, later) for item in policy]
    if isinstance(policy, dict):
        return {key: in_policy(item, values, later) for key, item in policy.items()}
    return policy


def in_name(text: str, values: Mapping[str, str]) -> str:
    """A session name with our templates filled in. Raises Refusal `grant_refused`."""
    return _fill(text, values, _NAME_VALUE, {})


def in_tag(text: str, values: Mapping[str, str]) -> str:
    """A tag's value with our templates filled in. Raises Refusal `grant_refused`."""
    filled = _fill(text, values, _TAG_VALUE, {})
    if len(filled) > LONGEST_TAG:
        raise Refusal(
            "grant_refused", f"A session tag would have more than {LONGEST_TAG} letters", reason="tag_too_long"
        )
    return filled


def _fill(
    text: str,
    values: Mapping[str, str],
    allowed: re.Pattern[str],
    escapes: Mapping[str, str],
    later: Container[str] = (),
) -> str:
    def value_of(match: re.Match[str]) -> str:
        name = match[0][2:-1]
        if not _OURS.fullmatch(name) or name in later:
            return match[0]
        value = values.get(name)
        if not value:
            raise Refusal("grant_refused", f"${{{name}}} has no value", reason="template_value_missing", template=name)
        if not allowed.fullmatch(value):
            raise Refusal("grant_refused", f"${{{name}}} has a value that may not stand here",
                          reason="template_value_refused", template=name)  # fmt: skip
        return "".join(escapes.get(letter, letter) for letter in value)

    return VARIABLE.sub(value_of, text)


def _shown(name: str) -> str:
    return f"${{{ascii(name)[1:-1][:60]}}}"


def _names(text: str) -> list[str]:
    return [found[2:-1] for found in VARIABLE.findall(text)]


def _strings(value: Any) -> Iterator[str]:
    """Every text in it but the keys. No recursion: nobody has looked yet how deep it is."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            left += reversed(value)
        elif isinstance(value, dict):
            left += reversed(value.values())

"""A statement in PartiQL: which of the four actions it takes, and on which table. Strict: what is not plain is unknown.

AWS: "PartiQL for DynamoDB: select, insert, update and delete statements"; "IAM security policies with PartiQL".
"""

import re

_NAME = r'(?:"(?P<{0}q>[A-Za-z0-9_.-]{{1,255}})"|(?P<{0}b>[A-Za-z_][A-Za-z0-9_]{{0,254}}))'
_ON = _NAME.format("t") + r"(?:\s*\.\s*" + _NAME.format("i") + r")?(?=\s|$)"
# No quotes before FROM: a word in them could be taken for the keyword.
_FORMS = (
    (
        "PartiQLSelect",
        re.compile(rf"SELECT\s(?P<what>[^'\"`;]*?)\sFROM\s+{_ON}(?:\s+(?:WHERE|ORDER)\s.*)?\s*", re.I | re.S),
    ),
    ("PartiQLInsert", re.compile(rf"INSERT\s+INTO\s+{_ON}\s+VALUE\s.*", re.I | re.S)),
    ("PartiQLUpdate", re.compile(rf"UPDATE\s+{_ON}\s+(?:SET|REMOVE)\s.*", re.I | re.S)),
    ("PartiQLDelete", re.compile(rf"DELETE\s+FROM\s+{_ON}\s+WHERE\s.*", re.I | re.S)),
)
_FIRST = {form[1].pattern.partition("\\s")[0]: form[0] for form in _FORMS}
_INNER = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|FROM)\b", re.I)
LONGEST = 8192  # letters: "ExecuteStatement: Statement: Length Constraints"
_TEXTS = re.compile(r"'(?:[^']|'')*'")


def statement(text: str) -> tuple[str | None, str | None, str | None]:
    """Action (without its prefix), table and index; each None when it cannot be known."""
    plain = text.strip()
    action = _FIRST.get(plain.split(None, 1)[0].upper()) if plain else None
    if action is None or len(plain) > LONGEST or "--" in plain or "/*" in plain:
        return action, None, None
    found = dict(_FORMS)[action].fullmatch(plain)
    if found is None:
        return action, None, None
    # Another statement within, outside of texts, may be on another table.
    rest = _TEXTS.sub("''", plain[found.end("tq") if found["tq"] else found.end("tb") :])
    before = found["what"] if action == "PartiQLSelect" else ""
    if _INNER.search(before) or _INNER.search(rest) or ";" in rest or "'" in rest.replace("''", ""):
        return action, None, None
    index = found["iq"] or found["ib"]
    return action, found["tq"] or found["tb"], index

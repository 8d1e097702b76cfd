"""KMS: a key by its id or ARN; behind an alias is a key that the request does not tell.

AWS: "Service Authorization Reference: AWS KMS"; "Key identifiers (KeyId)"; "AWS KMS condition keys". IAM decides on the
key, never on its alias (but for the operations on aliases, which take both).
"""

import re

from gateway.core.actions.ask import Ask, Context
from gateway.core.actions.call import Need
from gateway.core.actions.filling import literal, name_of
from gateway.core.actions.indexed import by_index, tags

_KEY_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}")
_KEY = "arn:${Partition}:kms:${Region}:${Account}:key/${KeyId}"
_ALIAS = re.compile(r"(?:arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:)?(alias/[A-Za-z0-9/_-]{1,256})")


def needs(ask: Ask) -> tuple[Need, ...] | None:
    """The needs of a call on keys."""
    entry = ask.entry
    if ask.operation == "ReEncrypt":
        context = _context(ask, "DestinationEncryptionContext")
        source = _context(ask, "SourceEncryptionContext")
        return (
            Need("kms:ReEncryptFrom", _key(ask, "SourceKeyId"), source | _alias(ask, "SourceKeyId")),
            Need("kms:ReEncryptTo", _key(ask, "DestinationKeyId"), context | _alias(ask, "DestinationKeyId")),
        )
    if entry is None:
        return None
    if ask.operation in ("CreateAlias", "DeleteAlias", "UpdateAlias"):
        alias = name_of(ask.text("AliasName"))
        out = [Need(entry.action, ask.arn("kms", alias) if alias and alias.startswith("alias/") else None, {})]
        # DeleteAlias, and what UpdateAlias takes the alias from, are on keys that only AWS knows.
        out += [Need(entry.action, _key(ask, "TargetKeyId"), {})] if ask.operation != "DeleteAlias" else []
        out += [Need(entry.action, None, {})] if ask.operation != "CreateAlias" else []
        return tuple(out)
    # Of each operation with a KeyId, the key is what it is on; Decrypt may leave it to the ciphertext.
    named = "KeyId" in ask.routed.members or "KeyId" in ask.routed.unread
    if entry.resources and (named or ask.operation == "Decrypt"):
        context = tags(ask) | dict(_context(ask, "EncryptionContext")) | dict(_alias(ask, "KeyId"))
        return (Need(entry.action, _key(ask, "KeyId"), context),)
    return by_index(ask)


def _key(ask: Ask, member: str) -> str | None:
    value = ask.text(member)
    if value and _KEY_ID.fullmatch(value):
        return ask.arn("kms", f"key/{value}")
    return literal(ask, value, (_KEY,))


def _alias(ask: Ask, member: str) -> dict[str, str | tuple[str, ...]]:
    found = _ALIAS.fullmatch(ask.text(member) or "")
    return {"kms:requestalias": found[1]} if found else {}


def _context(ask: Ask, member: str) -> dict[str, str | tuple[str, ...]]:
    """`kms:EncryptionContext:…` and its keys."""
    given = ask.member(member) if member in ask.routed.members or member in ask.routed.unread else None
    if not isinstance(given, dict) or not given:
        return {}
    pairs: Context = {
        f"kms:encryptioncontext:{key.lower()}": each for key, each in given.items() if isinstance(each, str)
    }
    return {**pairs, "kms:encryptioncontextkeys": tuple(given)}

"""Key material in text, by Yelp's detect-secrets: its detectors, each asked about each line.

They are called directly: the scan that they come with can be told by a comment to look away, asks the network whether a
secret works, and keeps its settings in one place for all threads. Their expressions were not made for lines that mean
ill: some take time with the square or the cube of a line's length, and let no other thread run meanwhile. So they never
see a long line whole, nor more than one blank in a row. Random-looking words it takes for secrets in quotes
only; a script has them without, so each long word is put into quotes for these two detectors.
"""

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.filters import heuristic
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString, HexHighEntropyString
from detect_secrets.plugins.keyword import CONFIG_DENYLIST_REGEX_TO_GROUP, KeywordDetector

from gateway.core.servers import Suspicion

# An address is no secret; the others are asked in a way of their own.
_APART: Final = {"IPPublicDetector", "KeywordDetector", "Base64HighEntropyString", "HexHighEntropyString"}
_KNOWN: Final[Mapping[str, Any]] = get_mapping_from_secret_type_to_class()
_PLAIN: Final = [each() for each in _KNOWN.values() if each.__name__ not in _APART]
# Behind a keyword theirs try each shorter rest of its word again, which never helps: no letter may follow. Ours give it
# up at once, and find the same.
_KEYWORDS: Final[Mapping[re.Pattern[str], int]] = {
    re.compile(each.pattern.replace(r")\w*", r")\w*+"), each.flags): group
    for each, group in CONFIG_DENYLIST_REGEX_TO_GROUP.items()
}
_BLANKS = re.compile(r"\s{2,}")
_LONGEST, _STEP = 512, 256  # of what they are given of a line; from one such piece to the next, which overlaps it

# 40 random letters of base64, an AWS secret key, have some 4.7 bits each and seldom less than 4.3; 32 random digits of
# base 16 some 3.6. Names and paths have not all of small letters, capitals and digits, or are shorter between slashes.
_BASE64, _HEX = Base64HighEntropyString(limit=4.1), HexHighEntropyString(limit=3.0)
_LONG_WORD = re.compile(r"[A-Za-z0-9+/_-]{20,}")
_AWS_SECRET = 40
_LONG_HEX = re.compile(r"(?<![A-Za-z0-9])[0-9a-fA-F]{32,}(?![A-Za-z0-9])")
_MIXED = [re.compile(each) for each in ("[a-z]", "[A-Z]", "[0-9]")]

# What is public: digests that say so, ARNs, public keys, and certificates.
_ARN = re.compile(r"\barn:aws[a-z-]*:[^\s'\"]+")
_DIGEST = re.compile(r"\b(?:md5|sha1|sha256|sha384|sha512)[:=-][A-Za-z0-9+/=]{22,128}")
_KEY_TYPE = r"(?:ssh-(?:rsa|ed25519|dss)|ecdsa-sha2-\S{1,64}|sk-\S{1,64}@openssh\.com)"
_PUBLIC_KEY = re.compile(rf"\b{_KEY_TYPE} AAAA[A-Za-z0-9+/=]+")
_PRIVATE = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY")  # theirs does not know the encrypted ones
_PUBLIC_BLOCK = re.compile(
    r"-----BEGIN (CERTIFICATE|PUBLIC KEY|X509 CRL)-----((?:\s+[A-Za-z0-9+/]{1,76}={0,2})+)\s+-----END \1-----"
)
_READS: Final[Mapping[str, Callable[[bytes], object]]] = {
    "CERTIFICATE": x509.load_der_x509_certificate,
    "PUBLIC KEY": serialization.load_der_public_key,
    "X509 CRL": x509.load_der_x509_crl,
}
_NO_SECRETS = {"true", "false", "yes", "no", "on", "off", "null", "none", "*", "!", ""}


class SecretDetector:
    """`ports.SecretDetector`. Safe for threads: it keeps nothing."""

    def __call__(self, text: str) -> Sequence[Suspicion]:
        """Each line's kinds, in order; nothing for a text without secrets."""
        found: dict[Suspicion, None] = {}
        for number, line in enumerate(_PUBLIC_BLOCK.sub(_without_public, text).splitlines(), 1):
            found |= dict.fromkeys(Suspicion(number, kind) for kind in _kinds(line))
        return tuple(found)


def _without_public(block: re.Match[str]) -> str:
    """As many lines, all empty, if the block is what it says; anything may stand between those two lines."""
    try:
        _READS[block[1]](base64.b64decode("".join(block[2].split()), validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return block[0]
    return "\n" * block[0].count("\n")


def _kinds(line: str) -> Iterator[str]:
    line = _BLANKS.sub(" ", line)
    pieces = [line[begin : begin + _LONGEST] for begin in range(0, max(len(line) - _LONGEST, 0) + _STEP, _STEP)]
    if _PRIVATE.search(line):
        yield "Private Key"
    for plugin in _PLAIN:
        if any(found for piece in pieces for found in plugin.analyze_string(piece)):
            yield str(plugin.secret_type)
    if any(_is_kept_secret(each) for each in _keyword_values(pieces)):
        yield str(KeywordDetector.secret_type)
    rest = line
    for public in (_DIGEST, _ARN, _PUBLIC_KEY):
        rest = public.sub("", rest)
    if any(_HEX.calculate_shannon_entropy(word) > _HEX.entropy_limit for word in _LONG_HEX.findall(rest)):
        yield str(_HEX.secret_type)
    if any(_is_random(word) for word in _LONG_WORD.findall(rest)):
        yield str(_BASE64.secret_type)


def _keyword_values(pieces: Sequence[str]) -> Iterator[str]:
    """What stands behind each keyword. What begins in the overlap may be cut off: the next piece has more of it."""
    for number, piece in enumerate(pieces, 1):
        for expression, group in _KEYWORDS.items():
            for found in expression.finditer(piece):
                if found.start() < _STEP or number == len(pieces):
                    yield found[group]


def _is_random(word: str) -> bool:
    if heuristic.is_potential_uuid(word) or _BASE64.calculate_shannon_entropy(word) <= _BASE64.entropy_limit:
        return False
    small, capitals, digits = (bool(letters.search(word)) for letters in _MIXED)
    if len(word) == _AWS_SECRET:
        return small and capitals
    longest = max(map(len, word.split("/"))) if word.startswith("/") else len(word)
    return small and capitals and digits and longest >= 20


def _is_kept_secret(value: str | None) -> bool:
    """What stands behind `password:`. What is fetched at run time, or is a file's name, is not written down here."""
    word = (value or "").strip().strip("\"'`,;")
    if word.lower() in _NO_SECRETS or word[:1] in ("$", "/", "{", "<", "[", "|", ">"):
        return False
    return not heuristic.is_templated_secret(word)

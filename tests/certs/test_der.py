"""der: as strict as X.690 section 10, by the word of another implementation (asn1crypto)."""

import pytest
from asn1crypto import parser
from hypothesis import given
from hypothesis import strategies as st

from certs import der

tags = st.sampled_from(
    [der.INTEGER, der.OCTET_STRING, der.SEQUENCE, der.SET, der.UTC_TIME, der.GENERALIZED_TIME, 0xA3, 0x1E]
)
bodies = st.binary(max_size=300) | st.sampled_from(
    [bytes(127), bytes(128), bytes(255), bytes(256), bytes(65_535), bytes(65_536)]
)


@given(tags, bodies, st.binary(max_size=9))
def test_an_element_is_written_as_asn1crypto_does_and_read_again(tag: int, body: bytes, rest: bytes) -> None:
    made = der.wrap(tag, body)
    assert made == parser.emit(tag >> 6, (tag >> 5) & 1, tag & 0x1F, body)
    assert der.split(made + rest) == (tag, body, rest)
    assert der.only(made, tag) == body


@given(st.binary(max_size=40))
def test_what_is_read_is_what_would_be_written(junk: bytes) -> None:
    try:
        tag, body, rest = der.split(junk)
    except ValueError:
        return
    assert der.wrap(tag, body) + rest == junk


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"\x30", b"\x30\x01", b"\x30\x81", b"\x30\x82\x01\x00", b"\x30\x80\0\0", b"\x30\xff" + b"\xff" * 127),
        *(b"\x30\x81\x01\0", b"\x30\x82\0\x80" + bytes(128), b"\x1f\x01\0", b"\xbf\x81\0\0"),
    ],
)
def test_what_is_not_strict_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"element|length"):
        der.split(wrong)


def test_only_wants_this_tag_and_nothing_behind() -> None:
    made = der.wrap(der.SEQUENCE, b"")
    assert der.only(made, der.SEQUENCE) == b""
    for wrong, tag in ((made, der.SET), (made + b"\0", der.SEQUENCE)):
        with pytest.raises(ValueError, match="another tag"):
            der.only(wrong, tag)


def test_children_are_all_of_them() -> None:
    inner = der.wrap(der.INTEGER, b"\1") + der.wrap(der.SET)
    assert der.children(inner) == [(der.INTEGER, b"\1"), (der.SET, b"")]
    assert der.children(b"") == []
    with pytest.raises(ValueError, match="element"):
        der.children(inner + b"\0")

"""XML 1.0, as much of it as AWS's APIs take, read strictly: no document type, no entity, no comment, UTF-8 only.

What is left out is what readers disagree about, or what makes one of them fetch or grow something.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from xml.parsers import expat

from gateway.wire.strict import Malformed

DEEPEST: Final = 64


@dataclass(slots=True)
class Element:
    """An element: its name as written, its attributes, the elements in it, and its text."""

    name: str
    attributes: Mapping[str, str]
    children: "list[Element]" = field(default_factory=list)
    text: str = ""


def loads(raw: bytes) -> Element:
    """Parse a document; the root element. Raises Malformed."""
    builder = _Builder()
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.XmlDeclHandler = builder.declaration
    for handler in (
        "StartDoctypeDeclHandler",
        "EntityDeclHandler",
        "CommentHandler",
        "ProcessingInstructionHandler",
        "ExternalEntityRefHandler",
        "SkippedEntityHandler",
    ):
        setattr(parser, handler, _refuse)
    try:
        # expat believes a byte order mark more than it believes us.
        if "\0" in raw.decode("utf-8"):
            raise Malformed("body: XML in another encoding than UTF-8")
        parser.Parse(raw, True)
    except (expat.ExpatError, UnicodeDecodeError):
        raise Malformed("body: not well-formed XML") from None
    return builder.root


def _refuse(*_: Any) -> None:
    raise Malformed("body: XML with a document type, an entity, a comment or an instruction")


class _Builder:
    def __init__(self) -> None:
        self._open: list[Element] = []
        self.root = Element("", {})

    def declaration(self, _: str, encoding: str | None, __: int) -> None:
        if encoding is not None and encoding.upper() != "UTF-8":
            raise Malformed("body: XML in another encoding than UTF-8")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        # A prefix means what its declaration says; AWS's SDKs use none for elements.
        if ":" in name or len(self._open) == DEEPEST:
            raise Malformed("body: XML with a prefixed element, or nested too deeply")
        element = Element(name, attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _: str) -> None:
        element = self._open.pop()
        if element.children:
            if element.text.strip():
                raise Malformed("body: XML with text between elements")
            element.text = ""

    def text(self, piece: str) -> None:
        if self._open:
            self._open[-1].text += piece

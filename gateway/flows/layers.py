"""The layers of a revocation: each is one place where something may still be honoured, and knows how to end that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.core.operator_model import Revocation


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a layer is. `facts` are public JSON values for the receipt: what is cut, and what remains valid, where,
    and until when.

    One that is not done is `trying`, or `waiting` when nothing can be tried before an operator does what `waits_for`
    says in a sentence. Both are asked again by housekeeping; nobody waits for one that waits.
    """

    done: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    waits_for: str | None = None


class Layer(Protocol):
    """One layer. `carry` may be called again, after a crash too, in any worker; each time it does what is left to do.

    It raises Refusal when it is to be tried again. `looks`: carrying it is no more than a look into the store.
    """

    name: str
    looks: bool

    def carry(self, revocation: Revocation) -> Progress: ...

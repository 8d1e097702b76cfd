"""Signatures for programs that speak to AWS themselves: a description of a request in, what they have to send out.

The description is a `wire.calls.Call` without its grant, which the socket's line names. What decides is in `unix`.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.errors import Fault
from gateway.wire.calls import LONGEST_BODY, Call, Signature
from gateway.wire.messages import encode
from gateway.wire.strict import Malformed, decode, loads

LONGEST_DOCUMENT = LONGEST_BODY * 4 // 3 + 128 * 1024
"""Bytes of a description: the longest body in base64, and the longest head."""

Ask = Callable[[Call, bytes | None], Signature]
"""Asks the gateway about a call that has no `authorization` yet. Raises Problem, Fault and Unavailable."""


@dataclass(frozen=True, slots=True)
class Signatures:
    """What is asked for here was allowed to the one who asks already."""

    ask: Ask

    def answer(self, grant: str, document: bytes) -> bytes:
        """The `Signature` as JSON. Raises Fault."""
        try:
            written = loads(document)
            if not isinstance(written, dict) or "grant" in written:
                raise Malformed("must be a call without its grant")
            call = decode(Call, {**written, "grant": grant})
            body = None if call.body is None else base64.b64decode(call.body, validate=True)
        except Malformed as malformed:
            raise Fault("call_malformed", f"The description of the call is not right: {malformed}") from None
        except binascii.Error:
            raise Fault("call_malformed", "The description of the call is not right: body is no base64") from None
        if any(header.name == "authorization" for header in call.headers):
            raise Fault("call_malformed", "A call that shall be signed has no Authorization")
        return encode(self.ask(replace(call, body=None), body))

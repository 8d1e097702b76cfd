"""Calls to AWS: dummy keys are registered here, and signatures given. (`carry` is the other way.) See docs/calls.md."""

from contextlib import suppress

from flask import Flask, Response, request

from gateway.core.audit import Name
from gateway.core.errors import Refusal
from gateway.flows.dummy_keys import DummyKeys
from gateway.flows.identify import Identify
from gateway.flows.journal import Call, Journal
from gateway.flows.sign import Sign
from gateway.web.exchange import asked, message, peer, reply
from gateway.wire import calls, messages
from gateway.wire.strict import Malformed

_LOOKED_AT = 64 * 1024
"""Bytes of a request of nobody that are read to see whether it shows a stolen key."""


def add_calls(app: Flask, journal: Journal, identify: Identify, keys: DummyKeys, sign: Sign) -> None:
    """Add the routes to the instance listener's application. Each asks for the certificate of an instance."""

    @app.post("/v1/dummy-keys")
    def dummy_keys() -> Response:
        with asked(journal, Name.INSTANCE_KEY_REGISTER) as call:
            identity = identify.instance(call, peer().certificate)
            return reply(keys.register(call, identity, message(calls.DummyKey)), 201)

    @app.post("/v1/signatures")
    def signatures() -> Response:
        with asked(journal, Name.INSTANCE_CALL_SIGN) as call:
            try:
                identity = identify.instance(call, peer().certificate)
            except Refusal as refusal:
                _look_at(call, refusal)
                raise
            return reply(sign.sign(call, identity, message(calls.Call)))

    def _look_at(call: Call, refusal: Refusal) -> None:
        """Does nobody show a stolen key? Whatever else is wrong with the request does not matter any more."""
        if (request.content_length or 0) <= _LOOKED_AT:
            with suppress(Malformed):
                told = messages.decode(calls.Call, messages.loads(request.get_data(cache=False)))
                keys.notice(call, refusal, told)

    @app.post("/v1/calls")
    def calls_() -> Response:
        # It is streamed (web/carry.py); here it is known, so that another method of it gets 405.
        raise Refusal("internal_error")

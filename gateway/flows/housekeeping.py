"""What must happen without being asked. Every worker ticks; the store's compare-and-swap lets one of them win."""

import logging

from gateway.core.errors import Refusal
from gateway.flows.publish import Publish

log = logging.getLogger("trusted_gateway.housekeeping")


class Housekeeping:
    """One `tick` does all that is due. A failure is logged and tried again at the next."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    def tick(self) -> None:
        try:
            if self._publish.due():
                self._publish.crl(only_if_due=True)
        except Refusal as refusal:
            log.warning("housekeeping: %s (%s)", refusal, refusal.reason)
        except Exception as error:  # its thread must not end: nobody would start another
            log.exception("housekeeping: %s", type(error).__name__)

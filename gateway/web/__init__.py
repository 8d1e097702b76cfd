"""Protocols: requests become flows' messages, refusals become RFC 9457 documents. No decision is made here."""

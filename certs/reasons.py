"""Why something was revoked, in the words of RFC 5280 section 5.3.1. Standard library only: gateway.core reads it."""

from enum import Enum


class Reason(Enum):
    """A CRLReason, by its RFC 5280 name. certificateHold and removeFromCRL are left out: a revocation is for good."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "cACompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"

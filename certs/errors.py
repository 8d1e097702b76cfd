"""Why a certificate, a request, a chain or a CRL is refused. No message holds a key or text that a stranger wrote."""


class CertificateError(ValueError):
    """What was asked of the authority cannot be done; the message says why."""


class CsrRefused(CertificateError):
    """A certificate request cannot be accepted. `reason` is a short stable word, safe to show and to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"certificate request refused: {reason}")
        self.reason = reason


class LintFailed(CertificateError):
    """The second opinion refused. `findings` names every fault, as `field: what is wrong`."""

    def __init__(self, findings: tuple[str, ...]) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings


class ChainRefused(CertificateError):
    """A certificate does not lead to the root, or may not be used for this, at this moment."""

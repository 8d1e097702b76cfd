"""The OpenID provider as the settings write it. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from gateway.core.profile_document import DURATION, parse_duration
from gateway.core.sign_in import Provider
from gateway.wire.messages import NAME
from gateway.wire.strict import text

CLAIM = r"[\x21-\x7e]{1,128}"
LONGEST_LIFE = timedelta(hours=1)
MOST_ROLES = 256


@dataclass(frozen=True, slots=True)
class OidcDocument:
    """`[oidc]`. Without an `issuer` nobody signs in by tokens. `roles` maps values of `roles_claim` to roles."""

    issuer: str | None = text(longest=1024, default=None)
    audience: str | None = text(pattern=r"[\x21-\x7e]{1,255}", default=None)
    client_id: str | None = text(pattern=r"[\x21-\x7e]{1,255}", default=None)
    scopes: str = text(pattern=r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*", default="openid profile")
    name_claim: str = text(pattern=CLAIM, default="preferred_username")
    name_suffix: str | None = text(pattern=r"[\x21-\x7e]{1,128}", default=None)
    roles_claim: str = text(pattern=CLAIM, default="groups")
    roles: Mapping[str, str] = field(default_factory=dict)
    life: str = text(pattern=DURATION, default="1h")
    max_age: str = text(pattern=DURATION, default="1h")
    ca: str | None = text(longest=4096, default=None)

    @property
    def faults(self) -> Sequence[str]:
        """Each of them, as `key: what is wrong`."""
        if self.issuer is None:
            unused = [
                name for name in ("audience", "client_id", "name_suffix", "ca") if getattr(self, name) is not None
            ]
            return [
                f"oidc.{name}: means nothing without oidc.issuer" for name in [*unused, *(["roles"] * bool(self.roles))]
            ]
        found = []
        if not _is_issuer(self.issuer):
            # Always: whoever can answer in the provider's place is every operator.
            found.append("oidc.issuer: must be an https URL without a query or a fragment")
        if self.audience is None and self.client_id is None:
            found.append("oidc.audience: name it, or oidc.client_id, which tokens are then for")
        if not 1 <= len(self.roles) <= MOST_ROLES:
            found.append(f"oidc.roles: map 1 to {MOST_ROLES} values of the claim to roles; nobody could sign in else")
        found += [
            f"oidc.roles.{ascii(value)[1:-1][:64]}: {ascii(role)[:64]} cannot be the name of a role"
            for value, role in self.roles.items()
            if not re.fullmatch(NAME, role)
        ]
        if not timedelta(minutes=1) <= parse_duration(self.life) <= LONGEST_LIFE:
            found.append("oidc.life: from 1m to 1h")
        if not timedelta(minutes=1) <= parse_duration(self.max_age) <= timedelta(hours=24):
            found.append("oidc.max_age: from 1m to 24h")
        return found

    @property
    def provider(self) -> Provider | None:
        """What it means, when it has no faults."""
        if self.issuer is None:
            return None
        return Provider(
            issuer=self.issuer,
            audience=self.audience or self.client_id or "",
            client_id=self.client_id,
            scopes=self.scopes,
            name_claim=self.name_claim,
            name_suffix=self.name_suffix or "",
            roles_claim=self.roles_claim,
            roles=dict(self.roles),
            life=parse_duration(self.life),
            max_age=parse_duration(self.max_age),
            ca=self.ca,
        )


def _is_issuer(written: str) -> bool:
    """Discovery 1.0, section 3: an https URL of scheme, host, maybe port and path, and nothing else."""
    if not re.fullmatch(r"https://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?", written):
        return False
    try:
        parts = urlsplit(written)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False

"""Calls as a router would hand them on, and what they need, in a form that a table can hold."""

from collections.abc import Mapping
from typing import Any

from gateway.adapters.action_catalog import Catalog
from gateway.core.actions.call import AwsRequest, Need, Routed
from gateway.core.actions.needs import needs

ACCOUNT = "123456789012"
REGION = "eu-west-1"
CATALOG = Catalog()


def needed(
    service: str,
    operation: str | None,
    members: Mapping[str, Any] | None = None,
    *,
    method: str = "POST",
    target: str = "/",
    headers: Mapping[str, str] | None = None,
    twice: tuple[tuple[str, str], ...] = (),
    region: str = REGION,
    unread: tuple[str, ...] = (),
) -> tuple[Need, ...]:
    """What such a call needs. `twice` are headers besides."""
    request = AwsRequest(
        method, target, (*(headers or {}).items(), *twice), service, region, "UNSIGNED-PAYLOAD"
    )  # fmt: skip
    routed = Routed(service, operation, "json", members or {}, frozenset(unread))
    return needs(routed, request, ACCOUNT, CATALOG.of(service))


def pairs(found: tuple[Need, ...]) -> list[tuple[str | None, str | None]]:
    """Action and resource of each need."""
    return [(each.action, each.resource) for each in found]


def arn(service: str, resource: str) -> str:
    """An ARN in the place of the calls."""
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"

"""The hosts of AWS's services, by botocore's own endpoint rules: the only ones that a call is ever sent to.

A name from outside is never looked up: a service and a region that botocore knows give a handful of names below the
domains of that region's partition, or nothing. AWS SDKs: "Endpoint rule sets", botocore/endpoint_provider.py.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader

from gateway.core.errors import Refusal

KEPT: Final = 1024
"""Answers that are remembered."""

_NAME = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
# What operations say to the rules of these is about the bucket and the account, which are put before our hosts.
_OF_INPUT: Final = frozenset({"s3", "s3control"})
_WAYS: Final = ("UseFIPS", "UseDualStack", "UseGlobalEndpoint")

Parameters = Mapping[str, str | bool]


class Endpoints:
    """The hosts by service (botocore's name) and region. Safe for threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._hosts: dict[tuple[str, str, str | None], tuple[str, ...]] = {}
        self._resolved: dict[tuple[str, str, str], tuple[str, ...]] = {}
        self._said: dict[str, dict[str, Parameters]] = {}

    def hosts(self, service: str, region: str, operation: str | None = None) -> tuple[str, ...]:
        """The usual host first, then the others that take a signature for the region: global, dual-stack, FIPS.

        A few services have a host for some operations, and another for the rest: without `operation`, all of them.
        Raises Refusal for a service or a region that botocore does not know, and where the service is not.
        """
        key = service, region, operation
        if (hosts := self._hosts.get(key)) is None:
            with self._lock:
                hosts = self._found(service, region, operation)
                if len(self._hosts) >= KEPT:
                    self._hosts.clear()
                    self._resolved.clear()
                self._hosts[key] = hosts
        if not hosts:
            raise Refusal("call_malformed", "the service has no endpoint there", reason="no_endpoint", service=service)
        return hosts

    @cached_property
    def _partitions(self) -> Any:
        return _loader().load_data("partitions")

    def _found(self, service: str, region: str, operation: str | None) -> tuple[str, ...]:
        """The hosts of all that the operation may say to the rules: resolved once for all operations that say it."""
        domains = self._domains(region)
        out: dict[str, None] = {}
        for fixed in self._fixed(service, operation):
            key = service, region, repr(fixed)
            if key not in self._resolved:
                self._resolved[key] = self._resolve(service, region, fixed, domains)
            out |= dict.fromkeys(self._resolved[key])
        return tuple(out)

    def _resolve(self, service: str, region: str, fixed: Parameters, domains: tuple[str, ...]) -> tuple[str, ...]:
        rules = _loader().load_service_model(service, "endpoint-rule-set-1")
        provider = EndpointProvider(rules, self._partitions)
        found: dict[str, None] = {}
        for given in _given(fixed, rules["parameters"], region):
            try:
                endpoint = provider.resolve_endpoint(**given)
            except BotoCoreError:
                continue  # the rules have none for this combination
            if _signs_for(endpoint.properties, region) and (host := _host(endpoint.url, domains)) is not None:
                found[host] = None
        return tuple(found)

    def _fixed(self, service: str, operation: str | None) -> Sequence[Parameters]:
        """What the operation says to the rules; without one, what any of them does, the most frequent first."""
        if service not in self._said:
            if service not in _loader().list_available_services("endpoint-rule-set-1"):
                raise Refusal("call_malformed", "the service is not known", reason="service_unknown", service=service)
            operations = _loader().load_service_model(service, "service-2")["operations"]
            rows = {name: row.get("staticContextParams", {}) for name, row in operations.items()}
            self._said[service] = {
                name: {} if service in _OF_INPUT else {key: each["value"] for key, each in row.items()}
                for name, row in rows.items()
            }
        said = self._said[service]
        if operation is not None:
            return [said.get(operation, {})]
        return [dict(each) for each, _ in Counter(tuple(each.items()) for each in said.values()).most_common()]

    def _domains(self, region: str) -> tuple[str, ...]:
        """The domains of the region's partition."""
        for partition in self._partitions["partitions"]:
            if region in partition["regions"]:
                outputs = partition["outputs"]
                return (outputs["dnsSuffix"], outputs["dualStackDnsSuffix"])
        raise Refusal("call_malformed", "the region is not known", reason="region_unknown", region=region)


def _loader() -> Any:
    # Only botocore's own rules, for nobody's ~/.aws may say where AWS is; and nothing of them is kept.
    return Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)


def _given(fixed: Parameters, takes: Mapping[str, Any], region: str) -> Iterator[Parameters]:
    """The parameters to resolve with, the usual ones first."""
    for switches in product((False, True), repeat=len(_WAYS)):
        given = {"Region": region, **dict(zip(_WAYS, switches, strict=True)), **fixed}
        if all(name in takes for name, value in given.items() if value):
            yield {name: value for name, value in given.items() if name in takes}


def _signs_for(properties: Mapping[str, Any], region: str) -> bool:
    """Does the endpoint take signatures for this region? A global one takes those for its own alone."""
    schemes = [scheme for scheme in properties.get("authSchemes", ()) if scheme["name"] == "sigv4"]
    return all(scheme.get("signingRegion", region) == region for scheme in schemes)


def _host(url: str, domains: tuple[str, ...]) -> str | None:
    """The host of a URL of the rules, if it is one below these domains, spoken to by TLS on the usual port."""
    parts = urlsplit(url)
    host = parts.netloc
    if parts.scheme != "https" or not _NAME.fullmatch(host) or not host.endswith(tuple(f".{each}" for each in domains)):
        return None
    return host

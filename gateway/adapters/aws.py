"""AWS, by boto3: STS AssumeRole, GetFederationToken and GetCallerIdentity, EC2 DescribeInstances.

One client a (service, region, key) is kept; the secret is not. botocore asks its credentials object for the key each
time it signs, and ours opens the vault then. What AWS this talks to, and as whom, is decided by our settings and our
vault alone: bootstrap takes AWS's variables and files out of the environment before a client is made.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, NoReturn

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from gateway.adapters.breaker import Breakers
from gateway.adapters.bulkhead import Bulkhead
from gateway.core.attest.facts import InstanceFacts
from gateway.core.errors import Refusal
from gateway.core.model import Session, SessionRequest
from gateway.ports import OpenableKey

# In each worker, of its 16 threads a listener: when AWS stalls, some stay free for what needs no AWS.
WIDTH = 12
DEADLINE = timedelta(seconds=4.5)
PATIENCE = timedelta(seconds=0.5)

# AWS codes that mean "not now" rather than "no".
_LATER = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "InternalFailure",
        "InternalError",
    }
)


@contextmanager
def understood() -> Iterator[None]:
    """An answer in which a field is missing or garbled is refused; botocore fails in many ways on these."""
    try:
        yield
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise Refusal(
            "upstream_refused",
            "AWS's answer is not understood",
            reason="aws_answer_malformed",
            error=type(error).__name__,
        ) from None


class SealedCredentials(Credentials):  # type: ignore[misc]  # botocore has no types
    """Credentials that hold no secret: each signature opens the key anew."""

    def __init__(self, key: OpenableKey) -> None:
        self._key = key
        self.method = "trusted-gateway-vault"
        self.account_id = None

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        with self._key.open() as secret:
            return ReadOnlyCredentials(self._key.access_key_id, secret.decode(), None)

    def get_deferred_property(self, property_name: str) -> Callable[[], Any]:
        return lambda: getattr(self, property_name)


class _VaultProvider(CredentialProvider):  # type: ignore[misc]  # botocore has no types
    METHOD = CANONICAL_NAME = "trusted-gateway-vault"

    def __init__(self, key: OpenableKey) -> None:
        super().__init__()
        self._key = key

    def load(self) -> SealedCredentials:
        return SealedCredentials(self._key)


class Aws:
    """`ports.Cloud` and `ports.Upstream`. `endpoint` replaces AWS's own addresses, for development only."""

    def __init__(self, endpoint: str | None = None, *, home_region: str = "us-east-1") -> None:
        self._endpoint = endpoint
        self.home_region = home_region
        self._clients: dict[tuple[str, str, str, str], Any] = {}
        self._lock = Lock()
        self._loader = botocore.loaders.create_loader()
        self._wall = Bulkhead(WIDTH, DEADLINE, PATIENCE)
        self._breakers = Breakers(time.monotonic, random.SystemRandom().random)
        self.observe: Callable[[str, str, str, float], None] | None = None  # service, operation, outcome, seconds

    def preload(self) -> None:
        """Read botocore's models of the services: before the fork, it is done once for all workers."""
        for service in ("sts", "ec2", "iam"):
            for kind in ("service-2", "endpoint-rule-set-1"):
                self._loader.load_service_model(service, kind)
        for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
            self._loader.load_data(name)

    @understood()
    def session(self, key: OpenableKey, request: SessionRequest) -> Session:
        """STS AssumeRole (AWS: API_AssumeRole), or without a role GetFederationToken (AWS: API_GetFederationToken)."""
        arguments: dict[str, Any] = {
            "DurationSeconds": int(request.duration.total_seconds()),
            "Tags": [{"Key": k, "Value": v} for k, v in request.tags.items()],
        }
        if request.policy is not None:
            arguments["Policy"] = request.policy
        if request.policy_arns:
            arguments["PolicyArns"] = [{"arn": arn} for arn in request.policy_arns]
        if request.role is None:
            arguments["Name"] = request.session_name
            answer = self.call(key, "sts", request.region, "get_federation_token", arguments)
            principal, principal_id = answer["FederatedUser"]["Arn"], answer["FederatedUser"]["FederatedUserId"]
        else:
            arguments |= {
                "RoleArn": request.role,
                "RoleSessionName": request.session_name,
                "SourceIdentity": request.source_identity,
            }
            if request.external_id is not None:
                arguments["ExternalId"] = request.external_id
            answer = self.call(key, "sts", request.region, "assume_role", arguments)
            principal, principal_id = answer["AssumedRoleUser"]["Arn"], answer["AssumedRoleUser"]["AssumedRoleId"]
        given = answer["Credentials"]
        if not all(given[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")):
            raise ValueError("a session that is not whole")
        return Session(
            access_key_id=given["AccessKeyId"],
            secret_access_key=given["SecretAccessKey"],
            session_token=given["SessionToken"],
            expires_at=aware(given["Expiration"]).astimezone(UTC).replace(microsecond=0),
            principal=principal,
            principal_id=principal_id,
            packed_percent=answer.get("PackedPolicySize"),
        )

    @understood()
    def account(self, key: OpenableKey) -> str:
        """STS GetCallerIdentity: the account that the key is of."""
        answer = self.call(key, "sts", self.home_region, "get_caller_identity", {})
        return str(answer["Account"])

    @understood()
    def instance(self, key: OpenableKey, region: str, instance_id: str) -> InstanceFacts | None:
        """EC2 DescribeInstances; None when AWS knows no such instance."""
        found = self.described(key, region, instance_id)
        if found is None:
            return None
        reservation, instance = found
        return InstanceFacts(
            account=str(reservation.get("OwnerId", "")),
            region=region,
            instance_id=instance_id,
            state=str(instance.get("State", {}).get("Name", "")),
            image_id=str(instance.get("ImageId", "")),
            private_ip=str(instance.get("PrivateIpAddress", "")),
            public_ip=instance.get("PublicIpAddress"),
            launch_time=aware(instance["LaunchTime"]),
            vpc_id=instance.get("VpcId"),
            tags={str(tag["Key"]): str(tag["Value"]) for tag in instance.get("Tags", [])},
            root_attached=_root_attached(instance),
            interface_attached=_interface_attached(instance),
        )

    def described(
        self, key: OpenableKey, region: str, instance_id: str
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """EC2 DescribeInstances of one: its reservation and itself; None unless there is exactly one of this id."""
        try:
            answer = self.call(key, "ec2", region, "describe_instances", {"InstanceIds": [instance_id]})
        except Refusal as refusal:
            if str(refusal.context.get("aws_code", "")).startswith("InvalidInstanceID."):
                return None
            raise
        found = [
            (reservation, instance)
            for reservation in answer["Reservations"]
            for instance in reservation.get("Instances", [])
            if instance.get("InstanceId") == instance_id
        ]
        return found[0] if len(found) == 1 else None

    def call(self, key: OpenableKey, service: str, region: str, operation: str, arguments: dict[str, Any]) -> Any:
        """One call of AWS's, by boto3's name of it. Raises Refusal: `upstream_unavailable` or `upstream_refused`."""
        outcome, begun = "ok", time.monotonic()
        try:
            with self._breakers.of(service, region, key.access_key_id):
                return self._try(key, service, region, operation, arguments)
        except Refusal as refusal:
            outcome = refusal.code
            raise
        finally:
            if self.observe:
                self.observe(service, operation, outcome, time.monotonic() - begun)

    @property
    def shut(self) -> int:
        """How many things of AWS are not asked at this moment, because they did not answer."""
        return self._breakers.shut

    def _try(self, key: OpenableKey, service: str, region: str, operation: str, arguments: dict[str, Any]) -> Any:
        try:
            return self._wall.run(lambda: getattr(self._client(key, service, region), operation)(**arguments))
        except ClientError as error:
            _refuse(service, operation, error)
        except (BotoCoreError, ResponseParserError) as error:  # no answer, or half of one, or a load balancer's
            # The text may quote addresses and arguments; its class says enough.
            raise Refusal("upstream_unavailable", reason=type(error).__name__, retry_after=5) from None

    def _client(self, key: OpenableKey, service: str, region: str) -> Any:
        slot = (service, region, key.name, key.access_key_id)
        with self._lock:
            if slot not in self._clients:
                self._clients[slot] = self._make_client(key, service, region)
            return self._clients[slot]

    def _make_client(self, key: OpenableKey, service: str, region: str) -> Any:
        session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
        session.register_component("data_loader", self._loader)
        session.register_component("credential_provider", CredentialResolver([_VaultProvider(key)]))
        config = Config(
            connect_timeout=2,
            read_timeout=3,
            retries={"total_max_attempts": 1},
            ignore_configured_endpoint_urls=True,
            proxies={},
            max_pool_connections=32,
        )
        return boto3.Session(botocore_session=session).client(
            # verify=True: else botocore takes REQUESTS_CA_BUNDLE and its like from the environment.
            service,
            region_name=region,
            endpoint_url=self._endpoint,
            config=config,
            verify=True,
        )


def _root_attached(instance: Mapping[str, Any]) -> datetime | None:
    """When the root volume was attached; None for an instance whose root is no EBS volume."""
    for device in instance.get("BlockDeviceMappings", []):
        if device["DeviceName"] == instance.get("RootDeviceName") and "Ebs" in device:
            return aware(device["Ebs"]["AttachTime"])
    return None


def _interface_attached(instance: Mapping[str, Any]) -> datetime | None:
    """When the first network interface was attached: at the launch, for it cannot be changed afterwards."""
    for interface in instance.get("NetworkInterfaces", []):
        if interface.get("Attachment", {}).get("DeviceIndex") == 0:
            return aware(interface["Attachment"]["AttachTime"])
    return None


def aware(moment: datetime) -> datetime:
    """AWS's times have a time zone: one without would be read in this host's."""
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    return moment


def _refuse(service: str, operation: str, error: ClientError) -> NoReturn:
    response = error.response
    code = str(response.get("Error", {}).get("Code", ""))
    code = code if re.fullmatch(r"[A-Za-z0-9.]{1,64}", code) else ""
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    facts: dict[str, Any] = {"aws_code": code, "aws_operation": f"{service}:{operation}", "aws_status": status}
    facts["aws_request_id"] = str(response.get("ResponseMetadata", {}).get("RequestId", ""))[:64]
    if code in _LATER or status >= 500 or status == 429:
        raise Refusal("upstream_unavailable", reason="aws_later", retry_after=5, **facts) from None
    raise Refusal("upstream_refused", f"AWS answered {code!r}", reason="aws_refused", **facts) from None

"""The calls that would lend out the identity of the gateway's own session. Pure.

To sign and to carry is there to keep the session in: whoever has one signature can do one thing, once. So no policy
opens, by these ways, what gives the session's own rights away in another form:
 * what STS gives out, and its proofs: a signature under GetCallerIdentity is one (EKS, and Vault's own AWS method, take
   it), GetWebIdentityToken another. What only tells something is carried, never signed.
 * sign-in and IAM Identity Center (signin, sso, sso-oidc): tokens, and sessions for them.
 * s3:CreateSession: a session for a directory bucket.
 * the tokens of ECR and CodeArtifact: what the session may do there, for up to 12 hours. Who wants them writes that
   action into the grant's `token`.

All else is the policy's matter, since it has an action of its own, which nobody allows but by name or with `*`:
 * credentials of others: cognito-identity:GetCredentialsForIdentity, eks-auth:AssumeRoleForPodIdentity (for a pod's own
   token), s3:GetDataAccess, lakeformation:GetTemporary…, datazone:GetEnvironmentCredentials, deadline:Assume…Role…,
   gamelift:GetComputeAccess, ssm:GetAccessToken, emr:GetClusterSessionCredentials, mwaa:Create…Token;
 * passwords of databases: redshift:GetClusterCredentials, redshift-serverless:GetCredentials, lightsail;
 * what changes who may do what: iam:CreateAccessKey, iam:UpdateAssumeRolePolicy, and the like.

What needs no rule, for it cannot be had: presigned requests that serve as passwords (rds-db, dsql, elasticache, EKS,
CallWithBearerToken of Bedrock), because only S3 is presigned; rolesanywhere:CreateSession and the credential provider
of IoT, because their caller is a certificate.
"""

from collections.abc import Mapping
from typing import Any

from gateway.core.actions.call import Routed
from gateway.core.delivery import PROXY, SIGN, TOKEN
from gateway.core.errors import Refusal

# AWS: STS API reference. Those that tell something and give nothing away.
_TELLING = frozenset({"GetCallerIdentity", "GetAccessKeyInfo", "DecodeAuthorizationMessage"})
_SERVICES = frozenset({"sts", "signin", "sso", "sso-oidc"})
_LENDING = frozenset({
    ("codeartifact", "GetAuthorizationToken"),
    ("ecr", "GetAuthorizationToken"),
    ("ecr-public", "GetAuthorizationToken"),
    ("s3", "CreateSession"),
})  # fmt: skip


def way_of(routed: Routed, way: str, facts: Mapping[str, Any]) -> str:
    """The way that such a call goes: never with a signature that another could use. Raises Refusal `call_denied`, with
    these facts.
    """
    if (routed.service, routed.operation) in _LENDING and way != TOKEN:
        why = "Its answer would be good for more than this call: it goes by 'token' alone"
        raise Refusal("call_denied", why, reason="identity_call", **facts)
    if routed.service not in _SERVICES:
        return way
    if routed.service != "sts" or routed.operation not in _TELLING:
        why = "Nobody is given a session, or a proof of identity, of the gateway's own"
        raise Refusal("call_denied", why, reason="identity_call", **facts)
    return PROXY if way == SIGN else way

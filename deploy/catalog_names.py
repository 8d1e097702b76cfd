"""What the index of actions cannot derive from names: which IAM prefix and which action an operation of AWS takes.

Each row was read in AWS's "Service Authorization Reference" (the service's page of actions) or in the API reference of
the operation, whichever says it. What neither says is not here, and stays unknown.
"""

# botocore's service → IAM's prefix, where neither the signing name, the endpoint prefix nor the service's name is it.
PREFIXES = {
    "apigatewaymanagementapi": "execute-api",
    "cloudcontrol": "cloudformation",  # "Cloud Control API actions have the prefix cloudformation"
    "connectscheduling": "connect",
    "iot-data": "iot",
    "iot-jobs-data": "iotjobsdata",
    "iotsecuretunneling": "iot",
    "mturk": "mechanicalturk",
    "opensearch": "es",
    "partnercentral-account": "partnercentral",
    "partnercentral-benefits": "partnercentral",
    "partnercentral-channel": "partnercentral",
    "partnercentral-selling": "partnercentral",
    "resourcegroupstaggingapi": "tag",
}

# What no signature of SigV4 guards: a participant's, a person's or a repository's token does. They stay unknown.
WITHOUT_IAM = frozenset({"codecatalyst", "connectparticipant", "sso", "sso-oidc"})

_BUDGET = ("Budget", "Notification", "Subscriber")
_OUTPOSTS = ("BucketLifecycleConfiguration", "BucketReplication")

# service → operation → action. An action without a prefix is of the service's own.
ACTIONS: dict[str, dict[str, str]] = {
    # "Service Authorization Reference": each of the three ways to reach a connection takes the one action.
    "apigatewaymanagementapi": dict.fromkeys(
        ("DeleteConnection", "GetConnection", "PostToConnection"), "ManageConnections"
    ),
    # "This operation requires permission for the bedrock:InvokeModel action" (Converse, StartAsyncInvoke), and alike.
    "bedrock-runtime": {
        "Converse": "InvokeModel",
        "ConverseStream": "InvokeModelWithResponseStream",
        "StartAsyncInvoke": "InvokeModel",
    },
    "bedrock-agent-runtime": {"RetrieveAndGenerateStream": "RetrieveAndGenerate"},
    # "AWS Budgets actions": the console's two words stand for the API.
    "budgets": {
        **{verb + noun: "ModifyBudget" for verb in ("Create", "Delete", "Update") for noun in _BUDGET},
        **dict.fromkeys(
            ("DescribeBudget", "DescribeBudgetNotificationsForAccount", "DescribeBudgetPerformanceHistory",
             "DescribeBudgets", "DescribeNotificationsForBudget", "DescribeSubscribersForNotification"), "ViewBudget"),
    },
    "cloudsearchdomain": {"Search": "search", "Suggest": "suggest", "UploadDocuments": "document"},
    # API reference: "The IAM permission required for this operation is GetTable", and alike.
    "glue": {
        f"{verb}ColumnStatisticsFor{noun}": f"{verb}{noun}"
        for verb in ("Delete", "Get", "Update")
        for noun in ("Partition", "Table")
    },
    # "Amazon Keyspaces: how it works with IAM": CQL's verbs.
    "keyspaces": {
        **dict.fromkeys(("CreateKeyspace", "CreateTable", "CreateType"), "Create"),
        **dict.fromkeys(("DeleteKeyspace", "DeleteTable", "DeleteType"), "Drop"),
        **dict.fromkeys(
            ("GetKeyspace", "GetTable", "GetTableAutoScalingSettings", "GetType", "ListKeyspaces", "ListTables",
             "ListTagsForResource", "ListTypes"), "Select"),
        "RestoreTable": "Restore",
        "UpdateTable": "Alter",
    },
    "lambda": {"GetLayerVersionByArn": "GetLayerVersion"},
    # S3 Control's bucket operations are those of buckets on Outposts (their API pages name s3-outposts actions).
    "s3control": {
        **{f"{verb}Bucket{noun}": f"s3-outposts:{verb}Bucket{noun}"
           for verb in ("Delete", "Get", "Put") for noun in ("Policy",)},
        **{f"{verb}Bucket": f"s3-outposts:{verb}Bucket" for verb in ("Create", "Delete", "Get")},
        **{f"{verb}{noun}": f"s3-outposts:{verb}{noun.removeprefix('Bucket')}"
           for verb in ("Get", "Put") for noun in ("BucketLifecycleConfiguration",)},
        "DeleteBucketLifecycleConfiguration": "s3-outposts:PutLifecycleConfiguration",
        "GetBucketReplication": "s3-outposts:GetReplicationConfiguration",
        "PutBucketReplication": "s3-outposts:PutReplicationConfiguration",
        "DeleteBucketReplication": "s3-outposts:PutReplicationConfiguration",
        "GetBucketTagging": "s3-outposts:GetBucketTagging",
        "PutBucketTagging": "s3-outposts:PutBucketTagging",
        "DeleteBucketTagging": "s3-outposts:PutBucketTagging",
        "GetBucketVersioning": "s3-outposts:GetBucketVersioning",
        "PutBucketVersioning": "s3-outposts:PutBucketVersioning",
        "ListRegionalBuckets": "s3-outposts:ListRegionalBuckets",
        "GetPublicAccessBlock": "GetAccountPublicAccessBlock",
        "PutPublicAccessBlock": "PutAccountPublicAccessBlock",
        "DeletePublicAccessBlock": "PutAccountPublicAccessBlock",
    },
    # "Permissions for … batch: use the action of the single one" (API pages of SendMessageBatch and its sisters).
    "sns": {"PublishBatch": "Publish"},
    "sqs": {
        "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
        "DeleteMessageBatch": "DeleteMessage",
        "SendMessageBatch": "SendMessage",
    },
    "verifiedpermissions": {
        "BatchGetPolicy": "GetPolicy",
        "BatchIsAuthorized": "IsAuthorized",
        "BatchIsAuthorizedWithToken": "IsAuthorizedWithToken",
    },
}  # fmt: skip

# Services whose operations hand-written rules read whole (gateway/core/actions/rules): the index holds none of them.
RULED = frozenset({"apigateway", "s3"})
# What has no action of its own name takes that of its HTTP verb.
VERBS = frozenset({"apigatewayv2"})

# Operations that name roles and pass none: they assume, administer or list them.
NO_PASSING = frozenset({"account-access", "account-access-runtime", "iam", "iam-toolbox", "organizations", "signin",
                        "sso", "sso-admin", "sts"})  # fmt: skip

# prefix → resource type → placeholder → the members that name it, where their names do not agree.
FILLS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "cloudwatch": {
        "insight-rule": {"InsightRuleName": ("RuleName", "RuleNames")},
        "metric-stream": {"MetricStreamName": ("Name", "Names")},
    },
    "ec2": {"security-group": {"SecurityGroupId": ("GroupId", "GroupIds", "SecurityGroupIds")}},
    "rds": {
        "cluster": {"DbClusterInstanceName": ("DBClusterIdentifier",)},
        "cluster-pg": {"ClusterParameterGroupName": ("DBClusterParameterGroupName",)},
        "cluster-snapshot": {"ClusterSnapshotName": ("DBClusterSnapshotIdentifier",)},
        "pg": {"ParameterGroupName": ("DBParameterGroupName",)},
        "secgrp": {"SecurityGroupName": ("DBSecurityGroupName",)},
        "snapshot": {"SnapshotName": ("DBSnapshotIdentifier",)},
        "subgrp": {"SubnetGroupName": ("DBSubnetGroupName",)},
    },
    "ssm": {
        "document": {"DocumentName": ("DocumentName", "Name")},
        "maintenancewindow": {"ResourceId": ("WindowId",)},
        "opsitem": {"ResourceId": ("OpsItemId",)},
        "parameter": {"ParameterNameWithoutLeadingSlash": ("Name", "Names")},
        "patchbaseline": {"PatchBaselineIdResourceId": ("BaselineId",)},
    },
}

# prefix → resource type → the members that may hold its ARN; a name tells it not. "Secrets Manager adds six random
# letters to the end of the ARN".
ARN_ONLY: dict[str, dict[str, tuple[str, ...]]] = {"secretsmanager": {"secret": ("SecretId",)}}

# service → operations whose names agree with the resource of another one: what they are on stays unknown.
UNTOLD: dict[str, tuple[str, ...]] = {
    # "Resource types defined by Elastic Load Balancing V2": loadbalancer/app/name/id; the plain name is of the old API.
    "elbv2": ("CreateLoadBalancer",),
}

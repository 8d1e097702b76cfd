"""What of the corpus is not routed to the very operation that was called, and why that is right."""

import re

SAME_ACTION = {
    # The same HTTP request: S3 has one operation, botocore has its first name, too.
    "s3.GetBucketLifecycle": "s3.GetBucketLifecycleConfiguration",
    "s3.GetBucketNotification": "s3.GetBucketNotificationConfiguration",
    "s3.PutBucketLifecycle": "s3.PutBucketLifecycleConfiguration",
    "s3.PutBucketNotification": "s3.PutBucketNotificationConfiguration",
}
"""An operation, and the one that stands for both."""

_S3EXPRESS = "signed for s3express, whose sessions are not ours to make"
EXPLAINED = {
    "s3.ListDirectoryBuckets": ("call_malformed/service_unknown", _S3EXPRESS),
    "s3.WriteGetObjectResponse": (
        "call_malformed/service_unknown",
        "signed for s3-object-lambda, on a host of its own",
    ),
    "s3control.DeleteAccessPointScope": ("call_malformed/service_unknown", _S3EXPRESS),
    "s3control.GetAccessPointScope": ("call_malformed/service_unknown", _S3EXPRESS),
    "s3control.ListAccessPointsForDirectoryBuckets": ("call_malformed/service_unknown", _S3EXPRESS),
    "s3control.PutAccessPointScope": ("call_malformed/service_unknown", _S3EXPRESS),
    "importexport.*": ("call_malformed/service_unknown", "signed for IngestionService, which AWS closed"),
    "cloudsearchdomain.Search": ("cloudsearchdomain.None", "botocore sends a GET as a POST: needs an Allow of `*`"),
}
"""An operation (`*`: every one of the service), what becomes of it, and why."""

HIDDEN = {
    "lex-models.StartImport": ("call_ambiguous/several_operations", "lexv2-models has the same path: ListImports"),
    "lexv2-models.ListImports": ("call_ambiguous/several_operations", "lex-models has the same path: StartImport"),
    "lexv2-models.TagResource": ("call_malformed/wrong_type", "lex-models has the same path, and other tags"),
    "lex-models.TagResource": ("call_malformed/wrong_type", "lexv2-models has the same path, and other tags"),
}
"""The same, where the client names no host of AWS's."""

CUSTOMIZED = frozenset(
    {
        # A document that a header holds in base64.
        "iot-data.Publish.userProperties",
        "iot-data.SendDirectMessage.userProperties",
        "lex-runtime.PostContent.activeContexts",
        "lex-runtime.PostContent.requestAttributes",
        "lex-runtime.PostContent.sessionAttributes",
        # botocore presigns a request to that region instead, and sends its URL.
        "rds.CopyDBClusterSnapshot.SourceRegion",
        "rds.CopyDBSnapshot.SourceRegion",
        "rds.CreateDBCluster.SourceRegion",
        "rds.CreateDBInstanceReadReplica.SourceRegion",
        "rds.StartDBInstanceAutomatedBackupsReplication.SourceRegion",
    }
)
"""Members that botocore changes before it sends them."""

ELSEWHERE = re.compile(
    r"[0-9]{12}\.ddb\..+"  # DynamoDB's endpoints of an account
    r"|[a-z0-9-]+\.(?:data|control)-kinesis(?:-queues)?\..+"  # Kinesis's, of an account or a queue
)
"""Hosts that botocore makes of the input, for speed: the usual one takes the same requests."""

NOT_REACHED = re.compile(
    r"[a-z0-9-]+\.oauth\.signin\.aws"
    r"|[a-z0-9-]+\.osm\.[a-z0-9-]+\.on\.aws"
    r"|realtime\.machinelearning\.[a-z0-9-]+\.amazonaws\.com"  # a URL that AWS gave, in the input
)
"""Hosts that no rule of a region gives, or that lie outside of its partition's domains: we send nothing there."""

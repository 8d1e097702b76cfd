"""boto3: all jobs."""

import io
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.clients.calls.jobs import ODD_KEYS, PART, SMALL, long, packed, sha256
from tests.clients.calls.programs.asked import Jobs, over_http, refused, serve, site


class Storage:
    """The S3 jobs."""

    def __init__(self) -> None:
        self.place = site()
        self.bucket = self.place.bucket
        self.s3 = boto3.client("s3")

    def jobs(self) -> Jobs:
        """By name."""
        methods = (self.put, self.get, self.head, self.range, self.copy, self.list, self.unchanged,
                   self.missing, self.refused, self.odd_keys, self.multipart, self.presigned, self.delete,
                   self.delete_many)  # fmt: skip
        return {method.__name__.replace("_", "-"): method for method in methods}

    def put(self) -> Any:
        return self.s3.put_object(Bucket=self.bucket, Key="put", Body=SMALL, Metadata={"who": "boto3"})["ETag"]

    def get(self) -> Any:
        found = self.s3.get_object(Bucket=self.bucket, Key="put")
        return [sha256(found["Body"].read()), found["ETag"], found["Metadata"]]

    def head(self) -> Any:
        found = self.s3.head_object(Bucket=self.bucket, Key="put")
        return [found["ContentLength"], found["ETag"], found["Metadata"]]

    def range(self) -> Any:
        found = self.s3.get_object(Bucket=self.bucket, Key="put", Range="bytes=7-99")
        return [found["ContentRange"], sha256(found["Body"].read())]

    def copy(self) -> Any:
        source = {"Bucket": self.bucket, "Key": "put"}
        return self.s3.copy_object(Bucket=self.bucket, Key="copy of it", CopySource=source)["CopyObjectResult"]["ETag"]

    def list(self) -> Any:
        return self.keys("")

    def keys(self, prefix: str) -> Any:
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, PaginationConfig={"PageSize": 2}
        )
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    def unchanged(self) -> Any:
        etag = self.s3.head_object(Bucket=self.bucket, Key="put")["ETag"]
        return refused(lambda: self.s3.get_object(Bucket=self.bucket, Key="put", IfNoneMatch=etag), code)

    def missing(self) -> Any:
        get = refused(lambda: self.s3.get_object(Bucket=self.bucket, Key="no such key"), code)
        return [get, refused(lambda: self.s3.head_object(Bucket=self.bucket, Key="no such key"), code)]

    def refused(self) -> Any:
        return refused(lambda: self.s3.get_object(Bucket=self.place.forbidden, Key="secret"), code)

    def odd_keys(self) -> Any:
        for key in ODD_KEYS:
            self.s3.put_object(Bucket=self.bucket, Key=f"odd/{key}", Body=key.encode())
        bodies = [self.s3.get_object(Bucket=self.bucket, Key=f"odd/{key}")["Body"].read().decode() for key in ODD_KEYS]
        return [bodies == list(ODD_KEYS), self.keys("odd/")]

    def multipart(self) -> Any:
        config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
        self.s3.upload_fileobj(io.BytesIO(long()), self.bucket, "long", Config=config)
        back = io.BytesIO()
        self.s3.download_fileobj(self.bucket, "long", back, Config=config)
        return [sha256(back.getvalue()), self.s3.head_object(Bucket=self.bucket, Key="long")["ETag"]]

    def presigned(self) -> Any:
        s3 = boto3.client("s3", config=Config(signature_version="s3v4"))
        where = {"Bucket": self.bucket, "Key": "pre signed"}
        put, get = (
            s3.generate_presigned_url(name, Params=where, ExpiresIn=60) for name in ("put_object", "get_object")
        )
        return [over_http("PUT", put, SMALL), over_http("GET", get)]

    def delete(self) -> Any:
        self.s3.delete_object(Bucket=self.bucket, Key="copy of it")
        return refused(lambda: self.s3.head_object(Bucket=self.bucket, Key="copy of it"), code)

    def delete_many(self) -> Any:
        objects = [{"Key": f"odd/{key}"} for key in ODD_KEYS]
        done = self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects})
        return [sorted(each["Key"] for each in done["Deleted"]), self.keys("odd/")]


class Services:
    """A little of everything else."""

    def __init__(self) -> None:
        self.place = site()

    def jobs(self) -> Jobs:
        """By name."""
        return {"sqs": self.sqs, "dynamodb": self.dynamodb, "ec2": self.ec2, "sts": self.sts, "sns": self.sns,
                "lambda": self.lambda_}  # fmt: skip

    def sqs(self) -> Any:
        sqs = boto3.client("sqs")
        queue = sqs.create_queue(QueueName=self.place.name("queue"))["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody="ünicode & <xml>")
        entries = [{"Id": str(number), "MessageBody": f"message {number}"} for number in range(2)]
        batch = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
        found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
        for each in found:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
        sqs.delete_queue(QueueUrl=queue)
        gone = refused(lambda: sqs.get_queue_url(QueueName=self.place.name("queue")), code)
        return [len(batch["Successful"]), sorted(each["Body"] for each in found), gone]

    def dynamodb(self) -> Any:
        table, dynamodb = self.place.name("table"), boto3.client("dynamodb")
        key = [{"AttributeName": "id", "KeyType": "HASH"}]
        kinds = [{"AttributeName": "id", "AttributeType": "S"}]
        dynamodb.create_table(TableName=table, KeySchema=key, AttributeDefinitions=kinds, BillingMode="PAY_PER_REQUEST")
        dynamodb.put_item(TableName=table, Item={"id": {"S": "é"}, "n": {"N": "1"}, "b": {"B": b"\0\xff"}})
        puts = [{"PutRequest": {"Item": {"id": {"S": str(number)}}}} for number in range(3)]
        dynamodb.batch_write_item(RequestItems={table: puts})
        dynamodb.transact_write_items(
            TransactItems=[{"Put": {"TableName": table, "Item": {"id": {"S": "transacted"}}}}]
        )
        item = dynamodb.get_item(TableName=table, Key={"id": {"S": "é"}})["Item"]
        ids = sorted(each["id"]["S"] for each in dynamodb.scan(TableName=table)["Items"])
        dynamodb.delete_table(TableName=table)
        missing = refused(lambda: dynamodb.get_item(TableName="calls-none", Key={"id": {"S": "x"}}), code)
        return [item["n"], item["b"]["B"].hex(), ids, missing]

    def ec2(self) -> Any:
        ec2 = boto3.client("ec2")
        made = ec2.create_security_group(GroupName=self.place.name("group"), Description="calls and more")["GroupId"]
        found = ec2.describe_security_groups(GroupIds=[made])["SecurityGroups"][0]["Description"]
        ec2.delete_security_group(GroupId=made)
        return [found, refused(lambda: ec2.describe_instances(InstanceIds=["i-00000000000000000"]), code)]

    def sts(self) -> Any:
        return boto3.client("sts").get_caller_identity()["Account"]

    def sns(self) -> Any:
        sns = boto3.client("sns")
        topic = sns.create_topic(Name=self.place.name("topic"))["TopicArn"]
        sns.publish(TopicArn=topic, Message="ünicode & <xml>", Subject="one")
        found = sns.get_topic_attributes(TopicArn=topic)["Attributes"]["TopicArn"]
        sns.delete_topic(TopicArn=topic)
        return [topic == found, refused(lambda: sns.publish(TopicArn=topic, Message="x"), code)]

    def lambda_(self) -> Any:
        function, lambda_ = self.place.name("function"), boto3.client("lambda")
        made = lambda_.create_function(
            FunctionName=function, Runtime="python3.11", Handler="one.answer", Role=self.place.role,
            Code={"ZipFile": packed()},
        )  # fmt: skip
        found = lambda_.get_function(FunctionName=function)["Configuration"]["CodeSha256"]
        lambda_.delete_function(FunctionName=function)
        gone = refused(lambda: lambda_.get_function(FunctionName=function), code)
        return [made["CodeSha256"] == found, found, gone]


def code(error: Exception) -> str | None:
    """AWS's code of an error."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else None


if __name__ == "__main__":
    serve({**Storage().jobs(), **Services().jobs()}, code)

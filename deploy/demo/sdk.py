"""Runs on the instance: unmodified boto3, told nothing but what its environment says. Lists a prefix of a bucket."""

import sys

import boto3
from botocore.exceptions import ClientError


def main() -> int:
    """`sdk.py BUCKET PREFIX`: print the keys, or the code with which AWS refused (status 3)."""
    bucket, prefix = sys.argv[1:]
    try:
        answer = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)
    except ClientError as error:
        print(error.response["Error"]["Code"])
        return 3
    print("\n".join(item["Key"] for item in answer.get("Contents", [])))
    return 0


if __name__ == "__main__":
    sys.exit(main())

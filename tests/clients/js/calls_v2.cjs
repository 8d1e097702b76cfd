// The AWS SDK for JavaScript 2, which has to be told its endpoint.
const fs = require("node:fs");
const AWS = require("aws-sdk");
const asked = require("./calls_asked.cjs");

const { site, small, code, oddKeys, sha256, named, refused } = asked;
const told = { endpoint: site.endpoint, region: "us-east-1", maxRetries: 0 };
const s3 = new AWS.S3({ ...told, s3ForcePathStyle: true, signatureVersion: "v4" });
const Bucket = site.bucket;
const bytes = async (Key, more = {}) => (await s3.getObject({ Bucket, Key, ...more }).promise()).Body;

async function keys(Prefix) {
  const found = [];
  for (let ContinuationToken; ; ) {
    const page = await s3.listObjectsV2({ Bucket, Prefix, MaxKeys: 2, ContinuationToken }).promise();
    found.push(...page.Contents.map((each) => each.Key));
    if (!page.IsTruncated) return found;
    ContinuationToken = page.NextContinuationToken;
  }
}

const jobs = {
  put: async () => (await s3.putObject({ Bucket, Key: "put", Body: small, Metadata: { who: "js" } }).promise()).ETag,
  async get() {
    const found = await s3.getObject({ Bucket, Key: "put" }).promise();
    return [sha256(found.Body), found.ETag, found.Metadata];
  },
  async head() {
    const found = await s3.headObject({ Bucket, Key: "put" }).promise();
    return [found.ContentLength, found.ETag, found.Metadata];
  },
  range: async () => sha256(await bytes("put", { Range: "bytes=7-99" })),
  copy: async () =>
    (await s3.copyObject({ Bucket, Key: "copy of it", CopySource: `${Bucket}/put` }).promise()).CopyObjectResult.ETag,
  list: () => keys(""),
  async unchanged() {
    const { ETag } = await s3.headObject({ Bucket, Key: "put" }).promise();
    return refused(() => bytes("put", { IfNoneMatch: ETag }));
  },
  missing: async () => [await refused(() => bytes("no such key")),
    await refused(() => s3.headObject({ Bucket, Key: "no such key" }).promise())],
  refused: () => refused(() => bytes("secret", { Bucket: site.forbidden })),
  async "odd-keys"() {
    const bodies = [];
    for (const key of oddKeys) {
      await s3.putObject({ Bucket, Key: `odd/${key}`, Body: key }).promise();
      bodies.push((await bytes(`odd/${key}`)).toString());
    }
    return [JSON.stringify(bodies) === JSON.stringify(oddKeys), await keys("odd/")];
  },
  async multipart() {
    await s3.upload({ Bucket, Key: "long", Body: fs.createReadStream("long") }, { partSize: 5 * 1024 * 1024 }).promise();
    return sha256(await bytes("long"));
  },
  async presigned() {
    const where = { Bucket, Key: "pre signed", Expires: 60 };
    const put = await asked.put(await s3.getSignedUrlPromise("putObject", where));
    return [put, await asked.get(await s3.getSignedUrlPromise("getObject", where))];
  },
  async delete() {
    await s3.deleteObject({ Bucket, Key: "copy of it" }).promise();
    return refused(() => s3.headObject({ Bucket, Key: "copy of it" }).promise());
  },
  async "delete-many"() {
    const Objects = oddKeys.map((key) => ({ Key: `odd/${key}` }));
    const done = await s3.deleteObjects({ Bucket, Delete: { Objects } }).promise();
    return [done.Deleted.map((each) => each.Key).sort(), await keys("odd/")];
  },
  async sqs() {
    const sqs = new AWS.SQS(told);
    const queue = await sqs.createQueue({ QueueName: named("queue") }).promise();
    const QueueUrl = site.endpoint + new URL(queue.QueueUrl).pathname; // else it speaks to the host of the queue's URL
    await sqs.sendMessage({ QueueUrl, MessageBody: "ünicode & <xml>" }).promise();
    const Entries = [0, 1].map((number) => ({ Id: String(number), MessageBody: `message ${number}` }));
    await sqs.sendMessageBatch({ QueueUrl, Entries }).promise();
    const { Messages } = await sqs.receiveMessage({ QueueUrl, MaxNumberOfMessages: 10 }).promise();
    await sqs.deleteQueue({ QueueUrl }).promise();
    return [Messages.map((each) => each.Body).sort(),
      await refused(() => sqs.getQueueUrl({ QueueName: named("queue") }).promise())];
  },
  async dynamodb() {
    const ddb = new AWS.DynamoDB(told);
    const TableName = named("table");
    await ddb.createTable({
      TableName,
      KeySchema: [{ AttributeName: "id", KeyType: "HASH" }],
      AttributeDefinitions: [{ AttributeName: "id", AttributeType: "S" }],
      BillingMode: "PAY_PER_REQUEST",
    }).promise();
    await ddb.putItem({ TableName, Item: { id: { S: "é" }, n: { N: "1" } } }).promise();
    const { Item } = await ddb.getItem({ TableName, Key: { id: { S: "é" } } }).promise();
    await ddb.deleteTable({ TableName }).promise();
    const missing = { TableName: "calls-none", Key: { id: { S: "x" } } };
    return [Item.n, await refused(() => ddb.getItem(missing).promise())];
  },
  async ec2() {
    const ec2 = new AWS.EC2(told);
    const { GroupId } = await ec2.createSecurityGroup({ GroupName: named("group"), Description: "calls" }).promise();
    const found = await ec2.describeSecurityGroups({ GroupIds: [GroupId] }).promise();
    await ec2.deleteSecurityGroup({ GroupId }).promise();
    const InstanceIds = ["i-00000000000000000"];
    return [found.SecurityGroups[0].Description, await refused(() => ec2.describeInstances({ InstanceIds }).promise())];
  },
  sts: async () => (await new AWS.STS(told).getCallerIdentity().promise()).Account,
  async sns() {
    const sns = new AWS.SNS(told);
    const { TopicArn } = await sns.createTopic({ Name: named("topic") }).promise();
    await sns.publish({ TopicArn, Message: "ünicode & <xml>" }).promise();
    await sns.deleteTopic({ TopicArn }).promise();
    return refused(() => sns.publish({ TopicArn, Message: "x" }).promise());
  },
  async lambda() {
    const lambda = new AWS.Lambda(told);
    const FunctionName = named("function");
    const how = { Runtime: "python3.11", Handler: "one.answer", Role: site.role, Code: { ZipFile: code } };
    await lambda.createFunction({ FunctionName, ...how }).promise();
    const { Configuration } = await lambda.getFunction({ FunctionName }).promise();
    await lambda.deleteFunction({ FunctionName }).promise();
    return [Configuration.CodeSha256, await refused(() => lambda.getFunction({ FunctionName }).promise())];
  },
};

asked.serve(jobs);

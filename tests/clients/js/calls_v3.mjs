// The AWS SDK for JavaScript 3, told nothing but what its environment says, and that names of buckets go into the path.
import fs from "node:fs";
import * as ddb from "@aws-sdk/client-dynamodb";
import * as ec2 from "@aws-sdk/client-ec2";
import * as lambda from "@aws-sdk/client-lambda";
import * as s3 from "@aws-sdk/client-s3";
import * as sns from "@aws-sdk/client-sns";
import * as sqs from "@aws-sdk/client-sqs";
import * as sts from "@aws-sdk/client-sts";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import asked from "./calls_asked.cjs";

const { site, small, code, oddKeys, sha256, named, refused } = asked;
const once = { maxAttempts: 1 };
const storage = new s3.S3Client({ forcePathStyle: true, ...once });
const Bucket = site.bucket;
const send = (Command, input) => storage.send(new Command({ Bucket, ...input }));
const bytes = async (Key, more = {}) =>
  Buffer.from(await (await send(s3.GetObjectCommand, { Key, ...more })).Body.transformToByteArray());

async function keys(Prefix) {
  const found = [];
  for await (const page of s3.paginateListObjectsV2({ client: storage, pageSize: 2 }, { Bucket, Prefix }))
    found.push(...(page.Contents ?? []).map((each) => each.Key));
  return found;
}

const jobs = {
  put: async () => (await send(s3.PutObjectCommand, { Key: "put", Body: small, Metadata: { who: "js" } })).ETag,
  async get() {
    const found = await send(s3.GetObjectCommand, { Key: "put" });
    return [sha256(Buffer.from(await found.Body.transformToByteArray())), found.ETag, found.Metadata];
  },
  async head() {
    const found = await send(s3.HeadObjectCommand, { Key: "put" });
    return [found.ContentLength, found.ETag, found.Metadata];
  },
  range: async () => sha256(await bytes("put", { Range: "bytes=7-99" })),
  copy: async () =>
    (await send(s3.CopyObjectCommand, { Key: "copy of it", CopySource: `${Bucket}/put` })).CopyObjectResult.ETag,
  list: () => keys(""),
  async unchanged() {
    const { ETag } = await send(s3.HeadObjectCommand, { Key: "put" });
    return refused(() => send(s3.GetObjectCommand, { Key: "put", IfNoneMatch: ETag }));
  },
  missing: async () => [await refused(() => bytes("no such key")),
    await refused(() => send(s3.HeadObjectCommand, { Key: "no such key" }))],
  refused: () => refused(() => bytes("secret", { Bucket: site.forbidden })),
  async "odd-keys"() {
    const bodies = [];
    for (const key of oddKeys) {
      await send(s3.PutObjectCommand, { Key: `odd/${key}`, Body: key });
      bodies.push((await bytes(`odd/${key}`)).toString());
    }
    return [JSON.stringify(bodies) === JSON.stringify(oddKeys), await keys("odd/")];
  },
  async multipart() {
    const Body = fs.createReadStream("long"); // of unknown length: by parts, and with trailing checksums
    await new Upload({ client: storage, params: { Bucket, Key: "long", Body }, partSize: 5 * 1024 * 1024 }).done();
    await send(s3.PutObjectCommand, { Key: "streamed", Body: fs.createReadStream("small"), ContentLength: small.length });
    return [sha256(await bytes("long")), sha256(await bytes("streamed"))];
  },
  async presigned() {
    // It would sign the checksum of an empty body, too, which AWS then holds against the real one.
    const client = new s3.S3Client({ forcePathStyle: true, requestChecksumCalculation: "WHEN_REQUIRED", ...once });
    const signed = (Command) => getSignedUrl(client, new Command({ Bucket, Key: "pre signed" }), { expiresIn: 60 });
    return [await asked.put(await signed(s3.PutObjectCommand)), await asked.get(await signed(s3.GetObjectCommand))];
  },
  async delete() {
    await send(s3.DeleteObjectCommand, { Key: "copy of it" });
    return refused(() => send(s3.HeadObjectCommand, { Key: "copy of it" }));
  },
  async "delete-many"() {
    const Objects = oddKeys.map((key) => ({ Key: `odd/${key}` }));
    const done = await send(s3.DeleteObjectsCommand, { Delete: { Objects } });
    return [done.Deleted.map((each) => each.Key).sort(), await keys("odd/")];
  },
  async sqs() {
    const client = new sqs.SQSClient({ useQueueUrlAsEndpoint: false, ...once });
    const call = (Command, input) => client.send(new Command(input));
    const { QueueUrl } = await call(sqs.CreateQueueCommand, { QueueName: named("queue") });
    await call(sqs.SendMessageCommand, { QueueUrl, MessageBody: "ünicode & <xml>" });
    const Entries = [0, 1].map((number) => ({ Id: String(number), MessageBody: `message ${number}` }));
    await call(sqs.SendMessageBatchCommand, { QueueUrl, Entries });
    const { Messages } = await call(sqs.ReceiveMessageCommand, { QueueUrl, MaxNumberOfMessages: 10 });
    await call(sqs.DeleteQueueCommand, { QueueUrl });
    const gone = await refused(() => call(sqs.GetQueueUrlCommand, { QueueName: named("queue") }));
    return [Messages.map((each) => each.Body).sort(), gone];
  },
  async dynamodb() {
    const client = new ddb.DynamoDBClient(once);
    const TableName = named("table");
    const call = (Command, input) => client.send(new Command({ TableName, ...input }));
    await call(ddb.CreateTableCommand, {
      KeySchema: [{ AttributeName: "id", KeyType: "HASH" }],
      AttributeDefinitions: [{ AttributeName: "id", AttributeType: "S" }],
      BillingMode: "PAY_PER_REQUEST",
    });
    await call(ddb.PutItemCommand, { Item: { id: { S: "é" }, n: { N: "1" }, b: { B: Buffer.from([0, 255]) } } });
    const { Item } = await call(ddb.GetItemCommand, { Key: { id: { S: "é" } } });
    await call(ddb.DeleteTableCommand, {});
    const missing = await refused(() => call(ddb.GetItemCommand, { TableName: "calls-none", Key: { id: { S: "x" } } }));
    return [Item.n, Buffer.from(Item.b.B).toString("hex"), missing];
  },
  async ec2() {
    const client = new ec2.EC2Client(once);
    const call = (Command, input) => client.send(new Command(input));
    const { GroupId } = await call(ec2.CreateSecurityGroupCommand, { GroupName: named("group"), Description: "calls" });
    const found = await call(ec2.DescribeSecurityGroupsCommand, { GroupIds: [GroupId] });
    await call(ec2.DeleteSecurityGroupCommand, { GroupId });
    const InstanceIds = ["i-00000000000000000"];
    const missing = await refused(() => call(ec2.DescribeInstancesCommand, { InstanceIds }));
    return [found.SecurityGroups[0].Description, missing];
  },
  sts: async () => (await new sts.STSClient(once).send(new sts.GetCallerIdentityCommand({}))).Account,
  async sns() {
    const client = new sns.SNSClient(once);
    const { TopicArn } = await client.send(new sns.CreateTopicCommand({ Name: named("topic") }));
    await client.send(new sns.PublishCommand({ TopicArn, Message: "ünicode & <xml>" }));
    await client.send(new sns.DeleteTopicCommand({ TopicArn }));
    return refused(() => client.send(new sns.PublishCommand({ TopicArn, Message: "x" })));
  },
  async lambda() {
    const client = new lambda.LambdaClient(once);
    const FunctionName = named("function");
    const call = (Command, input) => client.send(new Command({ FunctionName, ...input }));
    const Code = { ZipFile: code };
    await call(lambda.CreateFunctionCommand, { Runtime: "python3.11", Handler: "one.answer", Role: site.role, Code });
    const { Configuration } = await call(lambda.GetFunctionCommand, {});
    await call(lambda.DeleteFunctionCommand, {});
    return [Configuration.CodeSha256, await refused(() => call(lambda.GetFunctionCommand, {}))];
  },
};

await asked.serve(jobs);

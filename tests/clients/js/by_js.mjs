// The AWS SDK for JavaScript, told nothing but what its environment says. A prefix a line in, JSON a line out.
import { createInterface } from "node:readline";
import { ListObjectsV2Command, S3Client } from "@aws-sdk/client-s3";

const client = new S3Client({});
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const found = await client.send(new ListObjectsV2Command({ Bucket: process.argv[2], Prefix: line.trim() }));
    answer = { keys: (found.Contents ?? []).map((each) => each.Key) };
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
  }
  console.log(JSON.stringify(answer));
}

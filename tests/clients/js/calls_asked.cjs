// What the two programs have in common: a name of a job a line in, `{"said": …}` or `{"error": …}` a line out.
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const readline = require("node:readline");

const site = JSON.parse(process.argv[2]);
const small = fs.readFileSync("small");
const code = fs.readFileSync("code.zip");
const oddKeys = ["a b+c", "ü/é/日本.txt", "x//y", "per%41cent", "q?r&s=t#u", "tilde~star*'(colon):@!$,;=", "trailing/"];
const sha256 = (bytes) => crypto.createHash("sha256").update(bytes).digest("hex");
const named = (kind) => `${site.bucket}-${kind}`;

// The code by which a call is refused.
async function refused(call) {
  try {
    await call();
  } catch (error) {
    if (error.$metadata || error.statusCode) return error.code || error.name;
    throw error;
  }
  throw new Error("it was not refused");
}

// What a presigned URL gives: the status, the ETag, and the hash of the body.
function overHttp(method, url, body = "") {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers: { "content-length": body.length } }, async (answer) => {
      const pieces = [];
      for await (const piece of answer) pieces.push(piece);
      resolve([answer.statusCode, answer.headers.etag, sha256(Buffer.concat(pieces))]);
    });
    request.on("error", reject).end(body);
  });
}

const get = (url) => overHttp("GET", url);
const put = (url) => overHttp("PUT", url, small);

async function serve(jobs) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let said;
    try {
      said = { said: (await jobs[line.trim()]()) ?? null };
    } catch (error) {
      said = { error: error.code || error.name, text: String(error.message) };
    }
    process.stdout.write(`${JSON.stringify(said)}\n`);
  }
}

module.exports = { site, small, code, oddKeys, sha256, named, refused, get, put, serve };

// node client.mjs URL FOLDER fetch|http|axios. A line for each answer: [step, body, status].
import { readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { Readable } from "node:stream";

const require = createRequire(import.meta.url); // looks into NODE_PATH, as import does not
const [base, folder, library] = process.argv.slice(2);
const url = `${base}/classify`;
const read = (name) => readFileSync(`${folder}/${name}`);

function form() {
  const made = new (library === "fetch" ? FormData : require("form-data"))();
  for (const name of ["first.jpg", "second.jpg"])
    made.append("file", library === "fetch" ? new Blob([read(name)]) : read(name), name);
  return made;
}

async function byFetch(body, headers) {
  const answer = await fetch(url, { method: "POST", body, headers, duplex: "half" });
  return [await answer.text(), answer.status];
}

const agent = new http.Agent({ keepAlive: true });

function byHttp(body, headers) {
  return new Promise((resolve, reject) => {
    if (body.getHeaders) headers = { ...headers, ...body.getHeaders() };
    if (headers.Expect) headers = { ...headers, "Content-Length": body.length };
    const request = http.request(url, { method: "POST", agent, headers }, async (answer) => {
      const parts = await answer.toArray();
      resolve([Buffer.concat(parts).toString(), answer.statusCode]);
    });
    request.on("error", reject);
    if (headers.Expect) request.on("continue", () => request.end(body));
    else if (body.pipe) body.pipe(request);
    else request.end(body);
  });
}

async function byAxios(body, headers) {
  const asIs = { transformResponse: (text) => text, validateStatus: null };
  const answer = await require("axios").post(url, body, { httpAgent: agent, headers, ...asIs });
  return [answer.data, answer.status];
}

const send = { fetch: byFetch, http: byHttp, axios: byAxios }[library];

async function step(name, body, headers = {}) {
  const [text, status] = await send(body, { "X-Request-Id": name, ...headers });
  console.log(`["${name}",${text},${status}]`);
}

await step("raw", read("first.jpg"));
await step("form", form());
await step("chunked", Readable.from([read("first.jpg")]));
await step("gzip", read("first.jpg.gz"), { "Content-Encoding": "gzip" });
const asked = library === "fetch" ? {} : { Expect: "100-continue" }; // which fetch refuses to send
await step("expect", read("first.jpg"), asked);
await step("refused", read("large"), asked);
await step("refused", read("first.jpg"));
await step("reused", read("words"));
await step("reused", read("first.jpg"));
await step("reused", read("first.jpg"));
process.exit(0); // connections that are kept would keep it

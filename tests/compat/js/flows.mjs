// What programs do with the official client, unmodified: `node flows.mjs WAY VERSION` does all of it side by side, a line of JSON for each flow.
//
// What is looked at is what the client hands to a program, not what goes over the wire. A flow says if only newer clients have it (`since`), or
// if it is costly and no way differs in it (`once`).

import assert from "node:assert/strict";
import { createHash, createPublicKey, randomUUID, verify } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { settings } from "./ways.mjs";

const [way, version] = process.argv.slice(2);
const { ROOST_URL, ROOST_KEY, OWNER, RECORD, MODULES } = process.env;
const { createFalClient, ApiError, ValidationError } = createRequire(join(MODULES, "_"))(`fal-${version}`);

const app = `${OWNER}/parrot`;
const single = `${OWNER}/single-parrot`;
const mortal = `${OWNER}/mortal-parrot`;
const id = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

const client = (more = {}) => createFalClient({ credentials: ROOST_KEY, ...settings(way, version), ...more });
const fal = client();
const mark = (name) => `js-${way}-${version}-${name}`;

const flows = [];
function flow(title, work, { since = "older", once = false } = {}) {
  if (once ? way === "door" && version === "newest" : since === "older" || version === "newest") flows.push({ title, work });
}

async function refusal(promise) {
  try {
    const answer = await promise;
    throw new assert.AssertionError({ message: `no error, but ${JSON.stringify(answer)}` });
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    return error;
  }
}

async function until(what, condition, patience = 20_000) {
  const end = Date.now() + patience;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new assert.AssertionError({ message: `still not: ${what}` });
    await sleep(50);
  }
}

const lines = async (name) => (await readFile(join(RECORD, name), "utf8").catch(() => "")).split("\n").length - 1;
const open = (gate) => writeFile(join(RECORD, gate), "");
const completed = (at, requestId) =>
  until(`${requestId} is completed`, async () => (await fal.queue.status(at, { requestId })).status === "COMPLETED");
const recorded = async (requestId) =>
  (await fetch(`${ROOST_URL}/v1/requests/${requestId}`, { headers: { Authorization: `Key ${ROOST_KEY}` } })).json();

// The one slot of an app, taken for as long as a flow needs others to wait for it.
let needed = 0;
let taken;
async function whileBusy(work) {
  needed += 1;
  taken ??= (async () => {
    const { request_id: requestId } = await fal.queue.submit(`${single}/patient`, { input: {} });
    await until("the slot is taken", async () => (await fal.queue.status(single, { requestId })).status === "IN_PROGRESS", 60_000);
    return requestId;
  })();
  const requestId = await taken;
  try {
    return await work();
  } finally {
    needed -= 1;
    if (needed === 0) await fal.queue.cancel(single, { requestId });
  }
}

// calls

flow("run answers with the data and the request's id", async () => {
  const { data, requestId } = await fal.run(app, { input: { text: "hey", times: 2 } });
  assert.deepEqual(data, { text: "hey hey" });
  assert.match(requestId, id);
});

flow("run calls an endpoint below the app's own", async () => {
  const { data, requestId } = await fal.run(`${app}/work`, { input: { mark: "" } });
  assert.equal(data.request_id, requestId);
});

flow("a large input arrives whole", async () => {
  const bytes = Buffer.alloc(1_500_000, "roost");
  const url = `data:image/png;base64,${bytes.toString("base64")}`;
  const { data } = await fal.run(`${app}/size`, { input: { url } });
  assert.deepEqual(data, { head: "data:image/png;base64", size: bytes.length });
});

flow("a stream's events arrive as they are made, and the last is what it is done with", async () => {
  const gate = mark("sung");
  let late = false;
  const patience = setTimeout(() => ((late = true), open(gate)), 15_000);
  const stream = await fal.stream(app, { input: { text: "go", times: 5, gate } });
  const numbers = [];
  for await (const event of stream) {
    numbers.push(event.number);
    if (event.number === 0) await open(gate);
  }
  clearTimeout(patience);
  assert.deepEqual(numbers, [0, 1, 2, 3, 4]);
  assert.ok(!late, "the first event came only when the last had been made");
  assert.equal((await stream.done()).number, 4);
});

flow("a call that is aborted ends at once, and the app is told", async () => {
  const name = mark("aborted");
  const abort = new AbortController();
  const call = refusal(fal.run(`${app}/patient`, { input: { mark: name }, abortSignal: abort.signal }));
  await until("the app has the call", () => lines(name));
  abort.abort();
  assert.equal((await call).name, "AbortError");
  await until("the app was told", () => lines(`${name}-cancelled`));
});

flow(
  "a start timeout of a call is the caller's own and is not tried again",
  () =>
    whileBusy(async () => {
      const name = mark("late");
      const error = await refusal(fal.run(`${single}/work`, { input: { mark: name }, startTimeout: 1.1 }));
      assert.deepEqual([error.status, error.timeoutType, error.isUserTimeout], [504, "user", true]);
      assert.equal(await lines(name), 0);
    }),
  { since: "newest" },
);

// the queue

flow("subscribe polls, shows the logs and gives the result", async () => {
  const gate = mark("polled");
  const updates = [];
  let enqueued;
  const { data, requestId } = await fal.subscribe(`${app}/work`, {
    input: { steps: 3, gate },
    logs: true,
    pollInterval: 50,
    onEnqueue: (known) => (enqueued = known),
    onQueueUpdate: (update) => {
      updates.push(update);
      if (update.status === "IN_PROGRESS" && update.logs.length === 3) open(gate);
    },
  });
  assert.equal(data.request_id, requestId);
  assert.equal(enqueued, requestId);
  const last = updates.at(-1);
  assert.equal(last.status, "COMPLETED");
  assert.deepEqual(
    last.logs.map((line) => line.message),
    ["step 0", "step 1", "step 2"],
  );
  assert.equal(typeof last.metrics.inference_time, "number");
});

flow("subscribe in streaming mode is told what changes, and each line once", async () => {
  const gate = mark("streamed");
  const updates = [];
  const { data, requestId } = await fal.subscribe(`${app}/work`, {
    input: { steps: 3, gate },
    logs: true,
    mode: "streaming",
    onQueueUpdate: (update) => {
      updates.push({ ...update, logs: [...(update.logs ?? [])] });
      if (updates.at(-1).logs.length === 3) open(gate);
    },
  });
  assert.equal(data.request_id, requestId);
  const last = updates.at(-1);
  assert.equal(last.status, "COMPLETED");
  assert.deepEqual(
    last.logs.map((line) => line.message),
    ["step 0", "step 1", "step 2"],
  );
});

flow("a request is submitted, asked for and fetched by its id", async () => {
  const submitted = await fal.queue.submit(`${app}/work`, { input: { ms: 50 } });
  assert.match(submitted.request_id, id);
  for (const url of [submitted.response_url, submitted.status_url, submitted.cancel_url]) assert.ok(URL.canParse(url), url);
  const done = await fal.queue.subscribeToStatus(`${app}/work`, { requestId: submitted.request_id, pollInterval: 20 });
  assert.equal(done.status, "COMPLETED");
  const status = await fal.queue.status(app, { requestId: submitted.request_id, logs: true });
  assert.deepEqual([status.status, status.request_id, status.logs], ["COMPLETED", submitted.request_id, []]);
  const { data, requestId } = await fal.queue.result(`${app}/work`, { requestId: submitted.request_id });
  assert.deepEqual([data.request_id, requestId], [submitted.request_id, submitted.request_id]);
});

flow("a status stream tells the states in order and ends with the last", async () => {
  const { request_id: requestId } = await fal.queue.submit(`${app}/work`, { input: { ms: 300 } });
  const states = [];
  for await (const status of await fal.queue.streamStatus(`${app}/work`, { requestId, logs: true })) states.push(status.status);
  const order = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"];
  assert.deepEqual(states, [...states].sort((a, b) => order.indexOf(a) - order.indexOf(b)));
  assert.equal(states.at(-1), "COMPLETED");
});

flow("a result that is not there yet says so", async () => {
  const gate = mark("later");
  const { request_id: requestId } = await fal.queue.submit(`${app}/work`, { input: { gate } });
  const error = await refusal(fal.queue.result(app, { requestId }));
  await open(gate);
  assert.deepEqual([error.status, error.body.detail], [400, "Request is still in progress"]);
});

flow("priority and hint go along with a submit", async () => {
  const { request_id: low } = await fal.queue.submit(app, { input: { text: "a" }, priority: "low", hint: "warm" });
  const { request_id: normal } = await fal.queue.submit(app, { input: { text: "b" } });
  assert.deepEqual([(await recorded(low)).priority, (await recorded(normal)).priority], ["low", "normal"]);
});

flow(
  "a submit that is sent twice under one idempotency key is one request",
  async () => {
    const submit = () => fal.queue.submit(app, { input: { text: "once" }, headers: { "Idempotency-Key": mark("key") } });
    assert.equal((await submit()).request_id, (await submit()).request_id);
  },
  { since: "newest" },
);

flow("a request that waits is cancelled and never runs", () =>
  whileBusy(async () => {
    const name = mark("cancelled");
    const { request_id: requestId } = await fal.queue.submit(`${single}/work`, { input: { mark: name } });
    assert.equal((await fal.queue.status(single, { requestId })).status, "IN_QUEUE");
    await fal.queue.cancel(single, { requestId });
    await completed(single, requestId);
    const error = await refusal(fal.queue.result(single, { requestId }));
    assert.deepEqual([error.status, error.body.error_type, error.requestId], [499, "client_cancelled", requestId]);
    assert.equal(await lines(name), 0);
  }),
);

flow("a request that runs is cancelled, and the app is told", async () => {
  const name = mark("stopped");
  const { request_id: requestId } = await fal.queue.submit(`${app}/patient`, { input: { mark: name } });
  await until("the app has it", () => lines(name));
  await fal.queue.cancel(`${app}/patient`, { requestId });
  await completed(app, requestId);
  assert.equal(await lines(`${name}-cancelled`), 1);
  assert.equal((await refusal(fal.queue.result(app, { requestId }))).status, 499);
});

flow("cancelling what is over, or was never there, says so", async () => {
  const { requestId } = await fal.subscribe(app, { input: { text: "a" }, pollInterval: 20 });
  const over = await refusal(fal.queue.cancel(app, { requestId }));
  assert.deepEqual([over.status, over.body.status], [400, "ALREADY_COMPLETED"]);
  const none = await refusal(fal.queue.cancel(app, { requestId: randomUUID() }));
  assert.deepEqual([none.status, none.body.status], [404, "NOT_FOUND"]);
});

flow("a client's own timeout cancels the request", async () => {
  let requestId;
  const error = await refusal(
    fal.subscribe(`${app}/patient`, { input: {}, timeout: 700, pollInterval: 50, onEnqueue: (known) => (requestId = known) }),
  );
  assert.match(error.message, /timed out/);
  await completed(app, requestId);
  assert.equal((await refusal(fal.queue.result(app, { requestId }))).status, 499);
});

flow("polling is aborted by its signal", async () => {
  const gate = mark("unheard");
  const abort = new AbortController();
  const { signal: abortSignal } = abort;
  const error = await refusal(
    fal.subscribe(`${app}/work`, { input: { gate }, pollInterval: 20, abortSignal, onQueueUpdate: () => abort.abort() }),
  );
  assert.equal(error.name, "AbortError");
  await open(gate);
});

flow(
  "a start timeout of a submit ends the request as the caller's own",
  () =>
    whileBusy(async () => {
      const error = await refusal(fal.subscribe(`${single}/work`, { input: { ms: 1 }, startTimeout: 1.1, pollInterval: 50 }));
      assert.deepEqual([error.status, error.timeoutType, error.body.error_type], [504, "user", "request_timeout"]);
    }),
  { since: "newest" },
);

flow("a webhook brings the result, signed with a key of this server", async () => {
  const posts = [];
  const receiver = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    posts.push({ headers: request.headers, path: request.url, body });
    response.end();
  });
  await new Promise((listening) => receiver.listen(0, "127.0.0.1", listening));
  try {
    const webhookUrl = `http://127.0.0.1:${receiver.address().port}/hook?a=1&b=2`;
    const { request_id: requestId } = await fal.queue.submit(app, { input: { text: "hey" }, webhookUrl });
    const [{ headers, path, body }] = await until("it was called", () => posts.length && posts);
    const told = JSON.parse(body);
    assert.deepEqual([path, told.request_id, told.status, told.payload], ["/hook?a=1&b=2", requestId, "OK", { text: "hey" }]);
    const header = (name) => headers[`x-fal-webhook-${name}`];
    const digest = createHash("sha256").update(body).digest("hex");
    const signed = [header("request-id"), header("user-id"), header("timestamp"), digest].join("\n");
    const { keys } = await (await fetch(`${ROOST_URL}/.well-known/jwks.json`)).json();
    const fits = (jwk) => verify(null, Buffer.from(signed), createPublicKey({ key: jwk, format: "jwk" }), Buffer.from(header("signature"), "hex"));
    assert.ok(keys.some(fits), "no key of the server made this signature");
  } finally {
    receiver.close();
  }
});

// errors

flow("an input that is not valid names its fields, direct and through the queue", async () => {
  const { request_id: requestId } = await fal.queue.submit(app, { input: { times: 0 } });
  await completed(app, requestId);
  for (const call of [() => fal.run(app, { input: { times: 0 } }), () => fal.queue.result(app, { requestId })]) {
    const error = await refusal(call());
    assert.ok(error instanceof ValidationError);
    assert.equal(error.status, 422);
    assert.match(error.requestId, id);
    assert.deepEqual(error.getFieldErrors("text").map((field) => [field.loc, field.type]), [[["body", "text"], "missing"]]);
    assert.equal(error.getFieldErrors("times")[0].type, "greater_than_equal");
  }
});

flow("an error of the app arrives as the app said it", async () => {
  for (const call of [fal.run, fal.subscribe]) {
    const error = await refusal(call(`${app}/raise`, { input: { status: 418, body: "no coffee" }, pollInterval: 20 }));
    assert.ok(error instanceof ApiError && !(error instanceof ValidationError));
    assert.deepEqual([error.status, error.body], [418, { detail: "no coffee" }]);
    assert.match(error.requestId, id);
  }
});

flow("an app that is not there, and a key that is none, are named", async () => {
  const unknown = await refusal(fal.run(`${OWNER}/nobody`, { input: {} }));
  assert.deepEqual([unknown.status, unknown.body.error_type], [404, "not_found"]);
  const stranger = client({ credentials: "who:knows" });
  for (const call of [stranger.run, stranger.queue.submit]) {
    const refused = await refusal(call(app, { input: {} }));
    assert.deepEqual([refused.status, refused.body.error_type], [401, "unauthorized"]);
    assert.match(refused.requestId, id);
  }
});

flow(
  "an answer to try again is tried four times in all, then it is the error",
  async () => {
    const name = mark("busy");
    const began = Date.now();
    const error = await refusal(fal.run(`${app}/answer`, { input: { mark: name, status: 429, body: '{"detail":"busy"}' } }));
    assert.deepEqual([error.status, error.body], [429, { detail: "busy" }]);
    assert.equal(await lines(name), 4);
    assert.ok(Date.now() - began >= 2600, "with a longer wait each time");
  },
  { once: true },
);

flow(
  "a call that takes its runner along is tried four times in all, then it is the error",
  async () => {
    const name = mark("died");
    const error = await refusal(fal.run(`${mortal}/die`, { input: { mark: name } }));
    assert.deepEqual([error.status, error.body.error_type], [503, "runner_disconnected"]);
    assert.equal(await lines(name), 4);
  },
  { once: true },
);

flow(
  "a queued request whose runner dies ends with the error",
  async () => {
    const name = mark("lost");
    const { request_id: requestId } = await fal.queue.submit(`${mortal}/die`, { input: { mark: name } });
    await completed(mortal, requestId);
    assert.equal(await lines(name), 1);
    assert.equal((await fal.queue.status(mortal, { requestId })).error_type, "runner_disconnected");
  },
  { once: true },
);

// doors that are laid out

flow("an upload says that there is none and what to do instead", async () => {
  const file = new Blob(["hello"], { type: "text/plain" });
  for (const call of [() => fal.storage.upload(file), () => fal.run(app, { input: { text: file } })]) {
    const error = await refusal(call());
    assert.deepEqual([error.status, error.body.error_type], [501, "not_implemented"]);
    assert.match(error.body.hint, /data URI/);
  }
});

flow(
  "an upload in parts says the same",
  async () => {
    const error = await refusal(fal.storage.upload(new Blob([new Uint8Array(91 << 20)])));
    assert.deepEqual([error.status, error.body.error_type], [501, "not_implemented"]);
  },
  { once: true },
);

flow("a stream in client mode says that there are no tokens", async () => {
  const stream = await fal.stream(app, { input: { text: "a" }, connectionMode: "client" });
  const error = await refusal(stream.done());
  assert.deepEqual([error.status, error.body.error_type], [501, "not_implemented"]);
});

flow("realtime stays closed and harms nobody", async () => {
  const results = [];
  const connection = fal.realtime.connect(app, { connectionKey: mark("realtime"), onResult: (result) => results.push(result), onError: () => {} });
  connection.send({ text: "a" });
  await sleep(500);
  connection.close();
  assert.deepEqual(results, []);
});

console.warn = () => {}; // the client's advice about tokens
const stray = [];
process.on("unhandledRejection", (error) => stray.push(error));
await Promise.all(
  flows.map(async ({ title, work }) => {
    const began = Date.now();
    let error = "";
    try {
      await work();
    } catch (caught) {
      error = `${caught.stack ?? caught}\n${JSON.stringify({ status: caught.status, body: caught.body, cause: String(caught.cause ?? "") })}`;
    }
    console.log(JSON.stringify({ title, error, ms: Date.now() - began }));
  }),
);
console.log(JSON.stringify({ title: "no error is left that nobody handles", error: stray.map((error) => error.stack).join("\n"), ms: 0 }));

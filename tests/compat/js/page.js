// What pages do, from an origin that the server does not know. Each flow is shown; all of them are told to whoever served the page.

const { server, key, owner } = Object.fromEntries(new URLSearchParams(location.search));
const { createFalClient } = window.fal;
const door = `${server}/api/fal/proxy`;
const open = `${owner}/open-parrot`;
const own = `${owner}/parrot`;

const stranger = createFalClient({ proxyUrl: door });
const fal = createFalClient({ proxyUrl: door, credentials: key, suppressLocalCredentialsWarning: true });
const told = {};

function same(seen, expected) {
  const [a, b] = [JSON.stringify(seen), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${a} is not ${b}`);
}

async function refusal(promise) {
  const answer = await promise.then(JSON.stringify, (error) => error);
  if (typeof answer === "string") throw new Error(`no error, but ${answer}`);
  return answer;
}

async function flow(title, work) {
  const line = document.querySelector("#flows").appendChild(document.createElement("li"));
  told[title] = await work().then(
    () => "",
    (error) => `${error.stack} ${JSON.stringify(error.body ?? "")}`,
  );
  line.className = told[title] ? "bad" : "good";
  line.textContent = `${title}\n${told[title]}`.trim();
}

const id = (text) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);

const flows = [
  flow("a public app answers without a key", async () => {
    const { data, requestId } = await stranger.run(open, { input: { text: "hey" } });
    same([data, id(requestId)], [{ text: "hey" }, true]);
  }),
  flow("a private app does not, and the page reads why", async () => {
    const error = await refusal(stranger.run(own, { input: { text: "hey" } }));
    same([error.status, error.body.error_type, id(error.requestId)], [401, "unauthorized", true]);
  }),
  flow("with a key it does", async () => {
    const { data } = await fal.run(own, { input: { text: "hey", times: 2 } });
    same(data, { text: "hey hey" });
  }),
  flow("a page waits for a request of the queue by polling", async () => {
    const seen = [];
    const { data, requestId } = await fal.subscribe(`${own}/work`, {
      input: { steps: 2, ms: 200 },
      logs: true,
      pollInterval: 50,
      onQueueUpdate: (update) => seen.push(update),
    });
    same([data.request_id, seen.at(-1).status], [requestId, "COMPLETED"]);
    same(
      seen.at(-1).logs.map((line) => line.message),
      ["step 0", "step 1"],
    );
  }),
  flow("a page waits for a request of the queue by a stream", async () => {
    const { data, requestId } = await fal.subscribe(`${own}/work`, { input: { ms: 200 }, mode: "streaming" });
    same(data.request_id, requestId);
  }),
  flow("a page cancels a request", async () => {
    const { request_id: requestId } = await fal.queue.submit(`${own}/patient`, { input: {} });
    await fal.queue.cancel(own, { requestId });
    await fal.queue.subscribeToStatus(own, { requestId, pollInterval: 50 });
    same((await refusal(fal.queue.result(own, { requestId }))).status, 499);
  }),
  flow("a page reads a stream", async () => {
    const numbers = [];
    for await (const event of await fal.stream(own, { input: { text: "go", times: 3 } })) numbers.push(event.number);
    same(numbers, [0, 1, 2]);
  }),
  flow("a page reads which field is wrong", async () => {
    const error = await refusal(fal.run(own, { input: { times: 0 } }));
    same([error.name, error.status, error.getFieldErrors("text").length], ["ValidationError", 422, 1]);
  }),
  flow("a page reads that there are no uploads", async () => {
    same((await refusal(fal.storage.upload(new Blob(["a"])))).body.error_type, "not_implemented");
  }),
  flow("a page reads that a target is elsewhere", async () => {
    const elsewhere = createFalClient({ requestMiddleware: async (request) => ({ ...request, url: door, headers: { "x-fal-target-url": "https://example.com/" } }) });
    same((await refusal(elsewhere.run(open))).status, 412);
  }),
  flow("a page calls an app at its own address, and reads the request's id", async () => {
    const headers = { Authorization: `Key ${key}`, "Content-Type": "application/json" };
    const answer = await fetch(`${server}/${own}`, { method: "POST", headers, body: '{"text":"hey"}' });
    same([answer.status, id(answer.headers.get("x-fal-request-id"))], [200, true]);
  }),
  flow("a page submits at the queue's own address", async () => {
    const headers = { Authorization: `Key ${key}`, "Content-Type": "application/json" };
    const answer = await fetch(`${server}/_queue/${own}`, { method: "POST", headers, body: '{"text":"hey"}' });
    const { status_url: url } = await answer.json();
    same([answer.status, (await fetch(url, { headers })).ok], [200, true]);
  }),
  flow("the control plane is closed to pages", async () => {
    const headers = { Authorization: `Key ${key}` };
    for (const path of ["/v1/apps", "/_rest/v1/keys", "/health"]) {
      same((await refusal(fetch(server + path, { headers }))).name, "TypeError");
    }
  }),
];

Promise.all(flows).then(() => fetch("/told", { method: "POST", body: JSON.stringify(told) }));

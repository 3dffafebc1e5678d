// The ways in which a program in JavaScript reaches a server of its own (docs/guides/javascript.md): what it says to the client.

const { ROOST_URL, ROOST_TLS_URL } = process.env;
const door = `${ROOST_URL}/api/fal/proxy`;

// Each request goes to one address and says where to. Older clients have `proxyUrl` for browsers only: what it does there is said in full here.
const throughTheDoor = {
  newest: { proxyUrl: { url: door, when: "always" } },
  older: {
    requestMiddleware: async (request) => ({
      ...request,
      url: door,
      headers: { ...request.headers, "x-fal-target-url": request.url },
    }),
  },
};

// What is dialled becomes a path of one host.
const prefixes = { "fal.run": "", "queue.fal.run": "/_queue", "rest.fal.ai": "/_rest", "rest.alpha.fal.ai": "/_rest" };
function mapped(url) {
  const { host, pathname, search } = new URL(url);
  return ROOST_TLS_URL + prefixes[host] + pathname + search;
}

export function settings(way, version) {
  if (way === "door") return throughTheDoor[version];
  if (way === "tls" || way === "nginx") return { fetch: (url, options) => fetch(mapped(url), options) };
  return {}; // connect, hosts: the client's own names lead here
}

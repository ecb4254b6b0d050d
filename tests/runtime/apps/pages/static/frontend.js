// Sends requests to another origin, and reports what it may read.
const api = document.querySelector("#api").textContent;
const json = { "Content-Type": "application/json" };
const requests = {
  get: ["/items", {}],
  post: ["/items", {
    method: "POST",
    headers: { ...json, "X-Request-ID": "from-a-browser", Authorization: "Bearer token" },
    body: JSON.stringify({ name: "Ada" }),
  }],
  notFound: ["/nowhere", {}],
  broken: ["/broken", {}],
  tooLarge: ["/items", { method: "POST", headers: json, body: "x".repeat(2000) }],
  methodNotThere: ["/items", { method: "DELETE" }],
  withCookies: ["/items", { credentials: "include" }],
};

async function send([path, options]) {
  try {
    const response = await fetch(api + path, options);
    const { title } = await response.json();
    return `${response.status} ${title} ${response.headers.get("X-Request-ID") !== null}`;
  } catch (error) {
    return error.name;
  }
}

async function run() {
  const found = {};
  for (const [name, request] of Object.entries(requests)) {
    found[name] = await send(request);
  }
  await report(found);
}

run();

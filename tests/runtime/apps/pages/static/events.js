// Reads events until the browser gives up, and reports them.
const source = new EventSource("/events");
const found = { errors: "" };

function received({ type, data, lastEventId }) {
  found[lastEventId] = `${type}: ${data}`;
}

source.addEventListener("message", received);
source.addEventListener("kind", received);
source.addEventListener("error", () => {
  const isClosed = source.readyState === EventSource.CLOSED;
  found.errors += isClosed ? "closed" : "again, ";
  if (isClosed) report(found);
});

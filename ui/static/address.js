// Where the server's websockets are: it serves this page, too.

export function socketTo(path) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(`${scheme}//${location.host}${path}`, "ivl.v1");
}

// How long to wait before the next try, in milliseconds.
export function backOff(tries) {
  return Math.min(5000, 250 * 2 ** tries) * (0.5 + Math.random() / 2);
}

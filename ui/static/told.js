// What the server tells of a stream: its statistics and what its source is doing.

import { backOff, socketTo } from "./address.js";

const TRIES_BEFORE_LOGIN = 4;

export class Told {
  constructor(heard) {
    this.heard = heard;
    this.name = null;
    this.server = null;
    this.tries = 0;
    this.connect();
  }

  about(name) {
    if (this.name) this.send({ type: "stream.unsubscribe", stream: this.name });
    this.name = name;
    this.subscribe();
  }

  connect() {
    const socket = socketTo("/v1/stream");
    this.socket = socket;
    socket.addEventListener("message", ({ data }) => this.hear(JSON.parse(data)));
    socket.addEventListener("close", ({ code, reason }) => {
      // In another tab, it may be; the page leads to the login.
      if (reason === "logged out") return location.reload();
      this.heard.lost(code === 1001 ? "The server has ended." : "The server cannot be reached.");
      this.tries += 1;
      if (this.tries % TRIES_BEFORE_LOGIN === 0) loginIfNeeded();
      setTimeout(() => this.connect(), backOff(this.tries));
    });
  }

  hear(message) {
    switch (message.type) {
      case "session.created":
        this.tries = 0;
        // Another one than before knows nothing of what this page has open.
        if (this.server && this.server !== message.server) return location.reload();
        this.server = message.server;
        return this.subscribe();
      case "stats":
        return message.stream === this.name && this.heard.stats(message);
      case "stream.state":
        return message.stream === this.name && this.heard.state(message);
      case "session.going_away":
        return this.heard.lost("The server is about to end.");
      case "error":
        return this.heard.lost(message.error.message);
    }
  }

  subscribe() {
    if (!this.name) return;
    this.send({ type: "stream.subscribe", stream: this.name, channels: ["state", "stats"] });
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}

// A websocket that is refused does not say why. Logins end, with their server at the latest.
function loginIfNeeded() {
  const asked = fetch("/v1/streams");
  asked.then(({ status }) => status === 401 && location.reload()).catch(() => {});
}

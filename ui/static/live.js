// The live picture: a websocket and a canvas, or MJPEG where websockets do not come through.

import { backOff, socketTo } from "./address.js";
import { clock } from "./words.js";

const HEADER_BYTES = 24;
const TRIES_BEFORE_MJPEG = 3;
const GONE = 1008;

export class LivePicture {
  constructor(figure, timeline) {
    this.canvas = figure.querySelector("canvas");
    this.image = figure.querySelector("img");
    this.said = figure.querySelector(".frame");
    this.timeline = timeline;
    this.drawn = 0;
    this.newest = null;
    this.name = null;
    this.tries = 0;
    // Told the name of a stream that is there no more.
    this.gone = () => {};
    setInterval(() => this.tell(), 100);
  }

  watch(name) {
    this.name = name;
    this.tries = 0;
    this.newest = null;
    this.said.textContent = "waiting for a picture";
    this.showCanvas();
    // Nothing of another stream stays.
    this.canvas.width = this.canvas.width;
    this.timeline.last = 0;
    this.connect();
  }

  connect() {
    this.socket?.close();
    const socket = socketTo(`/v1/live/${this.name}`);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", async ({ data }) => {
      if (typeof data === "string") return;
      // One that cannot be drawn is passed over; without its credit given back none would follow.
      await this.draw(data, socket).catch(() => {});
      if (socket.readyState === WebSocket.OPEN) socket.send("drawn");
    });
    socket.addEventListener("close", ({ code }) => {
      if (socket !== this.socket) return;
      if (code === GONE) return this.gone(this.name);
      this.tries += 1;
      if (this.tries === TRIES_BEFORE_MJPEG && !this.newest) this.fallBack();
      setTimeout(() => socket === this.socket && this.connect(), backOff(this.tries));
    });
  }

  async draw(data, socket) {
    const header = new DataView(data, 0, HEADER_BYTES);
    const came = performance.now();
    const jpeg = new Blob([new Uint8Array(data, HEADER_BYTES)], { type: "image/jpeg" });
    const picture = await createImageBitmap(jpeg);
    if (socket === this.socket) {
      const { canvas } = this;
      if (canvas.width !== picture.width || canvas.height !== picture.height) {
        canvas.width = picture.width;
        canvas.height = picture.height;
      }
      canvas.getContext("2d").drawImage(picture, 0, 0);
      this.drawn += 1;
      this.tries = 0;
      this.showCanvas();
      this.newest = {
        seq: Number(header.getBigUint64(0)),
        pts_s: header.getFloat64(8),
        taken: came - header.getFloat64(16),
      };
      this.timeline.frame(canvas, this.newest.pts_s);
      this.tell();
    }
    picture.close();
  }

  // Also without a new picture: an old one grows older, and that must be seen.
  tell() {
    if (!this.newest) return;
    const age = performance.now() - this.newest.taken;
    const old = age < 1000 ? `${age.toFixed(0)} ms` : `${(age / 1000).toFixed(1)} s`;
    this.said.textContent = `frame ${this.newest.seq}, at ${clock(this.newest.pts_s)}, ${old} old`;
  }

  showCanvas() {
    this.image.removeAttribute("src");
    this.image.hidden = true;
    this.canvas.hidden = false;
  }

  fallBack() {
    this.image.src = `/v1/streams/${this.name}/live.mjpg`;
    this.image.hidden = false;
    this.canvas.hidden = true;
  }
}

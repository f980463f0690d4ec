// The visitor's own camera: JPEG pictures, not mirrored, at the rate that the server grants.

import { socketTo } from "./address.js";

const WIDTH = 640;
const QUALITY = 0.8;
const REFUSED = {
  NotAllowedError: "The browser was not allowed to use the camera.",
  NotFoundError: "There is no camera.",
  NotReadableError: "Another program uses the camera.",
};

export class Camera {
  constructor(line) {
    this.line = line;
    this.video = line.querySelector("video");
    this.said = line.querySelector("span");
    line.querySelector("button").addEventListener("click", () => this.stop());
  }

  // Raises if it cannot be had: then nothing is asked of the server.
  async open() {
    try {
      if (!navigator.mediaDevices) throw new Error("Cameras need HTTPS, or this very machine.");
      this.stop();
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: WIDTH } });
    } catch (error) {
      this.line.hidden = false;
      this.said.textContent = REFUSED[error.name] ?? error.message;
      throw new Error(this.said.textContent);
    }
    this.line.hidden = false;
    this.video.srcObject = this.stream;
    await this.video.play();
    this.said.textContent = "Asking for a place.";
  }

  send(grant) {
    if (!grant) return this.stop("There is no place for your camera.");
    const socket = socketTo(`/v1/ingest/${grant.name}`);
    this.socket = socket;
    let credit = 0;
    let sent = 0;
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "ingest.ready") credit = message.credit;
      else credit += 1;
    });
    socket.addEventListener("close", () => {
      if (socket === this.socket) this.stop("The server no longer takes your camera.");
    });
    const canvas = document.createElement("canvas");
    let encoding = false;
    this.timer = setInterval(() => {
      if (!credit || encoding || !this.video.videoWidth) return;
      encoding = true;
      credit -= 1;
      const scale = Math.min(1, WIDTH / this.video.videoWidth);
      canvas.width = Math.round(this.video.videoWidth * scale);
      canvas.height = Math.round(this.video.videoHeight * scale);
      canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(
        (jpeg) => {
          encoding = false;
          if (jpeg && socket.readyState === WebSocket.OPEN) {
            socket.send(jpeg);
            sent += 1;
          }
        },
        "image/jpeg",
        QUALITY,
      );
    }, 1000 / grant.fps);
    this.said.textContent = `Your camera is watched, at ${grant.fps} frames a second at most.`;
    this.sent = () => sent;
  }

  stop(why = "") {
    clearInterval(this.timer);
    const { socket } = this;
    this.socket = null;
    socket?.close();
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
    this.said.textContent = why;
    if (!why) this.line.hidden = true;
  }
}

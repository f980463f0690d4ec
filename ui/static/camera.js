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
  // `ended` is told why, if it is not the visitor who ends it.
  constructor(video, ended) {
    this.video = video;
    this.ended = ended;
  }

  // Raises, in words, if the camera cannot be had.
  async open() {
    if (!navigator.mediaDevices) throw new Error("Cameras need HTTPS, or this very machine.");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: WIDTH } });
      this.video.srcObject = this.stream;
      await this.video.play();
    } catch (error) {
      this.stop();
      throw new Error(REFUSED[error.name] ?? error.message);
    }
    for (const track of this.stream.getTracks()) {
      track.addEventListener("ended", () => this.fail("The camera has gone."));
    }
    this.video.hidden = false;
  }

  send({ name, fps }) {
    const socket = socketTo(`/v1/ingest/${name}`);
    this.socket = socket;
    let credit = 0;
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      credit = message.type === "ingest.ready" ? message.credit : credit + 1;
    });
    socket.addEventListener("close", () => {
      if (socket === this.socket) this.fail("The server no longer takes your camera.");
    });
    const canvas = document.createElement("canvas");
    let sent = 0;
    this.timer = setInterval(() => {
      const { video } = this;
      const frames = video.getVideoPlaybackQuality().totalVideoFrames;
      // A picture that has been sent is not sent again: it would count as one that came.
      if (!credit || frames === sent || !video.videoWidth) return;
      sent = frames;
      credit -= 1;
      const scale = Math.min(1, WIDTH / video.videoWidth);
      canvas.width = Math.round(video.videoWidth * scale);
      canvas.height = Math.round(video.videoHeight * scale);
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      const push = (jpeg) => jpeg && socket.readyState === WebSocket.OPEN && socket.send(jpeg);
      canvas.toBlob(push, "image/jpeg", QUALITY);
    }, 1000 / fps);
  }

  fail(why) {
    this.stop();
    this.ended(why);
  }

  stop() {
    clearInterval(this.timer);
    const { socket } = this;
    this.socket = null;
    socket?.close();
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
    this.video.hidden = true;
  }
}

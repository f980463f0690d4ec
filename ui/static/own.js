// What a visitor brings: a camera, a clip or an address, each watched in a stream of its own.

import { Camera } from "./camera.js";

export class OwnSources {
  // `watch` is given the name of the stream to watch, null for the one before.
  constructor(section, watch) {
    this.watch = watch;
    this.said = section.querySelector("[role=status]");
    this.back = section.querySelector(".back");
    this.name = null;
    this.busy = false;
    // What was asked for before the visitor turned elsewhere is given back.
    this.turn = 0;
    addEventListener("pagehide", () => this.giveBack());
    this.camera = new Camera(section.querySelector("video"), (why) => this.leave(why));
    this.back.addEventListener("click", () => this.leave());
    section.querySelector(".camera").addEventListener("click", () => this.bringCamera());
    const clip = section.querySelector("input[type=file]");
    clip.addEventListener("change", () => {
      if (clip.files.length) this.bring("clip", clip.files[0], `${clip.files[0].name} plays.`);
      clip.value = "";
    });
    const address = section.querySelector(".address");
    address?.addEventListener("submit", (event) => {
      event.preventDefault();
      const url = address.querySelector("input").value;
      this.bring("address", JSON.stringify({ url }), "The address is watched.");
    });
  }

  async bringCamera() {
    if (this.busy) return;
    this.busy = true;
    try {
      await this.leave();
      await this.camera.open();
    } catch (error) {
      this.said.textContent = error.message;
      return;
    } finally {
      this.busy = false;
    }
    const grant = await this.bring("camera", null, "Your camera is watched.");
    if (grant) this.camera.send(grant);
    else this.camera.stop();
  }

  // Ask for a place and watch what has got it; says why there is none.
  async bring(kind, body, done) {
    if (this.busy) return null;
    this.busy = true;
    try {
      if (kind !== "camera") await this.leave();
      const { turn } = this;
      this.said.textContent = "Asking for a place.";
      const headers = kind === "address" ? { "Content-Type": "application/json" } : {};
      const answer = await fetch(`/v1/visitors/${kind}`, { method: "POST", body, headers });
      // A server that is too busy says so in no JSON.
      const said = await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Error(refusal(answer.status, said));
      this.name = said.name;
      if (turn !== this.turn) {
        await this.giveBack();
        return null;
      }
      this.back.hidden = false;
      this.said.textContent = `${done} At most ${said.fps} frames a second; only you see it.`;
      this.watch(said.name);
      return said;
    } catch (error) {
      this.said.textContent = error.message;
      return null;
    } finally {
      this.busy = false;
    }
  }

  async leave(why = "") {
    this.turn += 1;
    this.camera.stop();
    this.said.textContent = why;
    this.back.hidden = true;
    if (!this.name) return;
    this.watch(null);
    await this.giveBack();
  }

  // If that fails the server finds out by itself.
  async giveBack() {
    const { name } = this;
    if (!name) return;
    this.name = null;
    await fetch(`/v1/visitors/${name}`, { method: "DELETE", keepalive: true }).catch(() => {});
  }

  over(name) {
    if (name === this.name) this.said.textContent = "It has ended; for two minutes you may still ask.";
  }

  gone(name) {
    if (name === this.name) this.leave("The server has let it go.");
  }
}

function refusal(status, said) {
  if (status === 401) return "Your token does not allow sources of your own.";
  if (status === 413) return "The clip is too large: at most 256 MiB are taken.";
  return said.error?.message ?? `The server answered ${status}.`;
}

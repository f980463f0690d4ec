// Joins the page with the streams: one websocket for the picture, one for all that is told of it.

import { Camera } from "./camera.js";
import { LivePicture } from "./live.js";
import { Numbers } from "./numbers.js";
import { asJson, asMarkdown, download } from "./save.js";
import { Timeline } from "./timeline.js";
import { Told } from "./told.js";

// Called once by the page, when Gradio has drawn it.
export function begin(name, history) {
  if (window.ivl) return;
  const timeline = new Timeline(document.querySelector(".timeline"));
  const numbers = new Numbers(document.querySelector(".numbers"));
  const live = new LivePicture(document.querySelector(".live"), timeline);
  const camera = new Camera(document.querySelector(".camera-line"));
  const source = document.querySelector(".live .source");
  let newest = history.at(-1)?.asked_at;
  let state = null;

  const told = new Told({
    stats: (stats) => numbers.show(stats),
    state: (now) => {
      source.textContent = now.state === "live" ? "" : `${now.state}: ${now.detail}`;
      source.dataset.state = now.state;
      if (now.state !== state) timeline.mark(now.state, now.gap_s);
      state = now.state;
    },
    lost: (why) => {
      source.textContent = why;
      source.dataset.state = "lost";
    },
  });

  window.ivl = {
    live,
    timeline,
    answers: 0,
    watch(stream) {
      state = null;
      numbers.clear();
      live.watch(stream);
      told.about(stream);
    },
    // Also called for what was refused; then there is no new one.
    answered(all) {
      const exchange = all.at(-1);
      if (!exchange || exchange.asked_at === newest) return;
      newest = exchange.asked_at;
      timeline.pin(exchange);
      this.answers += 1;
    },
    save(all, kind) {
      download(kind === "json" ? asJson(all) : asMarkdown(all), kind);
    },
    askForCamera: () => camera.open(),
    sendCamera: (grant) => camera.send(grant),
  };
  if (name) window.ivl.watch(name);
}

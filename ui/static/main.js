// Joins the page with the streams: one websocket for the picture, one for all that is told of it.

import { LivePicture } from "./live.js";
import { Numbers } from "./numbers.js";
import { OwnSources } from "./own.js";
import { asJson, asMarkdown, download } from "./save.js";
import { Timeline } from "./timeline.js";
import { Told } from "./told.js";

// Called once by the page, when Gradio has drawn it.
export function begin(name, history) {
  if (window.ivl) return;
  const timeline = new Timeline(document.querySelector(".timeline"));
  const numbers = new Numbers(document.querySelector(".numbers"));
  const live = new LivePicture(document.querySelector(".live"), timeline);
  const source = document.querySelector(".live .source");
  let newest = history.at(-1)?.asked_at;
  let listed = name;
  let state = null;

  const told = new Told({
    stats: (stats) => numbers.show(stats),
    state: (now) => {
      source.textContent = now.state === "live" ? "" : `${now.state}: ${now.detail}`;
      if (now.state !== state) timeline.mark(now.state, now.gap_s);
      state = now.state;
      if (state === "ended" || state === "failed") own?.over(live.name);
    },
    lost: (why) => {
      source.textContent = why;
      numbers.clear();
    },
  });

  function look(stream) {
    state = null;
    source.textContent = "";
    numbers.clear();
    live.watch(stream);
    told.about(stream);
  }

  const section = document.querySelector("#own");
  const own = section && new OwnSources(section, (stream) => look(stream ?? listed));
  live.gone = (name) => own?.gone(name);

  window.ivl = {
    live,
    timeline,
    answers: 0,
    watched: () => live.name,
    // One of the streams that all may watch.
    watch(stream) {
      listed = stream;
      own?.leave();
      look(stream);
    },
    // Also called for what was refused; then there is no new one.
    answered(all) {
      const exchange = all.at(-1);
      if (!exchange || exchange.asked_at === newest) return;
      newest = exchange.asked_at;
      timeline.pin(exchange);
      this.answers += 1;
    },
    forget: () => timeline.forget(),
    save(all, kind) {
      download(kind === "json" ? asJson(all) : asMarkdown(all), kind);
    },
  };
  document.querySelector("#logout form")?.addEventListener("submit", () => {
    localStorage.removeItem("ivl-history");
  });
  if (name) look(name);
}

// The numbers that matter, and three small plots of the last two minutes.

import { milliseconds, percent } from "./words.js";

const SECONDS = 120;

export class Numbers {
  constructor(section) {
    this.section = section;
    this.verdict = section.querySelector(".verdict");
    this.plots = Object.fromEntries(
      ["latency", "fps", "memory"].map((name) => {
        return [name, new Plot(section.querySelector(`[data-plot=${name}]`))];
      }),
    );
  }

  clear() {
    for (const plot of Object.values(this.plots)) plot.clear();
    for (const number of this.section.querySelectorAll("dd")) number.textContent = "-";
    this.verdict.textContent = "Nothing is known just now.";
    delete this.section.dataset.holds;
  }

  show(stats) {
    const target = stats.target_fps;
    this.put("fps", `${stats.recent_fps.toFixed(0)}${target ? ` of ${target}` : ""}`);
    this.put("on_time", `${percent(stats.on_time_ratio)} of ${stats.due}`);
    const quantiles = [stats.latency_ms_p50, stats.latency_ms_p95, stats.latency_ms_p99];
    // A frame that was dropped took infinitely long, which JSON cannot say.
    const word = (ms) => (ms == null && stats.due ? "dropped" : milliseconds(ms));
    this.put("latency", quantiles.map(word).join(" / "));
    this.put("stages", list(stats.stages_ms, (ms) => milliseconds(ms)) || "-");
    this.put("dropped", list(stats.dropped, (count) => count) || "none");
    this.put("state", `${(stats.state_bytes / 1e6).toFixed(1)} MB, whatever has been seen`);
    this.section.dataset.holds = stats.holds ?? "";
    // Read aloud whenever it changes, so not for every frame.
    const verdict = stats.verdict.replace(/ of \d+ due frames/, " of due frames");
    if (this.verdict.textContent !== verdict) this.verdict.textContent = verdict;
    this.plots.latency.add(stats.recent_latency_ms, target && 1000 / target);
    this.plots.fps.add(stats.recent_fps, target);
    this.plots.memory.add(stats.memory_bytes / 1e6, null);
  }

  put(name, text) {
    this.section.querySelector(`[data-of=${name}]`).textContent = text;
  }
}

function list(counts, word) {
  const parts = Object.entries(counts).filter(([, value]) => value);
  return parts.map(([name, value]) => `${name} ${word(value)}`).join(", ");
}

class Plot {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.values = [];
    // Or what was drawn would stay until there is something new.
    this.canvas.width = this.canvas.width;
  }

  add(value, line) {
    this.values = [...this.values, value ?? null].slice(-SECONDS);
    this.draw(line);
  }

  draw(line) {
    const { canvas } = this;
    const ratio = devicePixelRatio;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const style = getComputedStyle(canvas);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const most = 1.15 * Math.max(line ?? 0, ...this.values, 1e-3);
    const y = (value) => height - 1 - (value / most) * (height - 2);
    const x = (index) => ((index + SECONDS - this.values.length) / (SECONDS - 1)) * width;
    context.fillStyle = context.strokeStyle = style.getPropertyValue("--plot-line");
    context.font = `11px ${style.fontFamily}`;
    if (line) {
      context.setLineDash([4, 3]);
      context.beginPath();
      context.moveTo(0, y(line));
      context.lineTo(width, y(line));
      context.stroke();
      context.setLineDash([]);
      context.fillText(line.toFixed(0), 2, y(line) - 3);
    }
    context.strokeStyle = style.getPropertyValue("--plot-values");
    context.lineWidth = 1.5;
    context.beginPath();
    let before = null;
    this.values.forEach((value, index) => {
      if (value !== null) {
        if (before === null) context.moveTo(x(index), y(value));
        else context.lineTo(x(index), y(value));
      }
      before = value;
    });
    context.stroke();
    const newest = this.values.at(-1);
    if (newest !== null) {
      context.textAlign = "right";
      context.fillText(newest.toFixed(1), width - 2, Math.max(10, y(newest) - 4));
    }
  }
}

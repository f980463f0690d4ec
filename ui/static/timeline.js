// What was seen and said while this page was open: a small picture a second, and what is pinned.

import { clock } from "./words.js";

const EVERY_MS = 1000;
const MOST = { picture: 120, said: 60, event: 60 };
const WIDTH = 96;

export class Timeline {
  constructor(list) {
    this.list = list;
    this.next = 0;
    this.last = 0;
  }

  frame(canvas, pts_s) {
    this.last = pts_s;
    const now = performance.now();
    if (now < this.next) return;
    this.next = now + EVERY_MS;
    const small = document.createElement("canvas");
    small.width = WIDTH;
    small.height = Math.round((WIDTH * canvas.height) / canvas.width);
    small.setAttribute("role", "img");
    small.setAttribute("aria-label", `The picture at ${clock(pts_s)}`);
    small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height);
    this.add("picture", clock(pts_s), small);
  }

  pin({ question, answer, until_s, status }) {
    const text = document.createElement("p");
    const asked = document.createElement("strong");
    asked.textContent = question;
    text.append(asked, " ", status === "completed" ? answer : `${answer} (${status})`);
    this.add("said", clock(until_s ?? this.last), text);
  }

  forget() {
    for (const said of [...this.list.getElementsByClassName("said")]) said.remove();
  }

  mark(state, gap_s) {
    const text = document.createElement("p");
    const gap = gap_s ? ` after ${gap_s.toFixed(1)} s without a picture` : "";
    text.textContent = `${state}${gap}`;
    this.add("event", clock(this.last), text);
  }

  add(kind, time, content) {
    const { list } = this;
    const atEnd = list.scrollLeft + list.clientWidth >= list.scrollWidth - 2 * WIDTH;
    const item = document.createElement("li");
    item.className = kind;
    const when = document.createElement("time");
    when.textContent = time;
    item.append(content, when);
    list.append(item);
    const same = list.getElementsByClassName(kind);
    if (same.length > MOST[kind]) same[0].remove();
    if (atEnd) list.scrollLeft = list.scrollWidth;
  }
}

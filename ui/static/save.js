// The dialogue as files.

import { clock } from "./words.js";

export function asJson(all) {
  return JSON.stringify(all, null, 2);
}

export function asMarkdown(all) {
  const parts = all.map((one) => {
    const when = new Date(1000 * one.asked_at).toISOString();
    const until = one.until_s == null ? "nothing yet" : `${one.num_frames} frames, up to ${clock(one.until_s)}`;
    const ended = one.status === "completed" ? "" : ` (${one.status}${one.reason && `: ${one.reason}`})`;
    return [
      `## ${escaped(one.question)}`,
      `${escaped(one.answer)}${ended}`,
      `*${escaped(one.stream)}, about ${until}; ${one.total_ms.toFixed(0)} ms; ${when}*`,
    ].join("\n\n");
  });
  return `# Questions and answers\n\n${parts.join("\n\n")}\n`;
}

// What people and models say is text, not markup.
function escaped(text) {
  return text.replace(/\s*\n\s*/g, " ").replace(/[\\`*_{}[\]<>()#+!|~]/g, "\\$&");
}

export function download(text, kind) {
  const type = kind === "json" ? "application/json" : "text/markdown";
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `questions.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

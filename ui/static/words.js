// Figures in words.

export function clock(seconds) {
  const tenths = Math.round(Math.max(0, seconds) * 10);
  const minutes = Math.floor(tenths / 600);
  return `${minutes}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
}

// Rounded down: what was missed by a little is not shown as met.
export function percent(ratio) {
  return ratio == null ? "-" : `${(Math.floor(1000 * ratio + 1e-9) / 10).toFixed(1)} %`;
}

export function milliseconds(ms) {
  return ms == null ? "-" : `${ms.toFixed(1)} ms`;
}

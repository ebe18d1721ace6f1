// The Server-Timing header: parsed, and drawn as a stacked bar with a legend.

import { el } from "./dom.js";
import { digits } from "./words.js";

const WORDS = { read: "read", decode: "decode", queue: "wait", infer: "network", encode: "answer" };

/** "read;dur=0.1, decode;dur=1.8" as [{stage, ms}]; what cannot be read is left out. */
export function parseTiming(header) {
  const stages = [];
  for (const part of (header ?? "").split(",")) {
    const match = /^\s*([\w-]+)\s*;.*?\bdur=([\d.]+)/.exec(part);
    if (match) stages.push({ stage: match[1], ms: Number(match[2]) });
  }
  return stages;
}

/** Milliseconds of all stages. */
export const total = (stages) => stages.reduce((sum, { ms }) => sum + ms, 0);

/** The sum in words, the bar and its legend; no elements where nothing was measured. */
export function timingBar(stages) {
  const sum = total(stages);
  if (sum <= 0) return [];
  const bar = el("div", { class: "timing-bar", "aria-hidden": "true" });
  const legend = el("ul", { class: "timing-legend" });
  for (const { stage, ms } of stages) {
    const part = el("span", { class: `stage-${stage}` });
    part.style.flexGrow = String(Math.max(ms / sum, 0.004));
    bar.append(part);
    const mark = el("i", { class: `stage-${stage}`, "aria-hidden": "true" });
    legend.append(el("li", {}, mark, `${WORDS[stage] ?? stage} ${digits(ms)}`));
  }
  return [el("p", { text: `${digits(sum)} ms in the service` }), bar, legend];
}

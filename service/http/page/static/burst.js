// Fifty requests at once, so that one sees the service gather them into batches.

import { byId } from "./dom.js";
import { generated } from "./thumbnail.js";
import { parseTiming, total } from "./timing.js";

const COUNT = 50;

/** `picture()` gives the JPEG to send, or null. */
export function offerBurst({ live, key, health, picture }) {
  const button = byId("burst");
  const words = byId("burst-words");
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true"); // it keeps the focus
    words.textContent = "Sending …";
    try {
      words.textContent = await burst({ live, key, body: picture() ?? (await generated()) });
    } finally {
      button.removeAttribute("aria-disabled");
      if (!health.up) words.textContent = "The service cannot be reached.";
    }
  });
}

async function burst({ live, key, body }) {
  const before = await live.sample();
  const started = performance.now();
  const outcomes = await Promise.all(Array.from({ length: COUNT }, () => one(body, key.value)));
  const seconds = (performance.now() - started) / 1000;
  const after = await live.sample();
  const answered = outcomes.filter(({ status }) => status === 200);
  const refused = outcomes.filter(({ status }) => status === 429 || status === 503).length;
  const failed = COUNT - answered.length - refused;
  const parts = [`${answered.length} answered, ${refused} refused${failed > 0 ? `, ${failed} failed` : ""} in ${seconds.toFixed(2)} s`];
  if (answered.length > 0) {
    const times = answered.map(({ ms }) => ms).sort((a, b) => a - b);
    parts.push(`${shown(times[times.length >> 1])} ms each in the service, ${shown(times.at(-1))} at most`);
  }
  const batches = before && after ? after.batches - before.batches : 0;
  if (batches > 0) parts.push(`${((after.batched - before.batched) / batches).toFixed(1)} images per batch`);
  return `${parts.join("; ")}.`;
}

const shown = (ms) => ms.toFixed(ms < 10 ? 1 : 0);

async function one(body, key) {
  try {
    const headers = { "Content-Type": "image/jpeg", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    const answer = await fetch("classify?top_k=1", { method: "POST", body, headers });
    await answer.arrayBuffer();
    return { status: answer.status, ms: total(parseTiming(answer.headers.get("Server-Timing"))) };
  } catch {
    return { status: 0, ms: 0 };
  }
}

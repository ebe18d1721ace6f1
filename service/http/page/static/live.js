// Live figures from /metrics, asked for each second while somebody looks at the page.

import { get } from "./api.js";
import { pause, until } from "./wait.js";

const EVERY_MS = 1000;
/** Seconds of images per second that are kept. */
export const HISTORY = 30;
/** The mean batch is that of so many last samples: batches of a single second are few. */
const BATCH_SAMPLES = 5;

const WANTED = {
  mobilenet_images_total: "images",
  mobilenet_batch_size_sum: "batched",
  mobilenet_batch_size_count: "batches",
  mobilenet_queue_depth: "queue",
  mobilenet_in_flight: "flight",
  mobilenet_in_flight_limit: "limit",
  mobilenet_ready: "ready",
};

/** The wanted series of Prometheus text, each summed over its labels. A counter nobody has touched yet is not there. */
function parseMetrics(text) {
  const figures = { images: 0, batched: 0, batches: 0, queue: 0, flight: 0, limit: 0 };
  for (const line of text.split("\n")) {
    const match = /^(\w+)(?:\{.*\})? (\S+)/.exec(line);
    const name = match && WANTED[match[1]];
    if (name) figures[name] = (figures[name] ?? 0) + Number(match[2]);
  }
  return figures;
}

export class Live extends EventTarget {
  /** Images per second, oldest first. */
  history = [];
  /** {rate, queue, flight, limit, batch} of the last sample, batch null where none was run; null before the first. */
  now = null;
  #health;
  #key;
  #samples = [];
  #refused = null; // the key with which /metrics was refused

  constructor(health, key) {
    super();
    this.#health = health;
    this.#key = key;
  }

  /** Never returns. */
  async run() {
    for (;;) {
      if (document.hidden) {
        await until(document, "visibilitychange");
        continue;
      }
      if (this.#health.up) await this.#look();
      await pause(EVERY_MS);
    }
  }

  async #look() {
    if (this.#refused === this.#key.value) {
      // No figures for this page; whether the service is there shows all the same.
      await pause(4 * EVERY_MS);
      await this.#health.check();
      return;
    }
    const figures = await this.sample();
    if (figures === null || figures.ready === 0) await this.#health.check();
  }

  /** Asks once: the figures, counters since the service's start; null where there are none. */
  async sample() {
    const used = this.#key.value;
    const { status, text } = await get("metrics", { key: used });
    if (status === 401 || status === 404) this.#refused = used;
    if (status !== 200) return null;
    const figures = { ...parseMetrics(text), at: performance.now() };
    this.#keep(figures);
    return figures;
  }

  #keep(figures) {
    const last = this.#samples.at(-1);
    this.#samples.push(figures);
    if (this.#samples.length > BATCH_SAMPLES + 1) this.#samples.shift();
    const since = (earlier, name) => Math.max(0, figures[name] - (earlier?.[name] ?? figures[name]));
    const rate = last ? since(last, "images") / Math.max((figures.at - last.at) / 1000, 0.05) : 0;
    const first = this.#samples[0];
    const batches = since(first, "batches");
    this.history.push(rate);
    if (this.history.length > HISTORY) this.history.shift();
    this.now = {
      rate,
      queue: figures.queue,
      flight: figures.flight,
      limit: figures.limit,
      batch: batches > 0 ? since(first, "batched") / batches : null,
    };
    this.dispatchEvent(new Event("sample"));
  }
}

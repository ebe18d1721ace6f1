// One photo, from the file to its answer: thumbnail, upload, further classes and maps. Its card shows what happens.

import { Card, FEW } from "./card.js";
import { deliver } from "./deliver.js";
import { shrink, thumbnail } from "./thumbnail.js";

const SHRUNK_SIDE = 512;
const SHRUNK_QUALITY = 0.92;
const MORE_CLASSES = 20;

let photos = 0;

export class Photo {
  /** Rises from photo to photo: answers come in any order, the board keeps this one. */
  order = ++photos;
  /** The embedding, unit length; null until there is an answer. */
  vector = null;
  /** A small square picture, a canvas; null until it is made. */
  square = null;
  /** A JPEG of at most 640 pixels; null until it is made. */
  thumbnail = null;
  #service;
  #events;
  #body;
  #maps = new Map();
  #gone = new AbortController();
  #thumbnailed;

  /** `service`: {health, key, uploads, thumbnails}; `events`: {answered, failed, removed}, each called with this. */
  constructor(file, service, events) {
    this.file = file;
    this.name = file.name;
    this.#body = file;
    this.#service = service;
    this.#events = events;
    this.card = new Card(this);
    this.#thumbnailed = service.thumbnails.run(() => this.#draw(), this.#gone.signal).catch(() => {});
  }

  async #draw() {
    const made = await thumbnail(this.file);
    if (this.#gone.signal.aborted) return;
    this.square = made.square;
    this.thumbnail = made.blob;
    this.card.picture(made);
  }

  /** Sends it, shows what comes of it. */
  async send({ shrunk = false } = {}) {
    this.card.waiting("Waits for its turn");
    try {
      await this.#service.uploads.run(() => this.#deliver(shrunk), this.#gone.signal);
    } catch (error) {
      if (!this.#gone.signal.aborted) throw error;
    }
  }

  async #shrink() {
    this.card.waiting("Shrinking");
    const made = await shrink(this.file, SHRUNK_SIDE, SHRUNK_QUALITY);
    if (made === null) {
      this.card.unshrunk();
      return;
    }
    this.#body = made.blob;
    this.card.shrunk(made);
  }

  async #deliver(shrunk) {
    if (shrunk && this.#body === this.file) await this.#shrink();
    const { card } = this;
    card.sending(0);
    const outcome = await this.#ask(`explain?top_k=${FEW}&embedding=true`, {
      onWait: (words) => card.waiting(words),
      onProgress: (share) => card.sending(share),
      onSent: () => card.sent(),
    });
    if (outcome.problem) {
      this.#failed(outcome);
      return;
    }
    const { body, timing } = outcome.answer;
    const [result] = body.results;
    if (result.error) {
      this.#failed({ problem: result.error, again: result.error.status >= 500, tooLarge: result.error.status === 413 });
      return;
    }
    await this.#thumbnailed; // the map is shown over the photo
    if (this.#gone.signal.aborted) return;
    for (const { index, map } of result.maps) this.#maps.set(index, map);
    this.vector = Float32Array.from(result.embedding);
    card.answered(result, timing);
    this.show(result.maps[0].index);
    this.#events.answered(this);
  }

  #ask(path, told = {}) {
    const { health, key } = this.#service;
    return deliver(path, this.#body, { health, key, signal: this.#gone.signal, ...told });
  }

  #failed({ problem, again, tooLarge }) {
    this.card.failed(problem, { again, shrink: tooLarge && this.#body === this.file });
    this.#events.failed(this, problem);
  }

  /** Shows the map of class `index`; one that is not here yet is asked for. */
  async show(index) {
    this.card.select(index);
    if (!this.#maps.has(index)) {
      const result = await this.#extra(`explain?class=${index}`, "Asking for the map");
      if (result === null) return;
      this.#maps.set(index, result.maps[0].map);
    }
    this.card.draw(index, this.#maps.get(index));
  }

  /** Shows more classes. */
  async more() {
    const result = await this.#extra(`classify?top_k=${MORE_CLASSES}`, "Asking for more classes");
    if (result !== null) this.card.classes(result.predictions);
  }

  async #extra(path, words) {
    this.card.note(words);
    try {
      const outcome = await this.#ask(path, { onWait: (why) => this.card.note(why) });
      const problem = outcome.problem ?? outcome.answer.body.results[0].error;
      this.card.note(problem ? `${problem.title}: ${problem.detail}` : "");
      return problem ? null : outcome.answer.body.results[0];
    } catch (error) {
      if (this.#gone.signal.aborted) return null;
      throw error;
    }
  }

  /** Takes it away, and whatever still runs for it. */
  remove() {
    this.#gone.abort(new DOMException("removed", "AbortError"));
    this.card.remove();
    this.#events.removed(this);
  }
}

// What one photo looks like on the page: picture with its class map, progress, classes, times, warnings, errors.

import { byId, el } from "./dom.js";
import { drawMap } from "./map.js";
import { timingBar } from "./timing.js";
import { bytes, percent, plainWarning, sentence } from "./words.js";

const FRAME = 5 / 4; // of the style sheet

let cards = 0;

export class Card {
  #photo;
  #parts;
  #shown = []; // {index, label, probability} in the list
  #selected = null;
  #facts = {};
  #small = false; // what the service measures is not the file then

  constructor(photo) {
    this.#photo = photo;
    const id = `card-${++cards}`;
    const image = el("img", { alt: "", draggable: "false", hidden: true });
    const map = el("canvas", { class: "map", "aria-hidden": "true" });
    const crop = el("div", { class: "crop", hidden: true }, map);
    const parts = {
      image,
      map,
      crop,
      stage: el("div", { class: "stage", role: "img", "aria-label": photo.name }, image, crop),
      bar: el("progress", { max: "1", "aria-label": `Progress of ${photo.name}` }),
      words: el("p", { class: "words" }),
      facts: el("p", { class: "facts" }),
      list: el("ul", { class: "classes", "aria-label": `Classes of ${photo.name}` }),
      note: el("p", { class: "note", role: "status" }),
      remarks: el("ul", { class: "remarks" }),
      times: el("div"),
      error: el("div", { class: "error", hidden: true }),
      more: el("button", { class: "quiet", type: "button", hidden: true, text: "More classes", "aria-describedby": id, on: { click: () => this.#more() } }),
    };
    this.#parts = parts;
    const remove = el(
      "button",
      { class: "remove", type: "button", "aria-label": `Remove ${photo.name}`, on: { click: () => photo.remove() } },
      el("span", { "aria-hidden": "true", text: "×" }),
    );
    parts.progress = el("div", { class: "progress" }, parts.bar, parts.words);
    this.element = el(
      "li",
      { class: "card" },
      el(
        "article",
        { "aria-labelledby": id },
        el("div", { class: "frame" }, parts.stage),
        remove,
        el(
          "div",
          { class: "card-body" },
          el("header", {}, el("h3", { id, text: photo.name, title: photo.name }), parts.facts),
          parts.progress,
          parts.error,
          parts.list,
          parts.more,
          parts.note,
          parts.remarks,
          parts.times,
        ),
      ),
    );
    this.#shape(4, 3);
    this.#fact("size", bytes(photo.file.size));
    this.#state("waiting");
  }

  #state(word) {
    this.element.dataset.state = word;
    this.#parts.progress.hidden = word === "answered" || word === "failed";
    this.#parts.error.hidden = word !== "failed";
  }

  #fact(name, words) {
    this.#facts[name] = words;
    const { pixels, size, shrunk } = this.#facts;
    this.#parts.facts.textContent = [pixels, size, shrunk].filter(Boolean).join(" · ");
  }

  /** Gives the picture the photo's proportions, as large as the frame allows. */
  #shape(width, height) {
    const { stage } = this.#parts;
    stage.style.aspectRatio = `${width} / ${height}`;
    stage.classList.toggle("tall", width / height < FRAME);
  }

  /** The thumbnail is there. */
  picture({ blob, width, height, shown }) {
    const url = URL.createObjectURL(blob);
    const { image } = this.#parts;
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    image.addEventListener("error", () => URL.revokeObjectURL(url), { once: true });
    image.src = url;
    image.hidden = false;
    if (shown) this.#fact("pixels", `${width} × ${height}`);
    this.#shape(width, height);
  }

  /** Nothing happens, and why. */
  waiting(words) {
    this.#state("waiting");
    this.#parts.bar.removeAttribute("value");
    this.#parts.words.textContent = words;
  }

  sending(share) {
    this.#state("sending");
    this.#parts.bar.value = share;
    this.#parts.words.textContent = `Sending, ${Math.round(share * 100)} %`;
  }

  sent() {
    this.#state("sent");
    this.#parts.bar.removeAttribute("value");
    this.#parts.words.textContent = "Sent, the network is looking";
  }

  shrunk({ blob, width, height }) {
    this.#small = true;
    this.#fact("shrunk", `shrunk to ${width} × ${height}, ${bytes(blob.size)}`);
  }

  unshrunk() {
    this.#fact("shrunk", "sent as it is, shrinking would not help");
  }

  /** `result` is one of /explain's results. */
  answered(result, timing) {
    const { crop, remarks, times, more } = this.#parts;
    const { photo, warnings = [] } = result;
    this.#state("answered");
    if (!this.#small) this.#fact("pixels", `${photo.width} × ${photo.height}`);
    this.#shape(photo.width, photo.height);
    for (const [side, value] of Object.entries({
      left: result.crop.x / photo.width,
      top: result.crop.y / photo.height,
      width: result.crop.width / photo.width,
      height: result.crop.height / photo.height,
    })) crop.style[side] = `${value * 100}%`;
    crop.hidden = false;
    remarks.replaceChildren(...warnings.map((warning) => el("li", { text: plainWarning(warning) })));
    times.replaceChildren(...[timingBar(timing)].filter(Boolean));
    this.classes(result.maps);
    more.hidden = false;
  }

  /** The strongest class in a line. */
  summary() {
    const [{ label, probability }] = this.#shown;
    return `${this.#photo.name}: ${label}, ${percent(probability)}`;
  }

  /** Lists `predictions`: {index, label, probability}. */
  classes(predictions) {
    this.#shown = predictions;
    this.#parts.more.hidden = predictions.length > 5;
    this.#parts.list.classList.toggle("many", predictions.length > 5);
    this.#parts.list.replaceChildren(
      ...predictions.map(({ index, label, probability }) => {
        const fill = el("span", { class: "fill" });
        fill.style.width = `${probability * 100}%`;
        const button = el(
          "button",
          { type: "button", "data-class": index, "aria-pressed": String(index === this.#selected), on: { click: () => this.#photo.show(index) } },
          el("span", { class: "label", text: label }),
          el("span", { class: "share", text: percent(probability) }),
          el("span", { class: "track", "aria-hidden": "true" }, fill),
        );
        return el("li", {}, button);
      }),
    );
  }

  async #more() {
    const { more, list } = this.#parts;
    const had = this.#shown.length;
    more.disabled = true;
    await this.#photo.more();
    more.disabled = false;
    // The button goes, and with it the focus would.
    if (more.hidden) list.children[had]?.firstElementChild.focus({ preventScroll: true });
  }

  /** Marks class `index` as the one whose map is shown. */
  select(index) {
    this.#selected = index;
    for (const button of this.#parts.list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.class) === index));
    }
  }

  /** Draws the map of class `index`, if that is still the one that is wanted. */
  draw(index, map) {
    if (index !== this.#selected) return;
    const { stage, map: canvas } = this.#parts;
    const some = drawMap(canvas, map);
    canvas.dataset.class = index;
    const label = this.#shown.find((entry) => entry.index === index)?.label ?? `class ${index}`;
    stage.setAttribute("aria-label", `${this.#photo.name}, with the class map of ${label}`);
    this.note(some ? "" : `No place in this photo speaks for “${label}”.`);
  }

  note(words) {
    this.#parts.note.textContent = words;
  }

  /** `problem` is {title, detail}; `again`, `shrink`: whether that can help. */
  failed({ title, detail }, { again, shrink }) {
    this.#state("failed");
    const buttons = [];
    if (shrink) buttons.push(["Shrink and send", () => this.#photo.send(true)]);
    if (again) buttons.push(["Try again", () => this.#photo.send()]);
    this.#parts.error.replaceChildren(
      el("p", { class: "error-title", text: title }),
      el("p", { text: sentence(detail) }),
      ...buttons.map(([text, click]) => el("button", { type: "button", text, on: { click } })),
    );
  }

  remove() {
    const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
    const focused = this.element.contains(document.activeElement);
    this.element.remove();
    if (focused) (next?.querySelector(".remove") ?? byId("choose")).focus();
  }
}

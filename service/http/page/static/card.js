// What one photo looks like on the page: picture with its class map, progress, classes, times, warnings, errors.

import { byId, el } from "./dom.js";
import { drawMap } from "./map.js";
import { timingBar } from "./timing.js";
import { bytes, percent, plainWarning, sentence } from "./words.js";

const FRAME = 5 / 4; // of the style sheet

/** Classes that are shown before somebody asks for more. */
export const FEW = 5;

let cards = 0;

export class Card {
  #photo;
  #parts;
  #shown = []; // {index, label, probability} in the list
  #selected = null;
  #facts = {};
  #isShrunk = false; // what the service measures is not the file then

  constructor(photo) {
    this.#photo = photo;
    const id = `card-${++cards}`;
    this.#parts = this.#make(id);
    this.element = el("li", { class: "card" }, this.#arranged(id));
    this.#shape(4, 3);
    this.#fact("size", bytes(photo.file.size));
    this.#state("waiting");
  }

  /** The parts that change; `id` is that of the heading. */
  #make(id) {
    const { name } = this.#photo;
    const image = el("img", { alt: "", draggable: "false", hidden: true });
    const map = el("canvas", { class: "map", "aria-hidden": "true" });
    const crop = el("div", { class: "crop", hidden: true }, map);
    const bar = el("progress", { max: "1", "aria-label": `Progress of ${name}` });
    const words = el("p", { class: "words" });
    const more = el("button", { class: "quiet", type: "button", hidden: true, "aria-describedby": id });
    more.textContent = "More classes";
    more.addEventListener("click", () => this.#more());
    return {
      image,
      map,
      crop,
      stage: el("div", { class: "stage", role: "img", "aria-label": name }, image, crop),
      bar,
      words,
      progress: el("div", {}, bar, words),
      facts: el("p", { class: "facts" }),
      list: el("ul", { class: "classes", "aria-label": `Classes of ${name}` }),
      more,
      note: el("p", { class: "note", role: "status" }),
      remarks: el("ul", { class: "remarks" }),
      timing: el("div", { class: "timing" }),
      error: el("div", { class: "error", hidden: true }),
    };
  }

  /** The parts and what never changes, in the order of the page. */
  #arranged(id) {
    const { name } = this.#photo;
    const { stage, facts, progress, error, list, more, note, remarks, timing } = this.#parts;
    const remove = el(
      "button",
      { class: "remove", type: "button", "aria-label": `Remove ${name}`, on: { click: () => this.#photo.remove() } },
      el("span", { "aria-hidden": "true", text: "×" }),
    );
    const header = el("header", {}, el("h3", { id, text: name, title: name }), facts);
    return el(
      "article",
      { "aria-labelledby": id },
      el("div", { class: "frame" }, stage),
      remove,
      el("div", { class: "card-body" }, header, progress, error, list, more, note, remarks, timing),
    );
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
    this.#isShrunk = true;
    this.#fact("shrunk", `shrunk to ${width} × ${height}, ${bytes(blob.size)}`);
  }

  unshrunk() {
    this.#fact("shrunk", "sent as it is, shrinking would not help");
  }

  /** `result` is one of /explain's results. */
  answered(result, timing) {
    const { crop, remarks, timing: times } = this.#parts;
    const { photo, warnings = [] } = result;
    this.#state("answered");
    if (!this.#isShrunk) this.#fact("pixels", `${photo.width} × ${photo.height}`);
    this.#shape(photo.width, photo.height);
    for (const [side, value] of Object.entries({
      left: result.crop.x / photo.width,
      top: result.crop.y / photo.height,
      width: result.crop.width / photo.width,
      height: result.crop.height / photo.height,
    })) crop.style[side] = `${value * 100}%`;
    crop.hidden = false;
    remarks.replaceChildren(...warnings.map((warning) => el("li", { text: plainWarning(warning) })));
    times.replaceChildren(...timingBar(timing));
    this.classes(result.maps);
  }

  /** The strongest class in a line. */
  summary() {
    const [{ label, probability }] = this.#shown;
    return `${this.#photo.name}: ${label}, ${percent(probability)}`;
  }

  /** Lists `predictions`: {index, label, probability}. */
  classes(predictions) {
    this.#shown = predictions;
    const { list, more } = this.#parts;
    const many = predictions.length > FEW;
    more.hidden = many;
    list.classList.toggle("many", many);
    list.replaceChildren(
      ...predictions.map(({ index, label, probability }) => {
        const fill = el("span", { class: "fill" });
        fill.style.width = `${probability * 100}%`;
        const button = el(
          "button",
          { type: "button", "data-class": index, on: { click: () => this.#photo.show(index) } },
          el("span", { class: "label", text: label }),
          el("span", { class: "share", text: percent(probability) }),
          el("span", { class: "track", "aria-hidden": "true" }, fill),
        );
        return el("li", {}, button);
      }),
    );
    this.#press();
  }

  /** Marks the class whose map is shown. */
  #press() {
    for (const button of this.#parts.list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.class) === this.#selected));
    }
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

  /** The map of class `index` is wanted. */
  select(index) {
    this.#selected = index;
    this.#press();
  }

  /** Draws the map of class `index`, unless another is wanted by now. */
  draw(index, map) {
    if (index !== this.#selected) return;
    const { stage, map: canvas } = this.#parts;
    const drawn = drawMap(canvas, map);
    canvas.dataset.class = index;
    const label = this.#shown.find((entry) => entry.index === index)?.label ?? `class ${index}`;
    stage.setAttribute("aria-label", `${this.#photo.name}, with the class map of ${label}`);
    this.note(drawn ? "" : `No place in this photo speaks for “${label}”.`);
  }

  note(words) {
    this.#parts.note.textContent = words;
  }

  /** `problem` is {title, detail}; `again`, `shrink`: whether that can help. */
  failed({ title, detail }, { again, shrink }) {
    this.#state("failed");
    const buttons = [];
    if (shrink) buttons.push(["Shrink and send", () => this.#photo.send({ shrunk: true })]);
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

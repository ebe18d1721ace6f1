// How alike the photos are: cosines of their embeddings as a heat map, a layout, and files. All of it in the page.

import { byId } from "./dom.js";
import { csv, npy, save } from "./export.js";
import { layOut, markSpots } from "./layout.js";
import { Matrix } from "./matrix.js";
import { dot, principal } from "./pca.js";

const LAYOUT_FROM = 6;
const SETTLE_MS = 120;

export class Board {
  #photos = []; // with a vector, in the order of the cards
  #gram = [];
  #timer = null;
  #matrix = new Matrix(byId("matrix"), byId("matrix-canvas"), (row, column) => this.#tell(row, column));

  constructor() {
    byId("csv").addEventListener("click", () => save(csv(this.#photos), "features.csv"));
    byId("npy").addEventListener("click", () => save(npy(this.#photos), "features.npy"));
    byId("layout").addEventListener("pointermove", (event) => {
      const index = Number(event.target.closest?.(".spot")?.dataset.index ?? Number.NaN);
      if (Number.isInteger(index)) this.#matrix.select(index, this.#nearest(index) ?? index);
    });
    let width = window.innerWidth;
    window.addEventListener("resize", () => {
      if (width !== window.innerWidth) this.#later();
      width = window.innerWidth;
    });
  }

  add(photo) {
    if (this.#photos.includes(photo)) return;
    const later = this.#photos.findIndex((other) => other.order > photo.order);
    const place = later < 0 ? this.#photos.length : later;
    this.#photos.splice(place, 0, photo);
    const row = this.#photos.map((other) => dot(other.vector, photo.vector));
    this.#gram.splice(place, 0, row);
    row.forEach((value, index) => index !== place && this.#gram[index].splice(place, 0, value));
    this.#later();
  }

  remove(photo) {
    const index = this.#photos.indexOf(photo);
    if (index < 0) return;
    this.#photos.splice(index, 1);
    this.#gram.splice(index, 1);
    for (const row of this.#gram) row.splice(index, 1);
    this.#later();
  }

  /** Draws once when several photos come at nearly the same time. */
  #later() {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#draw();
    }, SETTLE_MS);
  }

  #draw() {
    const count = this.#photos.length;
    byId("board").hidden = count === 0;
    byId("board-body").hidden = count < 2;
    byId("pair").textContent = "";
    const wide = count >= LAYOUT_FROM;
    byId("layout-figure").hidden = !wide;
    byId("board-body").classList.toggle("two", wide);
    if (count < 2) return;
    this.#matrix.show(this.#photos, this.#gram);
    this.#tellMostAlike();
    if (!wide) return;
    const { points, explained } = principal(this.#gram);
    layOut(byId("layout"), this.#photos, points);
    const kept = `${Math.round(explained * 100)} %`;
    byId("layout-words").textContent = `Two principal components of the features; they keep ${kept} of the variance.`;
  }

  /** Says which two are most alike, until somebody points at a cell. */
  #tellMostAlike() {
    let best = [0, 1];
    for (let row = 0; row < this.#gram.length; row += 1) {
      for (let column = row + 1; column < this.#gram.length; column += 1) {
        if (this.#gram[row][column] > this.#gram[best[0]][best[1]]) best = [row, column];
      }
    }
    byId("pair").textContent = `Most alike: ${this.#words(...best)}.`;
  }

  #words(row, column) {
    return `${this.#photos[row].name} and ${this.#photos[column].name}: ${this.#gram[row][column].toFixed(2)}`;
  }

  /** The photo most like `index`; null where there is no other. */
  #nearest(index) {
    let best = null;
    this.#gram[index].forEach((value, other) => {
      if (other !== index && (best === null || value > this.#gram[index][best])) best = other;
    });
    return best;
  }

  #tell(row, column) {
    const nearest = this.#nearest(row);
    const { name } = this.#photos[row];
    const most = nearest === null ? "" : ` Most like ${name}: ${this.#photos[nearest].name}.`;
    const pair = row === column ? `${name} and itself: 1.00` : this.#words(row, column);
    byId("pair").textContent = `${pair}.${most}`;
    markSpots(byId("layout"), [row, column]);
  }
}

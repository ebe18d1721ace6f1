// The heat map of every pair's similarity, with small pictures as headings; for mouse, finger and keyboard.

import { colour, sized } from "./dom.js";

const MOST_CELL = 92;
const NUMBER_CELL = 34; // from here on a cell has room for its number

const KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class Matrix {
  #host;
  #canvas;
  #entries = [];
  #gram = [];
  #at = null; // [row, column]
  #cell = 0;
  #head = 0;
  #onSelect;

  /** `onSelect(row, column)` is called for the cell that is pointed at; its null is none. */
  constructor(host, canvas, onSelect) {
    this.#host = host;
    this.#canvas = canvas;
    this.#onSelect = onSelect;
    host.addEventListener("pointermove", (event) => this.#point(event));
    host.addEventListener("pointerdown", (event) => this.#point(event));
    host.addEventListener("keydown", (event) => this.#key(event));
    host.addEventListener("focus", () => this.#at ?? this.select(0, Math.min(1, this.#entries.length - 1)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(entries, gram) {
    this.#entries = entries;
    this.#gram = gram;
    if (this.#at && Math.max(...this.#at) >= entries.length) this.#at = null;
    this.draw();
  }

  select(row, column) {
    if (this.#at && this.#at[0] === row && this.#at[1] === column) return;
    this.#at = [row, column];
    this.draw();
    this.#onSelect(row, column);
  }

  #point(event) {
    const box = this.#canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - this.#head) / this.#cell);
    const row = Math.floor((event.clientY - box.top - this.#head) / this.#cell);
    const count = this.#entries.length;
    if (row >= 0 && column >= 0 && row < count && column < count) this.select(row, column);
  }

  #key(event) {
    const last = this.#entries.length - 1;
    const [row, column] = this.#at ?? [0, 0];
    const move = KEYS[event.key];
    const within = (value) => Math.min(Math.max(value, 0), last);
    if (move) this.select(within(row + move[0]), within(column + move[1]));
    else if (event.key === "Home") this.select(row, 0);
    else if (event.key === "End") this.select(row, last);
    else return;
    event.preventDefault();
  }

  draw() {
    const count = this.#entries.length;
    const room = Math.min(this.#host.clientWidth, 760);
    if (count === 0 || room <= 0) return;
    // The headings are as large as the cells, but never too small to be recognised while there is room.
    this.#head = Math.max(Math.min(room / (count + 1), MOST_CELL), 18);
    this.#cell = Math.min((room - this.#head) / count, MOST_CELL);
    const side = this.#head + count * this.#cell;
    const context = sized(this.#canvas, side, side);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = `500 ${Math.min(14, this.#cell * 0.3)}px system-ui, sans-serif`;
    const [surface, accent, text] = [colour("--surface"), colour("--heat"), colour("--text")];
    const [onHeat, quiet] = [colour("--on-heat"), colour("--sunken")];
    const gap = this.#cell > 14 ? 1.5 : 0;
    for (let row = 0; row < count; row += 1) {
      for (let column = 0; column < count; column += 1) {
        const value = Math.min(Math.max(this.#gram[row][column], 0), 1);
        const [x, y] = [this.#head + column * this.#cell, this.#head + row * this.#cell];
        context.fillStyle = surface;
        context.fillRect(x, y, this.#cell, this.#cell);
        // A photo and itself say nothing, and would outshine the rest.
        context.globalAlpha = row === column ? 1 : value ** 1.6;
        context.fillStyle = row === column ? quiet : accent;
        context.fillRect(x + gap, y + gap, this.#cell - 2 * gap, this.#cell - 2 * gap);
        context.globalAlpha = 1;
        if (this.#cell >= NUMBER_CELL && row !== column) {
          context.fillStyle = value ** 1.6 > 0.5 ? onHeat : text;
          context.fillText(this.#gram[row][column].toFixed(2), x + this.#cell / 2, y + this.#cell / 2);
        }
      }
    }
    this.#heads(context);
    if (this.#at) this.#mark(context, accent);
  }

  #heads(context) {
    const gap = this.#cell > 14 ? 1.5 : 0;
    const deep = this.#head - 4;
    this.#entries.forEach(({ mini }, index) => {
      if (!mini) return;
      const at = this.#head + index * this.#cell + gap;
      const wide = this.#cell - 2 * gap;
      const side = Math.min(deep, wide);
      context.drawImage(mini, at + (wide - side) / 2, deep - side, side, side);
      context.drawImage(mini, deep - side, at + (wide - side) / 2, side, side);
    });
  }

  #mark(context, accent) {
    const [row, column] = this.#at;
    const [x, y] = [this.#head + column * this.#cell, this.#head + row * this.#cell];
    context.strokeStyle = colour("--text");
    context.lineWidth = 2;
    context.strokeRect(x + 1, y + 1, this.#cell - 2, this.#cell - 2);
    context.strokeStyle = accent;
    context.lineWidth = 3;
    const deep = this.#head - 4;
    const side = Math.min(deep, this.#cell);
    const middle = (this.#cell - side) / 2;
    context.strokeRect(x + middle + 1.5, deep - side + 1.5, side - 3, side - 3);
    context.strokeRect(deep - side + 1.5, y + middle + 1.5, side - 3, side - 3);
  }
}

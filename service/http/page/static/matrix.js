// The heat map of every pair's similarity, with small pictures as headings; for mouse, finger and keyboard.

import { colour, sized } from "./dom.js";

const MOST_WIDTH = 760;
const MOST_CELL = 92;
const LEAST_HEAD = 18;
const NUMBER_CELL = 34; // from here on a cell has room for its number

const KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class Matrix {
  #host;
  #canvas;
  #entries = [];
  #gram = [];
  #at = null; // [row, column] of the cell that is pointed at
  #cell = 0;
  #head = 0;
  #gap = 0;
  #onSelect;

  /** `onSelect(row, column)` is called for each cell that is pointed at. */
  constructor(host, canvas, onSelect) {
    this.#host = host;
    this.#canvas = canvas;
    this.#onSelect = onSelect;
    host.addEventListener("pointermove", (event) => this.#point(event));
    host.addEventListener("pointerdown", (event) => this.#point(event));
    host.addEventListener("keydown", (event) => this.#key(event));
    host.addEventListener("focus", () => {
      if (this.#at === null) this.select(0, Math.min(1, this.#entries.length - 1));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  show(entries, gram) {
    this.#entries = entries;
    this.#gram = gram;
    if (this.#at && Math.max(...this.#at) >= entries.length) this.#at = null;
    this.#draw();
  }

  select(row, column) {
    if (this.#at && this.#at[0] === row && this.#at[1] === column) return;
    this.#at = [row, column];
    this.#draw();
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

  #draw() {
    const count = this.#entries.length;
    const room = Math.min(this.#host.clientWidth, MOST_WIDTH);
    if (count === 0 || room <= 0) return;
    // The headings are as large as the cells, but never too small to be recognised while there is room.
    this.#head = Math.max(Math.min(room / (count + 1), MOST_CELL), LEAST_HEAD);
    this.#cell = Math.min((room - this.#head) / count, MOST_CELL);
    this.#gap = this.#cell > 14 ? 1.5 : 0;
    const side = this.#head + count * this.#cell;
    const context = sized(this.#canvas, side, side);
    this.#drawCells(context);
    this.#drawHeads(context);
    if (this.#at) this.#drawMark(context);
  }

  #drawCells(context) {
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = `500 ${Math.min(14, this.#cell * 0.3)}px system-ui, sans-serif`;
    const [surface, quiet, heat] = [colour("--surface"), colour("--sunken"), colour("--heat")];
    const [text, onHeat] = [colour("--text"), colour("--on-heat")];
    const side = this.#cell - 2 * this.#gap;
    this.#gram.forEach((values, row) => values.forEach((value, column) => {
      const [x, y] = [this.#head + column * this.#cell, this.#head + row * this.#cell];
      const strength = Math.min(Math.max(value, 0), 1) ** 1.6;
      context.fillStyle = surface;
      context.fillRect(x, y, this.#cell, this.#cell);
      // A photo and itself say nothing, and would outshine the rest.
      context.globalAlpha = row === column ? 1 : strength;
      context.fillStyle = row === column ? quiet : heat;
      context.fillRect(x + this.#gap, y + this.#gap, side, side);
      context.globalAlpha = 1;
      if (this.#cell >= NUMBER_CELL && row !== column) {
        context.fillStyle = strength > 0.5 ? onHeat : text;
        context.fillText(value.toFixed(2), x + this.#cell / 2, y + this.#cell / 2);
      }
    }));
  }

  #drawHeads(context) {
    const deep = this.#head - 4;
    const wide = this.#cell - 2 * this.#gap;
    const side = Math.min(deep, wide);
    this.#entries.forEach(({ square }, index) => {
      if (!square) return;
      const at = this.#head + index * this.#cell + this.#gap + (wide - side) / 2;
      context.drawImage(square, at, deep - side, side, side);
      context.drawImage(square, deep - side, at, side, side);
    });
  }

  /** A frame round the cell that is pointed at, and round its two headings. */
  #drawMark(context) {
    const [row, column] = this.#at;
    const [x, y] = [this.#head + column * this.#cell, this.#head + row * this.#cell];
    context.strokeStyle = colour("--text");
    context.lineWidth = 2;
    context.strokeRect(x + 1, y + 1, this.#cell - 2, this.#cell - 2);
    context.strokeStyle = colour("--heat");
    context.lineWidth = 3;
    const deep = this.#head - 4;
    const side = Math.min(deep, this.#cell);
    const middle = (this.#cell - side) / 2;
    context.strokeRect(x + middle + 1.5, deep - side + 1.5, side - 3, side - 3);
    context.strokeRect(deep - side + 1.5, y + middle + 1.5, side - 3, side - 3);
  }
}

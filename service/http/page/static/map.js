// A class map, drawn: cells scaled to the strongest, enlarged smoothly, coloured by a ramp.

/** Colours at 0, 1/4, 1/2, 3/4, 1; the ramp beside the slider and the service's own drawing have the same. */
const STOPS = [
  [0x3b, 0x0f, 0x70],
  [0x8c, 0x29, 0x81],
  [0xde, 0x49, 0x68],
  [0xfe, 0x9f, 0x6d],
  [0xfc, 0xfd, 0xbf],
];

/** Pixels a side of the picture that is drawn; the browser stretches it over the crop. */
const SIDE = 196;

/** Red, green and blue of every step from 0 to 255. */
const RAMP = new Uint8Array(256 * 3);
for (let step = 0; step < 256; step += 1) {
  const place = (step / 255) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  for (let channel = 0; channel < 3; channel += 1) {
    const [from, to] = [STOPS[low][channel], STOPS[low + 1][channel]];
    RAMP[step * 3 + channel] = Math.round(from + (to - from) * (place - low));
  }
}

// Catmull-Rom: goes through the cells' values at their centres.
function cubic(x) {
  const d = Math.abs(x);
  if (d < 1) return 1.5 * d ** 3 - 2.5 * d ** 2 + 1;
  if (d < 2) return -0.5 * d ** 3 + 2.5 * d ** 2 - 4 * d + 2;
  return 0;
}

/** Row i holds the weights of the `cells` values that make pixel i of a side; cells beyond the edge repeat it. */
function weights(cells) {
  const rows = [];
  for (let pixel = 0; pixel < SIDE; pixel += 1) {
    const at = ((pixel + 0.5) * cells) / SIDE - 0.5;
    const row = new Float32Array(cells);
    const first = Math.floor(at) - 1;
    for (let cell = first; cell < first + 4; cell += 1) {
      row[Math.min(Math.max(cell, 0), cells - 1)] += cubic(at - cell);
    }
    rows.push(row);
  }
  return rows;
}

/** Evidence from 0 to 1 in every pixel of the picture; null where no place speaks for the class. */
function enlarge(map) {
  const rows = map.length;
  const columns = map[0].length;
  const strongest = Math.max(...map.map((row) => Math.max(...row)));
  if (!(strongest > 0)) return null;
  const cells = map.map((row) => row.map((value) => Math.min(Math.max(value / strongest, 0), 1)));
  const [down, across] = [weights(rows), weights(columns)];
  const result = new Float32Array(SIDE * SIDE);
  const line = new Float32Array(columns);
  for (let y = 0; y < SIDE; y += 1) {
    for (let column = 0; column < columns; column += 1) {
      line[column] = 0;
      for (let row = 0; row < rows; row += 1) line[column] += down[y][row] * cells[row][column];
    }
    for (let x = 0; x < SIDE; x += 1) {
      let value = 0;
      for (let column = 0; column < columns; column += 1) value += across[x][column] * line[column];
      result[y * SIDE + x] = Math.min(Math.max(value, 0), 1);
    }
  }
  return result;
}

/** Draws `map` into `canvas`; opacity is left to the style sheet. False where no place speaks for the class. */
export function drawMap(canvas, map) {
  canvas.width = SIDE;
  canvas.height = SIDE;
  const context = canvas.getContext("2d");
  const evidence = enlarge(map);
  if (evidence === null) return false;
  const picture = context.createImageData(SIDE, SIDE);
  for (let pixel = 0; pixel < evidence.length; pixel += 1) {
    const step = Math.round(evidence[pixel] * 255);
    picture.data.set(RAMP.subarray(step * 3, step * 3 + 3), pixel * 4);
    picture.data[pixel * 4 + 3] = step;
  }
  context.putImageData(picture, 0, 0);
  return true;
}

// Principal components of a few long vectors, by way of their Gram matrix.

/** The dot product. */
export function dot(a, b) {
  let sum = 0;
  for (let index = 0; index < a.length; index += 1) sum += a[index] * b[index];
  return sum;
}

/** Rows and columns of `gram` centred: the Gram matrix of the vectors less their mean. */
function centred(gram) {
  const count = gram.length;
  const means = gram.map((row) => row.reduce((sum, value) => sum + value, 0) / count);
  const mean = means.reduce((sum, value) => sum + value, 0) / count;
  return gram.map((row, i) => Float64Array.from(row, (value, j) => value - means[i] - means[j] + mean));
}

function normalise(vector) {
  const length = Math.sqrt(dot(vector, vector));
  if (length > 0) for (let index = 0; index < vector.length; index += 1) vector[index] /= length;
  return length;
}

/** The strongest eigenvector of `matrix` that is orthogonal to those `found`: {vector, value}. */
function strongest(matrix, found) {
  const count = matrix.length;
  // A fixed start that is no eigenvector by accident, so that the same photos always lie the same way.
  let vector = Float64Array.from({ length: count }, (_, index) => Math.sin(1 + index * 1.7) + 0.01 * index);
  const rounds = Math.max(100, Math.min(3000, Math.floor(4e7 / (count * count))));
  let value = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (const other of found) {
      const share = dot(vector, other.vector);
      for (let index = 0; index < count; index += 1) vector[index] -= share * other.vector[index];
    }
    normalise(vector);
    const next = Float64Array.from(matrix, (row) => dot(row, vector));
    value = normalise(next);
    let change = 0;
    for (let index = 0; index < count; index += 1) change = Math.max(change, Math.abs(next[index] - vector[index]));
    vector = next;
    if (change < 1e-10 || value === 0) break;
  }
  return { vector, value };
}

/** The largest coordinate in size is made positive: of two mirror images always the same one. */
function signed(vector) {
  let largest = 0;
  for (const value of vector) if (Math.abs(value) > Math.abs(largest) + 1e-9) largest = value;
  return largest < 0 ? vector.map((value) => -value) : vector;
}

/**
 * Two coordinates for each vector of which `gram[i][j]` is the dot product of i and j:
 * {points: [[x, y]], explained: share of the variance that both keep}.
 */
export function principal(gram) {
  const matrix = centred(gram);
  const variance = matrix.reduce((sum, row, index) => sum + row[index], 0);
  const found = [];
  for (let axis = 0; axis < 2; axis += 1) found.push(strongest(matrix, found));
  const axes = found.map(({ vector, value }) => signed(vector).map((part) => part * Math.sqrt(Math.max(value, 0))));
  return {
    points: gram.map((_, index) => [axes[0][index], axes[1][index]]),
    explained: variance > 0 ? (found[0].value + found[1].value) / variance : 0,
  };
}

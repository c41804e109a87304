// Descriptor maps: unpacked from one byte a dimension, sampled at a point, compared with all places of a target.
function unpack(side, scales) {
  const bytes = Uint8Array.from(atob(side.cells), (letter) => letter.charCodeAt(0));
  const small = new Int8Array(bytes.buffer);
  const dims = scales.length;
  const values = new Float32Array(small.length);
  for (let i = 0; i < small.length; i += 1) values[i] = small[i] * scales[i % dims];
  return { height: side.grid[0], width: side.grid[1], dims, values };
}

// where a place of a grid lies between two of its cells; outside counts as on the border
function between(place, cells) {
  const inside = Math.min(Math.max(place, 0), cells - 1);
  const before = Math.min(Math.floor(inside), Math.max(cells - 2, 0));
  return { before, after: Math.min(before + 1, cells - 1), share: inside - before };
}

function sampled(map, x, y) {
  const h = between(x, map.width);
  const v = between(y, map.height);
  const found = new Float32Array(map.dims);
  const add = (row, column, weight) => {
    const start = (row * map.width + column) * map.dims;
    for (let k = 0; k < map.dims; k += 1) found[k] += weight * map.values[start + k];
  };
  add(v.before, h.before, (1 - v.share) * (1 - h.share));
  add(v.before, h.after, (1 - v.share) * h.share);
  add(v.after, h.before, v.share * (1 - h.share));
  add(v.after, h.after, v.share * h.share);
  return found;
}

// a target on a grid `factor` times finer; a resized descriptor's length is kept, its values are not
function finer(map, factor) {
  const axis = (cells) => Array.from({ length: cells * factor }, (_, i) => between((i + 0.5) / factor - 0.5, cells));
  const target = { map, factor, columns: axis(map.width), rows: axis(map.height) };
  target.width = map.width * factor;
  target.height = map.height * factor;
  target.lengths = new Float32Array(target.width * target.height);
  const { values, width, dims } = map;
  target.rows.forEach((v, y) => target.columns.forEach((h, x) => {
    const corners = [[v.before, h.before], [v.before, h.after], [v.after, h.before], [v.after, h.after]];
    const [a, b, c, d] = corners.map(([row, column]) => (row * width + column) * dims);
    let squares = 0;
    for (let k = 0; k < dims; k += 1) {
      const top = values[a + k] * (1 - h.share) + values[b + k] * h.share;
      const bottom = values[c + k] * (1 - h.share) + values[d + k] * h.share;
      squares += (top * (1 - v.share) + bottom * v.share) ** 2;
    }
    target.lengths[y * target.width + x] = Math.max(Math.sqrt(squares), 1e-12);
  }));
  return target;
}

// cosines of a descriptor with all places of the finer grid: the products are resized, not the descriptors
function similarity(query, target) {
  const { map, rows, columns, width } = target;
  const length = Math.max(Math.hypot(...query), 1e-12);
  const products = new Float32Array(map.width * map.height);
  for (let cell = 0; cell < products.length; cell += 1) {
    let sum = 0;
    for (let k = 0; k < map.dims; k += 1) sum += query[k] * map.values[cell * map.dims + k];
    products[cell] = sum / length;
  }
  const cosines = new Float32Array(target.lengths.length);
  rows.forEach((v, y) => {
    const above = v.before * map.width;
    const below = v.after * map.width;
    columns.forEach((h, x) => {
      const top = products[above + h.before] * (1 - h.share) + products[above + h.after] * h.share;
      const bottom = products[below + h.before] * (1 - h.share) + products[below + h.after] * h.share;
      cosines[y * width + x] = (top * (1 - v.share) + bottom * v.share) / target.lengths[y * width + x];
    });
  });
  return cosines;
}

function extremes(cosines) {
  let [least, most, at] = [Infinity, -Infinity, 0];
  cosines.forEach((value, i) => {
    if (value < least) least = value;
    if (value > most) [most, at] = [value, i];
  });
  return { least, most, at };
}

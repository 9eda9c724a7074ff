// Elements, colours and numbers.

// Texts become text nodes and values of attributes: nothing of the data is ever read as HTML.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// viridis: perceptually uniform, and readable without colour.
const VIRIDIS = [
  [68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140],
  [40, 174, 128], [94, 201, 98], [173, 220, 48], [253, 231, 37],
];

function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[below].map((part, n) =>
    Math.round(part + (VIRIDIS[below + 1][n] - part) * (place - below)));
}

// One pixel of the canvas for each key; the style sheet makes patches of them. Where weights are
// small, more of the picture is left to be seen, and all but `least` of it where they are 0.
function paintMap(canvas, [rows, columns], values, most, opacity, covered = [], least = 0.6) {
  canvas.width = columns;
  canvas.height = rows;
  const pixels = new ImageData(columns, rows);
  const set = (key, rgb, alpha) => pixels.data.set([...rgb, Math.round(255 * alpha)], 4 * key);
  (values ?? []).forEach((value, key) => {
    const share = most ? value / most : 0;
    set(key, colour(share), opacity < 1 ? opacity * (least + (1 - least) * share) : 1);
  });
  for (const key of covered) set(key, [128, 128, 128], 0.96);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function paintScale(canvas) {
  paintMap(canvas, [1, 256], Float64Array.from({ length: 256 }, (_, n) => n), 255, 1);
}

// Three decimals, and more where all of them would be 0.
function number(value) {
  return value === 0 || value >= 0.001 ? value.toFixed(3) : value.toPrecision(2);
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function quoted(word) {
  return `“${word}”`;
}

// What a key is called.
function keyName(example, key) {
  if (example.kind === "tokens") return `${quoted(example.tokens[key])} (${key + 1})`;
  if (example.kind === "sound") {
    const frame = example.seconds / example.shape[3];
    const digits = frame < 0.01 ? 3 : 2;
    return `${(key * frame).toFixed(digits)} to ${((key + 1) * frame).toFixed(digits)} s`;
  }
  const columns = example.grid[1];
  return `row ${Math.floor(key / columns) + 1}, column ${(key % columns) + 1}`;
}

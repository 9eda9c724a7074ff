// Weights of an example: bytes (L, H, R, S) in shares of the peaks (L, H, R) of their rows.

const MEAN = -1;

function decoded(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpack(example) {
  const [L, H, R, S] = example.shape;
  const bytes = await inflated(decoded(example.weights));
  example.levels = bytes.subarray(0, L * H * R * S);
  example.peaks = new Float32Array(bytes.slice(L * H * R * S).buffer);
  example.weights = null;
}

// The row that belongs to a word, -1 where there is none: nothing predicts the first word.
function rowOf(example, word, reading) {
  const row = example.readings === "both" && reading === "predicted" ? word - 1 : word;
  return row < example.shape[2] ? row : -1;
}

function chosen(count, one) {
  return one === MEAN ? Array.from({ length: count }, (_, index) => index) : [one];
}

// Weights (S) of a word over the keys, mean over what `choice` leaves open; null without a row.
function weightsOf(example, choice, word, reading) {
  const row = rowOf(example, word, reading);
  if (row < 0) return null;
  const [L, H, R, S] = example.shape;
  const layers = chosen(L, choice.layer), heads = chosen(H, choice.head);
  const sum = new Float64Array(S);
  for (const layer of layers) {
    for (const head of heads) {
      const at = (layer * H + head) * R + row;
      const unit = example.peaks[at] / 255 / (layers.length * heads.length);
      for (let key = 0; key < S; key++) sum[key] += example.levels[at * S + key] * unit;
    }
  }
  return sum;
}

// How much each word (T) looks at one key; null for a word without a row.
function weightsOn(example, choice, key, reading) {
  const [L, H, R, S] = example.shape;
  const layers = chosen(L, choice.layer), heads = chosen(H, choice.head);
  return example.words.map((_, word) => {
    const row = rowOf(example, word, reading);
    if (row < 0) return null;
    let sum = 0;
    for (const layer of layers) {
      for (const head of heads) {
        const at = (layer * H + head) * R + row;
        sum += (example.peaks[at] * example.levels[at * S + key]) / 255;
      }
    }
    return sum / (layers.length * heads.length);
  });
}

// Places of the largest values, largest first; earlier places first among equals.
function ranked(values, count) {
  const places = Array.from(values.keys()).filter((place) => values[place] !== null);
  return places.sort((a, b) => values[b] - values[a] || a - b).slice(0, count);
}

function rankOf(values, place) {
  return 1 + values.reduce((larger, value) => larger + (value !== null && value > values[place]), 0);
}

function largest(values) {
  return values ? values.reduce((most, value) => Math.max(most, value), 0) : 0;
}

// The share of a word's weight that lies in its region, and of all keys: what chance would have.
function massInside(example, word, values) {
  const region = example.regions[word];
  const all = values.reduce((sum, value) => sum + value, 0);
  const sum = (of) => region.keys.reduce((total, key, n) => total + of(key) * region.shares[n], 0);
  return { mass: all ? sum((key) => values[key]) / all : 0, size: sum(() => 1) / values.length };
}

function shareInside(example, word, key) {
  const region = example.regions[word];
  const place = region ? region.keys.indexOf(key) : -1;
  return place < 0 ? 0 : region.shares[place];
}

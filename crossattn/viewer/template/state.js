// What is chosen, for all panels, and the part of the address that keeps it.

// The word that is shown first: one that is answered, whose region is known, or that was written.
function firstWord(example, reading) {
  const words = example.words.map((_, word) => word).filter((word) => rowOf(example, word, reading) >= 0);
  const answered = example.answers.map((answer) => answer.position);
  return [
    answered.find((word) => words.includes(word)),
    words.find((word) => example.regions[word]),
    words.find((word) => example.generated[word]),
    words[0],
  ].find((word) => word !== undefined) ?? 0;
}

function firstChoice(example, run, reading) {
  const [L, H] = example.shape;
  return { run, layer: L - 1, head: H > 1 ? MEAN : 0, word: firstWord(example, reading), key: null };
}

// A choice that an example has: of another one, or of an address that somebody wrote.
function fitting(choice, example, reading) {
  const [L, H, , S] = example.shape;
  const within = (value, count, fallback) =>
    Number.isInteger(value) && value >= 0 && value < count ? value : fallback;
  return {
    run: choice.run,
    layer: choice.layer === MEAN && L > 1 ? MEAN : within(choice.layer, L, L - 1),
    head: within(choice.head, H, H > 1 ? MEAN : 0),
    word: within(choice.word, example.words.length, firstWord(example, reading)),
    key: within(choice.key, S, null),
  };
}

// Whether a word, or a key, of one example is the same thing in another.
function alike(one, other, what) {
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  if (what === "word") return same(one.words, other.words);
  return one.kind === other.kind && same(one.grid, other.grid);
}

// Layers and heads count from 0, as in arrays and in reports; what is beside them from 1.
const FROM_ZERO = ["layer", "head"];
const firstOf = (name) => (FROM_ZERO.includes(name) ? 0 : 1);

function toAddress(app) {
  const parts = new URLSearchParams({ example: app.example + 1 });
  if (hasBoth(app)) parts.set("reading", app.reading);
  app.panels.forEach(({ choice }, n) => {
    for (const [name, value] of Object.entries(choice)) {
      if (value !== null) parts.set(name + (n ? n + 1 : ""), value === MEAN ? "mean" : value + firstOf(name));
    }
  });
  return parts.toString();
}

function fromAddress(app, text) {
  const parts = new URLSearchParams(text);
  const read = (name, end = "") => {
    const value = parts.get(name + end);
    if (value === "mean") return MEAN;
    const place = value ? Number(value) - firstOf(name) : NaN;
    return place >= 0 ? place : NaN;
  };
  const { runs } = app.data;
  const example = read("example");
  if (!runs[0].examples[example]) return false;
  app.example = example;
  if (["consumed", "predicted"].includes(parts.get("reading"))) app.reading = parts.get("reading");
  const choices = ["", "2"].filter((end) => !end || parts.has("layer2")).map((end) => {
    const run = runs[read("run", end)] ? read("run", end) : 0;
    const choice = { run };
    for (const name of ["layer", "head", "word", "key"]) choice[name] = read(name, end);
    return fitting(choice, runs[run].examples[example], app.reading);
  });
  app.show(choices);
  return true;
}

function hasBoth(app) {
  return app.data.runs.some((run) => run.examples.some((example) => example.readings === "both"));
}

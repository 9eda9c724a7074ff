// Tables beside the map. Their rows stay while their texts change, so that focus stays, too.

const SHOWN = 6;

class Ranking {
  // `pick(place)` is told which row the user chose.
  constructor(table, pick) {
    this.table = table;
    this.pick = pick;
    this.rows = [];
  }

  // `entries`: {place, name, value, more} in their order; `columns` name rank, name, weight, more.
  fill(caption, columns, entries) {
    this.table.caption.textContent = caption;
    const heads = columns.map((name) => element("th", { scope: "col" }, name));
    this.table.tHead.replaceChildren(element("tr", {}, ...heads));
    while (this.rows.length < entries.length) this.addRow();
    const most = Math.max(...entries.map((entry) => entry.value), 0);
    this.rows.forEach((row, n) => {
      row.line.hidden = n >= entries.length;
      if (n < entries.length) this.fillRow(row, entries[n], most, columns.length);
    });
  }

  addRow() {
    const row = { button: element("button", { type: "button", class: "link" }) };
    row.rank = element("td");
    row.weight = element("td", { class: "bar" });
    row.more = element("td");
    row.line = element("tr", {}, row.rank, element("td", {}, row.button), row.weight, row.more);
    row.button.addEventListener("click", () => this.pick(row.place));
    this.rows.push(row);
    this.table.tBodies[0].append(row.line);
  }

  fillRow(row, entry, most, columns) {
    row.place = entry.place;
    row.rank.textContent = entry.rank;
    row.button.textContent = entry.name;
    row.weight.textContent = number(entry.value);
    row.weight.style.setProperty("--share", most ? entry.value / most : 0);
    row.more.textContent = entry.more ?? "";
    row.more.hidden = columns < 4;
  }
}

// Places of the largest values that are not 0.
function seen(values) {
  return values ? ranked(values, SHOWN).filter((place) => values[place] > 0) : [];
}

// The keys that a word looks at most.
function fillTop(ranking, example, word, values) {
  const region = example.regions[word];
  const entries = seen(values).map((key) => ({
    place: key,
    rank: rankOf(values, key),
    name: keyName(example, key),
    value: values[key],
    more: region ? percent(shareInside(example, word, key)) : null,
  }));
  const columns = ["", { grid: "patch", sound: "frame", tokens: "key" }[example.kind], "weight"];
  const title = `Where ${quoted(example.words[word])} looks`;
  ranking.fill(title, region ? [...columns, "in the region"] : columns, entries);
}

// The words that look at a key most.
function fillLookers(ranking, example, key, lookers) {
  const entries = seen(lookers).map((word) => ({
    place: word,
    rank: rankOf(lookers, word),
    name: example.words[word],
    value: lookers[word],
  }));
  const thing = { grid: "a patch", sound: "a frame", tokens: "a key" }[example.kind];
  const title = lookers ? `Who looks at ${keyName(example, key)}` : `Click ${thing} to see which words look there`;
  ranking.table.classList.toggle("idle", !lookers);
  ranking.fill(title, lookers ? ["", "word", "weight"] : [], entries);
}

// Knock-outs: rows are buttons that cover what was hidden. `pick(number)`.
function buildAnswers(table, example, pick) {
  const things = { grid: "patches", sound: "frames", tokens: "keys" }[example.kind];
  const placed = example.answers.some((answer) => answer.position !== null);
  table.hidden = !example.answers.length;
  table.caption.textContent = `What the model answers while ${things} are hidden`;
  const columns = [...(placed ? ["word"] : []), "hidden", "answer", "probability"];
  table.tHead.replaceChildren(element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name))));
  table.tBodies[0].replaceChildren(...example.answers.map((answer, n) => answerLine(example, answer, n, placed, pick)));
}

function answerLine(example, answer, n, placed, pick) {
  const first = example.answers.find((other) => other.position === answer.position);
  const button = element("button", { type: "button", class: "link", "aria-pressed": "false" }, answer.hidden);
  button.addEventListener("click", () => pick(n));
  const word = element("td", { dir: "auto", class: answer.word === first.word ? "" : "changed" }, answer.word);
  const weight = element("td", { class: "bar" }, number(answer.probability));
  weight.style.setProperty("--share", answer.probability);
  const line = element("tr", {}, element("td", {}, button), word, weight);
  const asked = answer === first && answer.position !== null ? example.words[answer.position] : "";
  if (placed) line.prepend(element("td", { dir: "auto" }, asked));
  return line;
}

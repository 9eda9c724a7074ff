// One map with its words, choices and tables; two of them stand side by side.

class Panel {
  constructor(app, choice) {
    this.app = app;
    this.choice = choice; // run, layer, head, word, key; MEAN for a mean, null for no key
    this.hover = { word: null, key: null };
    this.answer = null;
    const copy = document.getElementById("panel").content.cloneNode(true);
    this.root = copy.firstElementChild;
    const find = (name) => this.root.querySelector(`.${name}`);
    this.parts = Object.fromEntries(
      ["caption", "words", "key-note", "legend", "least", "most", "scale", "here", "heads", "inside",
        "run", "layer", "head", "answers"].map((name) => [name, find(name)]));
    const point = (key, pinned) => app.point(this, "key", key, pinned);
    this.stage = new Stage(this.root, point);
    this.top = new Ranking(find("top"), (key) => point(key, true));
    this.lookers = new Ranking(find("lookers"), (word) => app.point(this, "word", word, true));
    for (const name of ["run", "layer", "head"]) {
      this.parts[name].addEventListener("change", () => app.choose(this, { [name]: Number(this.parts[name].value) }));
    }
    this.root.addEventListener("focusin", () => app.activate(this));
    paintScale(this.parts.scale);
  }

  get example() {
    return this.app.data.runs[this.choice.run].examples[this.app.example];
  }

  get word() {
    return this.hover.word ?? this.choice.word;
  }

  get key() {
    return this.hover.key ?? this.choice.key;
  }

  get values() {
    return weightsOf(this.example, this.choice, this.word, this.app.reading);
  }

  // Everything that changes with the example or the run.
  build() {
    const { example, parts } = this;
    const [L, H] = example.shape;
    this.answer = null;
    this.hover = { word: null, key: null };
    this.root.dataset.kind = example.kind;
    parts.caption.textContent = example.caption;
    parts.caption.hidden = !example.caption || example.caption === example.words.join(" ");
    parts.words.replaceChildren(...example.words.map((word, place) => this.chip(word, place)));
    parts["key-note"].textContent = this.note();
    this.options("run", this.app.data.runs.map((run) => run.name), null);
    this.options("layer", numbered(L), L > 1 ? `mean of ${L}` : null);
    this.options("head", numbered(H), H > 1 ? `mean of ${H}` : null);
    this.stage.build(example, this.app.data.pictures);
    this.thumbnails(H);
    buildAnswers(parts.answers, example, (n) => this.cover(n));
  }

  // Cover what an answer was not shown, or uncover it, over the map of the word that it is for.
  cover(n) {
    this.answer = this.answer === n ? null : n;
    const { position } = this.example.answers[n];
    if (position === null) this.app.repaint();
    else this.app.point(this, "word", position, true);
  }

  chip(word, place) {
    const { example, app } = this;
    const chip = element("button", { type: "button", class: "chip", dir: "auto" }, word);
    chip.classList.toggle("grounded", Boolean(example.regions[place]));
    chip.classList.toggle("generated", example.generated[place]);
    chip.addEventListener("click", () => app.point(this, "word", place, true));
    chip.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") app.point(this, "word", place, false);
    });
    chip.addEventListener("pointerleave", () => app.point(this, "word", null, false));
    return chip;
  }

  note() {
    const { example } = this;
    const read = { consumed: "Maps are of the position that read the word.",
      predicted: "Maps are of the position that predicted the word." };
    return [
      read[example.readings],
      example.regions.some(Boolean) && `Underlined: the ${example.regionName} is known.`,
      example.generated.some(Boolean) && "Italic: written by the model.",
    ].filter(Boolean).join(" ");
  }

  options(name, texts, mean) {
    const all = texts.map((text, value) => element("option", { value }, text));
    if (mean) all.unshift(element("option", { value: MEAN }, mean));
    this.parts[name].replaceChildren(...all);
    this.parts[name].parentElement.hidden = all.length < 2;
  }

  thumbnails(H) {
    const strip = this.example.kind === "grid" ? "" : "strip";
    this.thumbs = (H > 1 ? [MEAN, ...Array(H).keys()] : []).map((head) => {
      const map = element("canvas", { "aria-hidden": "true" }), text = element("span");
      if (!strip) map.style.setProperty("--aspect", this.example.aspect);
      const button = element("button", { type: "button", class: `thumb ${strip}` }, map, text);
      button.addEventListener("click", () => this.app.choose(this, { head }));
      return { head, map, text, button };
    });
    this.parts.heads.replaceChildren(...this.thumbs.map((thumb) => thumb.button));
  }

  // Everything that changes with what is chosen; `most` is where the colour scale ends.
  paint(most) {
    const { example, choice, word, key, values, parts } = this;
    const { opacity, outline, reading } = this.app;
    const covered = this.answer === null ? [] : example.answers[this.answer].keys;
    const label = this.says();
    this.stage.paint({ values, most, key, word, opacity, outline, covered, label });
    parts.most.textContent = number(most);
    parts.here.textContent = label;
    for (const name of ["run", "layer", "head"]) parts[name].value = choice[name];
    const lookers = key === null ? null : weightsOn(example, choice, key, reading);
    this.paintChips(lookers);
    this.paintThumbs();
    fillTop(this.top, example, word, values);
    fillLookers(this.lookers, example, key, lookers);
    parts.inside.textContent = this.insideText(values);
    [...parts.answers.tBodies[0].rows].forEach((row, n) =>
      row.querySelector("button").setAttribute("aria-pressed", n === this.answer));
  }

  paintChips(lookers) {
    const most = largest(lookers);
    [...this.parts.words.children].forEach((chip, place) => {
      const weight = lookers && lookers[place];
      chip.style.setProperty("--tint", `${most ? Math.round((75 * weight) / most) : 0}%`);
      chip.classList.toggle("later", this.app.until !== null && place > this.app.until);
      chip.setAttribute("aria-pressed", place === this.choice.word);
      chip.tabIndex = place === this.choice.word ? 0 : -1;
      const notes = [this.example.words[place]];
      if (chip.classList.contains("generated")) notes.push("written by the model");
      if (chip.classList.contains("grounded")) notes.push(`${this.example.regionName} known`);
      if (lookers && weight !== null) notes.push(`weight ${number(weight)}`);
      chip.setAttribute("aria-label", notes.join(", "));
    });
  }

  paintThumbs() {
    for (const { head, map, text, button } of this.thumbs) {
      const values = weightsOf(this.example, { ...this.choice, head }, this.word, this.app.reading);
      const most = largest(values), name = head === MEAN ? "mean" : `${head}`;
      paintMap(map, this.example.grid, values, most, 1);
      text.textContent = name;
      button.setAttribute("aria-pressed", head === this.choice.head);
      button.setAttribute("aria-label", `${head === MEAN ? "" : "head "}${name}, at most ${number(most)}`);
      button.title = `at most ${number(most)}`;
    }
  }

  insideText(values) {
    if (!values || !this.example.regions[this.word]) return "";
    const { mass, size } = massInside(this.example, this.word, values);
    const all = { grid: "the picture", sound: "the sound", tokens: "all keys" }[this.example.kind];
    return `${percent(mass)} of the weight lies in the ${this.example.regionName}, which is ${percent(size)} of ${all}.`;
  }

  // What the map shows, in a sentence; also for those who hear the page.
  says() {
    const { example, word, key, values } = this;
    const name = quoted(example.words[word]);
    if (!values) return word ? `${name} is read by no position.` : `Nothing predicts ${name}, the first word.`;
    if (!largest(values)) return `${name} looks nowhere: all its weights are 0.`;
    const place = key ?? ranked(values, 1)[0];
    const told = `weight ${number(values[place])}, rank ${rankOf(values, place)} of ${values.length}`;
    const share = example.regions[word] ? shareInside(example, word, place) : 0;
    const inside = share ? `, ${percent(share)} of it in the ${example.regionName}` : "";
    return `${name} at ${keyName(example, place)}: ${told}${inside}.`;
  }
}

function numbered(count) {
  return Array.from({ length: count }, (_, n) => `${n}`);
}

// The page: its panels, and what happens to them.

const WRITING_MS = 700;

class App {
  constructor(data) {
    this.data = data;
    this.example = 0;
    this.opacity = 0.8;
    this.outline = true;
    this.same = true;
    this.panels = [];
    this.active = 0;
    this.until = null; // the last word that is written, while words are written again
    this.reading = "predicted"; // or "consumed": of examples that have both
  }

  // Show panels with these choices.
  show(choices) {
    this.halt();
    this.panels = choices.map((choice) => new Panel(this, choice));
    this.active = 0;
    const place = document.getElementById("panels");
    place.classList.toggle("two", choices.length > 1);
    place.replaceChildren(...this.panels.map((panel) => panel.root));
    for (const panel of this.panels) panel.build();
    this.paintSettings();
    this.repaint();
  }

  start() {
    const runs = this.data.runs.map((run, n) => firstChoice(run.examples[0], n, this.reading));
    this.show(runs);
  }

  paintSettings() {
    const example = this.panels.map((panel) => panel.example);
    const toggle = (id, shown) => (document.getElementById(id).hidden = !shown);
    toggle("reading", example.some((one) => one.readings === "both"));
    toggle("play", example.some((one) => one.generated.some(Boolean)));
    toggle("outline-label", example.some((one) => one.regions.some(Boolean)));
    document.querySelector("#outline-label span").textContent = example[0].regionName;
    toggle("opacity-label", example.some((one) => one.picture !== null || one.wave));
    toggle("same-label", example.length > 1);
    toggle("examples", this.data.runs[0].examples.length > 1);
    document.getElementById("split").setAttribute("aria-pressed", example.length > 1);
    document.getElementById("example").value = this.example;
    document.getElementById("previous").disabled = this.example === 0;
    document.getElementById("next").disabled = this.example === this.data.runs[0].examples.length - 1;
  }

  repaint() {
    const peaks = this.panels.map((panel) => largest(panel.values));
    const shared = Math.max(...peaks);
    this.panels.forEach((panel, n) => {
      panel.paint(this.same ? shared : peaks[n]);
      panel.root.classList.toggle("active", n === this.active && this.panels.length > 1);
    });
    for (const button of document.querySelectorAll("#reading button")) {
      button.setAttribute("aria-pressed", button.dataset.reading === this.reading);
    }
    document.getElementById("play").textContent = this.until === null ? "▶ Write again" : "■ Stop";
  }

  // After something was chosen: keep it in the address, and say it.
  settle() {
    this.repaint();
    keepAddress(toAddress(this));
    document.getElementById("said").textContent = this.panels[this.active].says();
  }

  activate(panel) {
    this.active = this.panels.indexOf(panel);
    this.panels.forEach((one, n) => one.root.classList.toggle("active", n === this.active && this.panels.length > 1));
  }

  // A user points at a word or a key, or chooses it; panels with the same words or keys follow.
  point(panel, what, value, pinned) {
    if (!pinned && panel.hover[what] === value) return; // moved within the same patch
    if (pinned) {
      this.activate(panel);
      this.halt();
    }
    const released = pinned && what === "key" && panel.choice.key === value;
    for (const other of this.panels) {
      if (other !== panel && !alike(other.example, panel.example, what)) continue;
      if (pinned) other.choice[what] = released ? null : value;
      other.hover[what] = pinned ? null : value;
    }
    if (pinned) this.settle();
    else this.repaint();
  }

  // To another word by the keyboard; focus follows where a word had it.
  moveWord(panel, word) {
    const focused = panel.parts.words.contains(document.activeElement);
    this.point(panel, "word", word, true);
    if (focused) panel.parts.words.children[word].focus();
  }

  choose(panel, changes) {
    this.activate(panel);
    Object.assign(panel.choice, changes);
    if ("run" in changes) {
      panel.choice = fitting(panel.choice, panel.example, this.reading);
      panel.build();
      this.paintSettings();
    }
    this.settle();
  }

  release() {
    this.halt();
    for (const panel of this.panels) {
      panel.choice.key = null;
      panel.answer = null;
    }
    this.settle();
  }

  read(reading) {
    if (!hasBoth(this)) return;
    this.reading = reading;
    this.settle();
  }

  showExample(number) {
    const { runs } = this.data;
    if (!runs[0].examples[number]) return;
    this.example = number;
    const choices = this.panels.map(({ choice }) => {
      const example = runs[choice.run].examples[number];
      return fitting({ ...choice, word: null, key: null }, example, this.reading);
    });
    this.show(choices);
    this.settle();
  }

  // A second panel: the other run, or the layer before; or one panel again.
  split() {
    const [{ choice }] = this.panels;
    const other = { ...choice, layer: choice.layer > 0 ? choice.layer - 1 : choice.layer };
    if (this.data.runs.length > 1) {
      Object.assign(other, { run: 1 - choice.run, layer: choice.layer });
    }
    const example = this.data.runs[other.run].examples[this.example];
    this.show(this.panels.length > 1 ? [choice] : [choice, fitting(other, example, this.reading)]);
    this.settle();
  }

  // Generated words appear one after another, each with the map of its step.
  play() {
    if (this.until !== null) return this.stop();
    const steps = [...new Set(this.panels.flatMap(({ example }) =>
      example.words.map((_, word) => word).filter((word) => example.generated[word])))].sort((a, b) => a - b);
    if (!steps.length) return;
    if (hasBoth(this)) this.reading = "predicted";
    const step = () => {
      if (!steps.length) return this.stop();
      this.until = steps.shift();
      for (const panel of this.panels) panel.choice.word = Math.min(this.until, panel.example.words.length - 1);
      this.settle();
    };
    this.timer = setInterval(step, WRITING_MS);
    step();
  }

  stop() {
    this.halt();
    this.settle();
  }

  halt() {
    clearInterval(this.timer);
    this.until = null;
  }
}

// A frame in a notebook has no address of its own, and browsers limit how often it changes.
function keepAddress(text) {
  try {
    history.replaceState(null, "", `#${text}`);
  } catch {
    // The page works without.
  }
}

function listen(app) {
  const on = (id, event, action) => document.getElementById(id).addEventListener(event, action);
  const select = document.getElementById("example");
  app.data.runs[0].examples.forEach((example, n) => {
    const text = example.words.join(" ");
    const short = text.length > 60 ? `${text.slice(0, 60)}…` : text;
    select.append(element("option", { value: n }, `${n + 1}. ${short}`));
  });
  on("example", "change", () => app.showExample(Number(select.value)));
  on("previous", "click", () => app.showExample(app.example - 1));
  on("next", "click", () => app.showExample(app.example + 1));
  on("split", "click", () => app.split());
  on("play", "click", () => app.play());
  on("help-open", "click", () => document.getElementById("help").showModal());
  for (const button of document.querySelectorAll("#reading button")) {
    button.addEventListener("click", () => app.read(button.dataset.reading));
  }
  const set = (changes) => {
    Object.assign(app, changes);
    app.repaint();
  };
  on("opacity", "input", (event) => set({ opacity: event.target.value / 100 }));
  on("outline", "change", (event) => set({ outline: event.target.checked }));
  on("same", "change", (event) => set({ same: event.target.checked }));
  window.addEventListener("hashchange", () => fromAddress(app, location.hash.slice(1)));
  listenToKeys(app);
}

async function main() {
  if (!("DecompressionStream" in window)) {
    document.getElementById("panels").textContent = "This page needs a browser of 2023 or later.";
    return;
  }
  const data = JSON.parse(document.getElementById("data").textContent);
  await Promise.all(data.runs.flatMap((run) => run.examples.map(unpack)));
  const app = new App(data);
  listen(app);
  if (!fromAddress(app, location.hash.slice(1))) app.start();
  document.documentElement.dataset.ready = "true";
}

main();

// The map over a picture, a sound or tokens: drawing it, pointing at it, moving over it.

class Stage {
  // `report(key, pinned)` is told what the user points at (pinned: clicks); null is nothing.
  constructor(root, report) {
    this.report = report;
    for (const name of ["stage", "picture", "wave", "map", "outline", "cursor", "tokens", "axis"]) {
      this[name] = root.querySelector(`.${name}`);
    }
    this.stage.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") report(this.keyAt(event), false);
    });
    this.stage.addEventListener("pointerleave", () => report(null, false));
    this.stage.addEventListener("click", (event) => report(this.keyAt(event), true));
  }

  build(example, pictures) {
    this.example = example;
    const tokens = example.kind === "tokens", sound = example.kind === "sound";
    this.stage.hidden = tokens;
    this.tokens.hidden = !tokens;
    this.axis.hidden = !sound;
    this.wave.toggleAttribute("hidden", !example.wave);
    this.picture.hidden = example.picture === null;
    this.tokens.replaceChildren();
    if (tokens) return this.buildTokens();
    if (example.picture !== null) this.picture.src = pictures[example.picture];
    this.stage.classList.toggle("sound", sound);
    this.stage.classList.toggle("coarse", example.coarse);
    this.stage.style.setProperty("--aspect", sound ? "auto" : example.aspect);
    if (example.wave) this.drawWave();
    if (sound) {
      const [start, end] = this.axis.children;
      start.textContent = "0 s";
      end.textContent = `${Number(example.seconds.toFixed(2))} s`;
    }
  }

  buildTokens() {
    this.chips = this.example.tokens.map((token, key) => {
      const chip = element("button", { type: "button", class: "chip", dir: "auto" }, token);
      chip.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "mouse") this.report(key, false);
      });
      chip.addEventListener("pointerleave", () => this.report(null, false));
      chip.addEventListener("click", () => this.report(key, true));
      return chip;
    });
    this.tokens.append(...this.chips);
  }

  drawWave() {
    const wave = this.example.wave;
    const up = wave.map((loud, x) => `L${x} ${100 - loud}`).join("");
    const down = wave.map((loud, x) => `L${x} ${100 + loud}`).reverse().join("");
    this.wave.setAttribute("viewBox", `0 0 ${Math.max(1, wave.length - 1)} 200`);
    this.wave.firstElementChild.setAttribute("d", `M0 100${up}${down}Z`);
  }

  paint({ values, most, key, word, opacity, outline, covered, label }) {
    const region = outline ? this.example.regions[word] : null;
    if (this.example.kind === "tokens") return this.paintTokens(values, most, key, region, covered);
    // The lines of a spectrogram are thin.
    const least = this.example.kind === "sound" && this.example.picture !== null ? 0.1 : 0.6;
    paintMap(this.map, this.example.grid, values, most, opacity, covered, least);
    // Paler under the map, whose colours would mix with strong ones.
    this.picture.style.filter = values ? `saturate(${1 - 0.5 * opacity})` : "";
    this.drawOutline(region);
    this.drawCursor(key);
    this.stage.setAttribute("aria-label", label);
  }

  paintTokens(values, most, key, region, covered) {
    this.chips.forEach((chip, place) => {
      const share = values && most ? values[place] / most : 0;
      const [red, green, blue] = colour(share);
      chip.style.background = `rgb(${red} ${green} ${blue})`;
      chip.style.color = share > 0.45 ? "#000" : "#fff";
      chip.setAttribute("aria-pressed", place === key);
      chip.classList.toggle("covered", covered.includes(place));
      chip.classList.toggle("true", Boolean(region && region.keys.includes(place)));
      const weight = values ? `, weight ${number(values[place])}` : "";
      chip.setAttribute("aria-label", this.example.tokens[place] + weight);
    });
  }

  drawOutline(region) {
    this.outline.toggleAttribute("hidden", !region);
    if (!region) return;
    const [height, width] = region.size;
    this.outline.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const path = region.path || this.frames(region);
    for (const line of this.outline.children) line.setAttribute("d", path);
  }

  // Frames of sound that lie in a region are boxed.
  frames(region) {
    return region.keys.filter((_, n) => region.shares[n] >= 0.5)
      .map((key) => `M${key} 0h1M${key} 1h1` +
        (region.keys.includes(key - 1) ? "" : `M${key} 0v1`) +
        (region.keys.includes(key + 1) ? "" : `M${key + 1} 0v1`)).join("");
  }

  drawCursor(key) {
    this.cursor.hidden = key === null;
    if (key === null) return;
    const [rows, columns] = this.example.grid;
    const length = (part, of) => `${(100 * part) / of}%`;
    this.cursor.style.left = length(key % columns, columns);
    this.cursor.style.top = length(Math.floor(key / columns), rows);
    this.cursor.style.width = length(1, columns);
    this.cursor.style.height = length(1, rows);
  }

  keyAt(event) {
    const [rows, columns] = this.example.grid;
    const box = this.stage.getBoundingClientRect();
    const place = (at, length, count) =>
      Math.min(Math.max(Math.floor((at / length) * count), 0), count - 1);
    const row = place(event.clientY - box.top, box.height, rows);
    return row * columns + place(event.clientX - box.left, box.width, columns);
  }

  // The key beside one, by an arrow; null where the arrow leads out.
  neighbour(key, arrow) {
    const [rows, columns] = this.example.grid;
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[arrow];
    const row = Math.floor(key / columns) + down, column = (key % columns) + right;
    return row < 0 || row >= rows || column < 0 || column >= columns ? null : row * columns + column;
  }
}

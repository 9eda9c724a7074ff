// Keys: words, heads, layers, examples; over the map, patches.

const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

function listenToKeys(app) {
  document.addEventListener("keydown", (event) => {
    const busy = event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open;
    if (busy || event.target.matches("select, input[type=range]")) return;
    const panel = app.panels[app.active];
    if (event.target === panel.stage.stage && ARROWS.includes(event.key)) movePatch(app, panel, event.key);
    else if (!act(app, panel, event.key)) return;
    event.preventDefault();
  });
}

function movePatch(app, panel, arrow) {
  const { values, choice } = panel;
  const from = choice.key ?? (values ? ranked(values, 1)[0] : 0);
  const to = choice.key === null ? from : panel.stage.neighbour(from, arrow);
  if (to !== null) app.point(panel, "key", to, true);
}

// Does what a key means; false where it means nothing.
function act(app, panel, key) {
  const [L, H] = panel.example.shape;
  const last = panel.example.words.length - 1;
  const word = (to) => app.moveWord(panel, Math.min(Math.max(to, 0), last));
  const actions = {
    ArrowLeft: () => word(panel.choice.word - 1),
    ArrowRight: () => word(panel.choice.word + 1),
    Home: () => word(0),
    End: () => word(last),
    ArrowUp: () => app.choose(panel, { head: stepped(panel.choice.head, -1, H) }),
    ArrowDown: () => app.choose(panel, { head: stepped(panel.choice.head, 1, H) }),
    "[": () => app.choose(panel, { layer: stepped(panel.choice.layer, -1, L) }),
    "]": () => app.choose(panel, { layer: stepped(panel.choice.layer, 1, L) }),
    p: () => app.showExample(app.example - 1),
    n: () => app.showExample(app.example + 1),
    r: () => app.read(app.reading === "consumed" ? "predicted" : "consumed"),
    s: () => app.split(),
    o: () => document.getElementById("outline").click(),
    g: () => app.play(),
    Escape: () => app.release(),
    "?": () => document.getElementById("help").showModal(),
  };
  if (!Object.hasOwn(actions, key)) return false;
  actions[key]();
  return true;
}

// The mean comes before the first one, where there is more than one.
function stepped(value, by, count) {
  const least = count > 1 ? MEAN : 0;
  return Math.min(Math.max(value + by, least), count - 1);
}

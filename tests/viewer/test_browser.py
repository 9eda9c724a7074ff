"""The page in a real browser: every number that it shows is the given weight."""

import numpy as np
import pytest

from crossattn.viewer import Answer, Example, explore
from tests.viewer.browser import Reader, start_browser
from tests.viewer.examples import WORDS, scene, weights_of
from tests.viewer.test_page import HOSTILE, hostile

GRID = (6, 6)
TINY = 1 / 255


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    driver = start_browser(folder / "profile")
    try:
        yield Reader(driver, folder)
    finally:
        driver.quit()


def assert_shown(reader, weights, panel=0):
    """The table has the largest of these weights over the patches (S,), in their order."""
    shown = reader.weights(panel)
    best = np.argsort(-weights, kind="stable")[: len(shown)]
    assert len(shown) == 6
    np.testing.assert_allclose(list(shown.values()), weights[best], atol=TINY)
    for (row, column), weight in shown.items():
        assert abs(weights[row * GRID[1] + column] - weight) <= TINY
    pixels = np.array(reader.map_pixels(panel)).reshape(-1, 4)
    brightest = pixels[:, 1].argmax()  # viridis: the larger, the more green
    assert weights[brightest] >= weights.max() - TINY


def test_words_layers_and_heads_by_the_pointer(reader):
    example = scene()
    reader.requests(), reader.complaints()
    reader.open(explore([example]))
    for place in (0, 3, 6):
        reader.word(place).click()
        assert f"“{WORDS[place]}”" in reader.text(".top caption")
        assert_shown(reader, example.weights[-1].mean(0)[place])
    # Layers and heads count from 0, as in arrays.
    assert [thumb.text for thumb in reader.all(".thumb")] == ["mean", *map(str, range(8))]
    layers = "return [...document.querySelector('select.layer').options].map(o => o.text)"
    assert reader.js(layers) == ["mean of 4", "0", "1", "2", "3"]
    reader.all(".thumb")[3].click()  # after the mean: head 2
    assert_shown(reader, example.weights[-1, 2, 6])
    reader.choose("layer", 1)
    assert_shown(reader, example.weights[1, 2, 6])
    reader.choose("layer", -1)
    assert_shown(reader, example.weights[:, 2, 6].mean(0))
    assert float(reader.text(".most")) == pytest.approx(
        example.weights[:, 2, 6].mean(0).max(), abs=TINY
    )
    # Pointing shows a word for a moment.
    reader.actions().move_to_element(reader.word(1)).perform()
    assert_shown(reader, example.weights[:, 2, 1].mean(0))
    reader.actions().move_to_element(reader.one("h1")).perform()
    assert_shown(reader, example.weights[:, 2, 6].mean(0))
    inside = example.weights[:, 2, 6].mean(0).reshape(GRID)[1:3, 2:5] @ [1, 1, 0.5]
    percent = int(reader.text(".inside").split(" %")[0])
    assert percent == pytest.approx(100 * inside.sum(), abs=0.51 + 100 * TINY)
    # Nothing but the file itself was asked for, and nothing went wrong.
    asked = [url for url in reader.requests() if not url.startswith(("data:", "about:", "chrome"))]
    assert asked
    assert all(url.startswith("file:///") and url.endswith(".html") for url in asked)
    loaded = reader.js("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert reader.complaints() == []


def test_a_network_is_forbidden(reader):
    reader.open(explore([scene()]))
    refused = reader.driver.execute_async_script(
        "const done = arguments[0], found = [];"
        "document.addEventListener('securitypolicyviolation', (event) => {"
        "  found.push(event.effectiveDirective);"
        "  if (found.length === 3) done(found.sort());"
        "});"
        "fetch('http://127.0.0.1:9/').catch(() => null);"
        "new Image().src = 'http://127.0.0.1:9/x.png';"
        "const script = document.createElement('script');"
        "script.textContent = 'window.hacked = 1';"
        "document.body.append(script);"
    )
    assert refused == ["connect-src", "img-src", "script-src-elem"]
    assert reader.js("return window.hacked") is None
    reader.complaints()


def test_the_other_direction(reader):
    example = scene()
    reader.open(explore([example]))
    weights = example.weights[-1].mean(0)[:, 2 * 6 + 3]
    reader.click_patch(2, 3, GRID)
    assert reader.text(".lookers caption") == "Who looks at row 3, column 4"
    order = np.argsort(-weights)[:6]
    shown = reader.table("lookers")
    assert [word for _, word, _ in shown] == [WORDS[n] for n in order]
    np.testing.assert_allclose([float(w) for *_, w in shown], weights[order], atol=TINY)
    tints = reader.js(
        "return [...document.querySelectorAll('.words .chip')]"
        ".map((chip) => parseFloat(chip.style.getPropertyValue('--tint')))"
    )
    np.testing.assert_allclose(tints, 75 * weights / weights.max(), atol=1.5)
    assert f"rank {1 + (example.weights[-1].mean(0)[4] > weights[4]).sum()} of 36" in reader.text(
        ".here"
    )
    reader.click_patch(2, 3, GRID)
    assert reader.table("lookers") == []
    # Pointing is enough, and is forgotten.
    reader.at_patch(0, 5, GRID).perform()
    assert reader.text(".lookers caption") == "Who looks at row 1, column 6"
    reader.actions().move_to_element(reader.one("h1")).perform()
    assert reader.table("lookers") == []


def test_everything_by_the_keyboard(reader):
    from selenium.webdriver.common.keys import Keys

    examples = [scene(0), scene(1)]
    reader.open(explore(examples))
    weights = examples[0].weights
    reader.press(Keys.HOME, Keys.ARROW_RIGHT)
    assert_shown(reader, weights[-1].mean(0)[1])
    reader.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, "[")
    assert_shown(reader, weights[-2, 1, 1])
    assert "“colour” at row" in reader.text("#said")
    reader.press("]", Keys.ARROW_UP, Keys.END)
    assert_shown(reader, weights[-1, 0, 6])
    reader.press("n")
    assert reader.js("return document.getElementById('example').value") == "1"
    reader.press(Keys.HOME)
    assert_shown(reader, examples[1].weights[-1, 0, 0])
    reader.press("p", "?")
    assert reader.js("return document.getElementById('help').open")
    reader.press(Keys.ESCAPE)
    # Over the map arrows move from the most attended patch.
    reader.js("document.querySelector('.stage').focus()")
    reader.press(Keys.ARROW_LEFT)
    best = int(weights[-1, 0, 4].argmax())
    assert (
        reader.text(".lookers caption")
        == f"Who looks at row {best // 6 + 1}, column {best % 6 + 1}"
    )
    step, there = (Keys.ARROW_DOWN, best + 6) if best < 30 else (Keys.ARROW_UP, best - 6)
    reader.press(step)
    assert (
        reader.text(".lookers caption")
        == f"Who looks at row {there // 6 + 1}, column {there % 6 + 1}"
    )
    reader.press(Keys.ESCAPE)
    assert reader.table("lookers") == []
    # Focus stays with words, of which Tab finds one.
    reader.word(4).click()
    reader.press(Keys.ARROW_RIGHT)
    assert reader.js("return document.activeElement.textContent") == WORDS[5]
    assert [c.get_attribute("tabindex") for c in reader.all(".words .chip")].count("0") == 1


@pytest.mark.slow
def test_the_address_keeps_what_is_chosen(reader):
    example = scene()
    reader.open(explore([scene(1), example]), "#example=2&word=2&layer=2&head=mean&key=5")
    assert_shown(reader, example.weights[2].mean(0)[1])
    assert reader.text(".lookers caption") == "Who looks at row 1, column 5"
    reader.word(6).click()
    reader.driver.refresh()
    reader.wait_until_ready()
    assert_shown(reader, example.weights[2].mean(0)[6])
    reader.open(
        explore([example]), "#example=1&word=99&layer=x&head=-4&key=1e9&run=7&layer2=&__proto__=1"
    )
    assert_shown(reader, example.weights[-1].mean(0)[4])
    assert reader.complaints() == []


@pytest.mark.slow
def test_the_position_that_read_a_word_or_predicted_it(reader):
    example = scene(readings="both", generated=[False] * 6 + [True])
    rows = example.weights[-1].mean(0)
    reader.open(explore([example]))
    consumed, predicted = reader.all("#reading button")
    reader.word(6).click()
    assert_shown(reader, rows[5])  # the model wrote words: first, who predicted them
    consumed.click()
    assert_shown(reader, rows[6])
    predicted.click()
    reader.word(0).click()
    assert reader.text(".here") == "Nothing predicts “what”, the first word."
    assert reader.table("top") == []
    reader.one("#play").click()
    assert reader.text("#play") == "■ Stop"
    assert_shown(reader, rows[5])
    reader.one("#play").click()
    assert reader.complaints() == []


def test_two_runs_and_two_layers_beside_each_other(reader):
    first, second = scene(0), scene(1)
    reader.open(explore([first], compare=[second], names=("plain", "gated")))
    assert [select.text for select in reader.all("select.run")] == ["plain\ngated"] * 2
    reader.word(2, panel=1).click()
    for panel, example in enumerate((first, second)):
        assert_shown(reader, example.weights[-1].mean(0)[2], panel)
    most = max(example.weights[-1].mean(0)[2].max() for example in (first, second))
    for shown in reader.all(".most"):
        assert float(shown.text) == pytest.approx(most, abs=TINY)
    reader.one("#same").click()
    assert float(reader.all(".most")[1].text) == pytest.approx(
        second.weights[-1].mean(0)[2].max(), abs=TINY
    )
    reader.press("s")
    assert len(reader.all(".panel")) == 1
    reader.open(explore([first]))
    reader.press("s")
    reader.word(3).click()
    assert_shown(reader, first.weights[3].mean(0)[3], 0)
    assert_shown(reader, first.weights[2].mean(0)[3], 1)


def test_knock_outs_cover_what_was_hidden(reader):
    example = scene()
    reader.open(explore([example]))
    assert reader.table("answers") == [
        ["nothing", "red", "0.940"],
        ["the true region", "blue", "0.310"],
        ["a random region", "red", "0.920"],
    ]
    reader.all(".answers button")[1].click()
    grey = (np.array(reader.map_pixels()).reshape(-1, 4)[:, :3] == 128).all(-1)
    np.testing.assert_array_equal(grey, example.answers[1].keys)
    reader.all(".answers button")[1].click()
    assert not (np.array(reader.map_pixels()).reshape(-1, 4)[:, :3] == 128).all(-1).any()


def test_knock_outs_of_several_words(reader):
    told = [
        Answer("nothing", "red", 0.9, position=6),
        Answer("the ring", "blue", 0.4, position=6),
        Answer("nothing", "ring", 0.7, position=4),
    ]
    example = scene(answers=told)
    reader.open(explore([example]))
    assert "“red”" in reader.text(".top caption")  # the word that is answered comes first
    assert [row[0] for row in reader.table("answers")] == ["red", "", "ring"]
    assert [cell.text for cell in reader.all(".changed")] == ["blue"]
    reader.all(".answers button")[2].click()
    assert_shown(reader, example.weights[-1].mean(0)[4])


def test_a_word_that_looks_nowhere(reader):
    reader.open(explore(None, ["a", "b"], [[0, 0, 0, 0], [0.25, 0.25, 0.5, 0]]))
    assert reader.text(".here") == "“a” looks nowhere: all its weights are 0."
    assert reader.table("top") == []
    reader.word(1).click()
    ranks = [(rank, weight) for rank, _, weight in reader.table("top")]
    assert ranks == [("1", "0.500"), ("2", "0.251"), ("2", "0.251")]  # in 8 bits: 128 / 255 of 0.5
    assert reader.complaints() == []


@pytest.mark.slow
def test_sound_and_tokens(reader):
    weights = weights_of(0, 2, 3, 50)
    sound = Example(list("abc"), weights, seconds=2.0, waveform=np.sin(np.arange(3000)))
    names = ["<b>bold</b>", *map(str, range(49))]
    words = Example(list("abc"), weights, tokens=names, regions=np.eye(3, 50))
    reader.open(explore([sound, words]))
    reader.press("n")
    reader.press("p")
    mean = weights.mean(0)[0]
    best = int(mean.argmax())
    rank, frame, weight = reader.table("top")[0]
    assert (rank, frame) == ("1", f"{best * 0.04:.2f} to {(best + 1) * 0.04:.2f} s")
    assert float(weight) == pytest.approx(mean[best], abs=TINY)
    reader.press("n")
    chips = reader.all(".tokens .chip")
    assert chips[0].text == "<b>bold</b>"
    chips[7].click()
    assert reader.text(".lookers caption") == "Who looks at “6” (8)"
    assert reader.table("top")[0][3] in ("0 %", "100 %")
    assert reader.complaints() == []


def test_hostile_texts_do_nothing(reader):
    reader.open(explore([hostile()], title=HOSTILE[0]))
    for place in range(len(HOSTILE)):
        reader.word(place).click()
    assert reader.js("return window.hacked") is None
    assert reader.word(1).text == HOSTILE[1]
    assert reader.text("h1") == HOSTILE[0]
    assert reader.text(".answers tbody button") == HOSTILE[0]
    assert len(reader.all("#panels img, #panels script")) == 1  # the picture
    assert reader.complaints() == []


def test_in_a_cell_of_a_notebook(reader, tmp_path):
    example = scene()
    (tmp_path / "cell.html").write_text(explore([example])._repr_html_(), "utf-8")
    reader.driver.get((tmp_path / "cell.html").as_uri())
    reader.driver.switch_to.frame(reader.one("iframe"))
    try:
        reader.wait_until_ready()
        reader.word(2).click()
        assert_shown(reader, example.weights[-1].mean(0)[2])
    finally:
        reader.driver.switch_to.default_content()
    assert reader.complaints() == []


@pytest.mark.slow
def test_on_a_telephone(reader):
    words = [*WORDS, "a-very-long-word-" * 9]
    examples = [scene(words=words), scene(1, words=words)]
    with reader.telephone():
        reader.open(explore(examples, compare=examples[::-1], title="t" * 90))
        assert reader.js("return innerWidth") == 390
        assert reader.js("return document.documentElement.scrollWidth") <= 390
        boxes = reader.js(
            "return [...document.querySelectorAll('button, select')].filter((e) => e.offsetParent)"
            ".map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.right, b.height])"
        )
        assert all(left >= 0 and right <= 390 and height >= 24 for left, right, height in boxes)
        reader.word(2).click()
        assert_shown(reader, examples[0].weights[-1].mean(0)[2])


@pytest.mark.slow
def test_everything_has_a_name_for_those_who_hear_the_page(reader):
    reader.open(explore([scene(readings="both", generated=True)]))
    nameless = reader.js(
        "return [...document.querySelectorAll('button, select, input, [tabindex]')]"
        ".filter((e) => !e.getAttribute('aria-label') && !e.textContent.trim())"
        ".filter((e) => !e.closest('label'))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []
    chip = reader.word(4)
    assert chip.get_attribute("aria-label") == "ring, written by the model, true region known"
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    assert "“ring” at row" in reader.text("#said")
    assert "weight" in reader.one(".stage").get_attribute("aria-label")

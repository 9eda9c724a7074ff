"""Nothing of a report is cut off, on a desk and on a telephone, by day and at night."""

import pytest

from crossattn.report.document import write_report
from crossattn.report.figures.style import ReportFigure, png
from crossattn.report.render.blocks import FigureBlock, Heading, TableBlock, TextBlock
from crossattn.report.render.html_page import to_html
from crossattn.report.suites import suite_blocks
from tests.support.made_up import ALL_CLAIMS
from tests.viewer.browser import start_browser

WORD = "encoder_decoder_pre." * 20
# What reaches beyond the page, but for what scrolls by itself.
OUTSIDE = """
const page = document.documentElement, found = [];
if (page.scrollWidth > page.clientWidth) found.push(`page of ${page.scrollWidth}`);
for (const box of document.querySelectorAll('main *')) {
  if (box.closest('.scroll table, pre')) continue;
  const {left, right} = box.getBoundingClientRect();
  if (right > page.clientWidth + 1 || left < -1) found.push(box.tagName + ' ' + right);
}
return found;
"""
UNREACHED = """
return [...document.querySelectorAll('.scroll')].filter((box) =>
  box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== 'auto').length;
"""
WIDE = """
return [...document.querySelectorAll('.scroll')].map((box) => box.scrollWidth > box.clientWidth);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start_browser(tmp_path_factory.mktemp("browser"))
    yield driver
    driver.quit()


def seen(browser, path, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())
    assert browser.execute_script("return innerWidth") == width
    return browser.execute_script(OUTSIDE)


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_of_a_report_is_cut_off(browser, width, headline, tmp_path, undrawn):
    write_report(headline, tmp_path, title="eight ways", claims=ALL_CLAIMS, command=WORD)
    assert seen(browser, tmp_path / "report.html", width) == []
    assert browser.execute_script(UNREACHED) == 0
    assert browser.execute_script("return document.querySelectorAll('.scroll').length") > 5


def test_suites_side_by_side_need_no_scrolling_on_a_desk(browser, headline, tmp_path, undrawn):
    told = {"title": "how are words and image joined?", "claims": ALL_CLAIMS}
    path = tmp_path / "suites.html"
    path.write_text(to_html(suite_blocks({name: {**headline, **told} for name in ("a", "b", "c")})))
    assert seen(browser, path, 1280) == []
    assert browser.execute_script(WIDE)[:3] == [False] * 3
    many = ", ".join(f"every-{n}-layers" for n in range(9))
    row = ["placement", many, "pairs/accuracy", "cross-attention", *[many] * 3, "2 supported"]
    path.write_text(to_html([TableBlock("suites", "so", (["column"] * len(row), [row]))]))
    assert seen(browser, path, 1280) == []
    assert browser.execute_script(WIDE) == [False]


@pytest.mark.parametrize("width", [1280, 390])
def test_long_names_are_broken(browser, width, tmp_path):
    blocks = [
        *(Heading(WORD, 1), Heading(WORD), TextBlock(f"{WORD}\n\n- {WORD}\n\n`{WORD}`")),
        FigureBlock("a", WORD, png(ReportFigure(1.0))),
        TableBlock("b", WORD, ([WORD] * 4, [[WORD] * 4])),
    ]
    path = tmp_path / "long.html"
    path.write_text(to_html(blocks))
    assert seen(browser, path, width) == []
    shown = browser.execute_script("return document.querySelector('img').naturalWidth")
    assert shown == 930  # a picture, of which the width is known


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_by_day_and_at_night(browser, scheme, tmp_path):
    path = tmp_path / "scheme.html"
    path.write_text(to_html([Heading("a", 1), TableBlock("b", "so", (["a"], [["b"], ["c"]]))]))
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(path.as_uri())
    colours = browser.execute_script(
        "return [...document.querySelectorAll('tbody th')].map((cell) => {"
        "const own = getComputedStyle(cell); return [own.color, own.backgroundColor]; })"
    )
    for ink, paper in colours:
        light, dark = (sum(map(int, c.strip("rgb()").split(","))) / 3 for c in (paper, ink))
        assert abs(light - dark) > 150
        assert (light > dark) == (scheme == "light")

"""Fixtures of the report's tests."""

import pytest

from crossattn.report import prose
from crossattn.report.render.blocks import FigureBlock
from tests.support.made_up import ALL_LEVELS, make_all, make_curves, make_gallery, make_results

# The head of a PNG, 930 x 600: all that a page reads of it.
BLANK = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x03\xa2\0\0\x02\x58"


@pytest.fixture(scope="session")
def suite():
    return make_results()


@pytest.fixture(scope="session")
def curves():
    return make_curves()


@pytest.fixture(scope="session")
def shown():
    return make_gallery()


@pytest.fixture(scope="session")
def headline():
    """Results of the whole headline suite: eight variants."""
    return make_all()[0]


@pytest.fixture(scope="session")
def headline_curves():
    return make_curves(levels=ALL_LEVELS)


@pytest.fixture
def blank(monkeypatch):
    """Figures are made but not painted."""
    for name in ("drawing", "sections"):
        monkeypatch.setattr(f"crossattn.report.{name}.png", lambda figure: BLANK)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are not even made, for reports of which only the words matter."""
    pictures = {
        name: [FigureBlock(name, text, BLANK + name.encode())]
        for name, text in prose.FIGURES.items()
    }
    monkeypatch.setattr("crossattn.report.document.figure_blocks", lambda *_: pictures)

"""The page as a file: what it holds, how large it is, and that nothing in it can act."""

import base64
import html
import json
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from crossattn.viewer import Answer, Example, explore
from crossattn.viewer.encode import data_uri
from crossattn.viewer.outlines import covered_shares, outline_path
from tests.viewer.examples import picture, scene, weights_of

HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "\"' onclick=alert(1) \u2028\u2029 ]]> <!-- \x1b[31m \u202e",
    "{{data}} {{script}} \\u003c &lt;b&gt;",
    " ",
    "\ud800",
    "größe 猫 ❤️",
)


def content(page):
    """What the page's script reads."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.html)
    return json.loads(found)


def unpacked(example):
    """Weights as the page has them, by our own reading of the format."""
    L, H, T, S = example["shape"]
    data = zlib.decompress(base64.b64decode(example["weights"]))
    levels = np.frombuffer(data[: L * H * T * S], np.uint8).reshape(L, H, T, S)
    return levels / 255 * np.frombuffer(data[L * H * T * S :], "<f4").reshape(L, H, T, 1)


@pytest.mark.parametrize("S", [1, 36, 1500])
def test_weights_are_kept_to_a_share_of_their_rows_largest(S):
    weights = weights_of(1, 2, 3, 5, S)
    weights[0, 0, 0] = 0
    page = explore(None, list("abcde"), weights, grid=(1, S))
    kept = unpacked(content(page)["runs"][0]["examples"][0])
    assert (np.abs(kept - weights) <= weights.max(-1, keepdims=True) / 510 + 1e-7).all()
    assert np.abs(kept - weights).max() <= 1 / 255


def test_eight_examples_of_four_layers_and_eight_heads_fit_in_2_MB():
    words = [f"word{n}" for n in range(24)]
    examples = [
        scene(seed, words=words, grid=(14, 14), size=224, answers=(), readings="both")
        for seed in range(8)
    ]
    page = explore(examples)
    assert len(page.html.encode()) <= 2_000_000
    assert repr(page) == f"Page(8 examples, 4 layers x 8 heads, {len(page.html) / 1e6:.2f} MB)"


def test_one_picture_of_several_examples_is_there_once():
    same = {"image": picture(3)}
    found = content(explore([scene(0, **same), scene(1, **same)], compare=[scene(2), scene(3)]))
    assert [example["picture"] for run in found["runs"] for example in run["examples"]] == [
        0,
        0,
        1,
        0,
    ]
    assert len(found["pictures"]) == 2


def test_photographs_are_small():
    noise = np.random.default_rng(0).integers(0, 256, (800, 700, 3), np.uint8)
    assert data_uri(noise).startswith("data:image/jpeg")
    assert len(data_uri(noise)) < 500_000


class Elements(HTMLParser):
    """Tags and attributes as a browser finds them."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def hostile():
    T = len(HOSTILE)
    return Example(
        HOSTILE,
        weights_of(0, T, 9),
        image=picture(0),
        caption=HOSTILE[0],
        answers=[Answer(HOSTILE[0], HOSTILE[1], 0.5)],
    )


def test_hostile_texts_stay_texts():
    plain, attacked = explore([scene()]), explore([hostile()], title=HOSTILE[0], names=[HOSTILE[1]])
    tags = [[tag for tag, _ in Elements(page.html).found] for page in (plain, attacked)]
    assert tags[0] == tags[1]
    example = content(attacked)["runs"][0]["examples"][0]
    assert example["words"][:2] == list(HOSTILE[:2])
    assert example["words"][2:6] == [
        "\"' onclick=alert(1) \\u2028\\u2029 ]]> <!-- \\x1b[31m \\u202e",
        *(HOSTILE[3], "␣", "\\ud800"),
    ]
    assert attacked.html.encode()  # lone surrogates are escaped


def test_spaces_of_other_scripts_stay():
    words = ["10\xa0kg", "猫\u3000犬", "\u0601"]
    page = explore(Example(words, np.full((3, 4), 0.25), caption=words[1]), title=words[0])
    (example,) = content(page)["runs"][0]["examples"]
    assert [*example["words"], example["caption"]] == [*words, words[1]]
    assert f"<h1>{words[0]}</h1>" in page.html


def test_everything_that_acts_is_named_by_its_hash():
    import hashlib

    text = explore([hostile()]).html
    policy = next(
        attrs["content"]
        for tag, attrs in Elements(text).found
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    handlers = [attrs for _, attrs in Elements(text).found for name in attrs if name[:2] == "on"]
    assert handlers == []
    assert "innerHTML" not in text
    links = [
        value
        for _, attrs in Elements(text).found
        for name, value in attrs.items()
        if name in ("src", "href")
    ]
    assert links == ["data:,"]


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    page = explore([hostile()])
    ((tag, attrs),) = Elements(page._repr_html_()).found
    assert tag == "iframe"
    assert attrs["srcdoc"] == page.html
    assert attrs["sandbox"] == "allow-scripts"
    assert html.unescape(page._repr_html_()).count("<!DOCTYPE html>") == 1
    assert len(repr(page)) < 80


def test_saved_as_a_whole(tmp_path):
    page = explore([scene()])
    page.save(tmp_path / "words.html")
    assert (tmp_path / "words.html").read_text("utf-8") == page.html


def test_regions_of_pixels_and_of_shares():
    found = content(explore([scene()]))["runs"][0]["examples"][0]["regions"]
    assert [region is not None for region in found] == [False] * 4 + [True, False, True]
    # Rows 8 to 24 and columns 16 to 36 of patches of 8 pixels: half of the last column.
    assert found[4]["keys"] == [8, 9, 10, 14, 15, 16]
    assert found[4]["shares"] == [1, 1, 0.5] * 2
    shares = np.zeros((2, 4))
    shares[1, 2] = 0.25
    found = content(explore(None, ["a", "b"], np.full((2, 4), 0.25), regions=shares))
    (nothing, region) = found["runs"][0]["examples"][0]["regions"]
    assert nothing is None
    assert region["path"] == outline_path(np.array([[0, 0], [1, 0]], bool))[2]


def test_regions_of_a_long_sound_are_of_its_frames():
    """Their outline is drawn by the page, in frames, also where there are many."""
    shares = np.zeros((1, 900))
    shares[0, 700:720] = 1
    sound = Example(["a"], np.full((1, 900), 1e-3), seconds=18.0, regions=shares, region_name="x")
    (encoded,) = content(explore([sound]))["runs"][0]["examples"]
    (region,) = encoded["regions"]
    assert (region["size"], region["path"], region["keys"][0]) == ([1, 900], "", 700)
    assert encoded["regionName"] == "x"


def test_outlines_close_around_every_pixel():
    mask = np.random.default_rng(0).random((23, 31)) < 0.4
    lengths = [int(n) for n in re.findall(r"[hv](\d+)", outline_path(mask)[2])]
    framed = np.pad(mask, 1)
    assert sum(lengths) == sum(
        (np.diff(framed.astype(int), axis=axis) != 0).sum() for axis in (0, 1)
    )
    assert outline_path(np.ones((1000, 500), bool)) == (
        250,
        125,
        "M0 0h125M0 250h125M0 0v250M125 0v250",
    )


def test_small_regions_of_large_pictures_have_an_outline():
    mask = np.zeros((1001, 500), bool)
    mask[[5, 1000], [7, 499]] = True
    assert outline_path(mask) == (
        251,
        125,
        "M1 1h1M1 2h1M124 250h1M124 251h1M1 1v1M2 1v1M124 250v1M125 250v1",
    )


def test_shares_of_patches_that_cut_pixels_add_up():
    mask = np.random.default_rng(0).random((10, 13)) < 0.4
    shares = covered_shares(mask, (3, 4))
    np.testing.assert_allclose(shares.mean(), mask.mean(), rtol=1e-5)

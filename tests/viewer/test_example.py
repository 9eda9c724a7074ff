"""What an example takes, and what it refuses in one line."""

import numpy as np
import pytest

from crossattn.viewer import Answer, Example, explore
from tests.viewer.examples import scene, weights_of

EVEN = np.full((2, 9), 1 / 9)


def test_axes_are_added():
    for shape in ((2, 9), (3, 2, 9), (5, 3, 2, 9)):
        given = weights_of(0, *shape)
        kept = Example(["a", "b"], given).weights
        assert kept.shape == (1,) * (4 - len(shape)) + shape
        np.testing.assert_allclose(kept.reshape(shape), given, rtol=1e-6)


def test_arrays_of_jax_and_half_precision(unchecked):
    import jax.numpy as jnp

    kept = Example(["a", "b"], jnp.asarray(EVEN, jnp.bfloat16)).weights
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept, 1 / 9, rtol=4e-3)


def test_pictures_are_bytes_in_colour():
    floats = np.linspace(0, 1, 12).reshape(2, 2, 3)
    assert Example(["a", "b"], EVEN, image=floats).image.ravel()[-1] == 255
    grey = Example(["a", "b"], EVEN, image=np.full((4, 6), 7, np.uint8)).image
    assert grey.shape == (4, 6, 3)
    assert (grey == 7).all()


def test_grids():
    assert Example(["a", "b"], EVEN).grid == (3, 3)
    assert Example(["a", "b"], np.full((2, 8), 0.1), grid=(2, 4)).grid == (2, 4)
    assert Example(["a", "b"], np.full((2, 8), 0.1), tokens=list("abcdefgh")).kind == "tokens"
    assert Example(["a", "b"], np.full((2, 8), 0.1), seconds=2.0).kind == "sound"
    spectrogram = Example(["a", "b"], np.full((2, 8), 0.1), seconds=2.0, image=np.zeros((4, 16)))
    assert (spectrogram.kind, spectrogram.grid) == ("sound", (1, 8))


def changed(weights=EVEN, words=("a", "b"), **fields):
    return lambda: Example(words, weights, **fields)


WRONG = EVEN.copy()
WRONG[1, 3] = np.nan
PICTURE = np.zeros((6, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (changed(WRONG), r"weights must be finite, got nan at \(1, 3\)"),
        (changed(EVEN - 0.2), "not be negative, got -0.08.*: are they logits"),
        (changed(EVEN * 2), "add up to at most 1 over the last axis, got 2"),
        (changed(EVEN[0]), r"weights must be \(T, S\), \(H, T, S\)"),
        (changed(EVEN[:, :0]), "none of them 0"),
        (changed([["x", "y"]]), "weights must be an array of numbers"),
        (changed([["0", "1"]] * 2), "weights must be an array of numbers"),
        (changed(EVEN * 1j), "weights must be an array of numbers"),
        (changed(words=["a"]), r"1 words need weights \(\.\.\., 1, S\), got 2 rows"),
        (changed(words="ab"), "words must be a list of texts"),
        (changed(words=["a", 3]), "words must be a list of texts"),
        (changed(words=["a", "b", "c"], readings="consumed"), "3 words need"),
        (changed(readings="red"), 'readings must be "", "consumed"'),
        (changed(np.full((2, 7), 0.1)), "7 keys are no square of patches: give grid="),
        (changed(np.full((2, 17), 0.05)), r"weights\[\.\.\., 1:\]"),
        (changed(grid=(2, 4)), r"rows \* columns = 9 patches, got \(2, 4\)"),
        (changed(image=np.zeros((6, 6, 4), np.uint8)), r"image must be \(h, w, 3\)"),
        (changed(image=np.full((6, 6), 3.5)), r"numbers in 0\.\.1, got 3.5 to 3.5"),
        (changed(image=PICTURE, tokens=list("abcdefghi")), "give one of them"),
        (changed(seconds=1.0, tokens=list("abcdefghi")), "give tokens or seconds"),
        (changed(tokens=["x"]), "weights of 9 keys need 9 tokens, got 1"),
        (changed(seconds=-1.0), "seconds must be the length"),
        (changed(waveform=np.zeros(5)), "needs its length"),
        (changed(waveform=np.zeros((5, 2)), seconds=1.0), "samples"),
        (changed(image=PICTURE, regions=np.zeros((2, 5, 6), bool)), r"must be \(2, 6, 6\)"),
        (changed(regions=np.full((2, 6, 6), 0.2)), "booleans, or 0 and 1, got 0.2"),
        (changed(regions=np.full((2, 6, 6), np.nan)), "booleans, or 0 and 1, got nan"),
        (changed(regions=np.zeros((2, 4))), r"must be shares \(2, 9\), got \(2, 4\)"),
        (changed(regions=np.full((2, 9), 1.5)), r"shares in 0\.\.1"),
        (changed(generated=[True]), "each of 2 words, got 1"),
        (changed(answers=[Answer("x", "y", 0.5, keys=[True])]), r"must be \(9,\), got \(1,\)"),
        (changed(answers=[Answer("x", "y", 0.5, position=2)]), "position is one of 2, got 2"),
        (lambda: Answer("x", "y", 1.5), r"lies in 0\.\.1, got 1.5"),
        (lambda: explore([]), "one or more of Example"),
        (lambda: explore(PICTURE, ["a", "b"]), "explore\\(image, words, weights\\), or"),
        (lambda: explore([scene()], compare=[scene()] * 2), "1 examples are compared with 2"),
        (lambda: explore([scene()], compare=[scene()], names=["one"]), "names must be 2"),
        (lambda: explore([scene()], names=[0]), r"names must be 1 text.* got \[0\]"),
    ],
)
def test_refusals_are_one_line(make, said, unchecked):
    with pytest.raises(ValueError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_rounding_of_half_precision_is_no_error():
    Example(["a", "b"], EVEN.astype(np.float16) * 1.004)


def test_a_causal_decoder_may_lack_its_last_position():
    assert Example(["a", "b", "c"], EVEN, readings="both").weights.shape == (1, 1, 2, 9)

import dataclasses

import numpy as np
import pytest

from crossattn.data import scenes


@pytest.fixture(scope="module")
def data():
    return scenes.examples("iid", 100, seed=0, noise=0.0)


def test_rows_keep_the_images(data):
    few = data.rows([3, 150])
    assert len(few) == 2
    assert few.images is data.images
    assert few.coverage is data.coverage
    assert [few.words(0), few.words(1)] == [data.words(3), data.words(150)]
    assert len(data.rows(data.kind == 0)) == 20
    assert len(data.rows(slice(0, 0))) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {"group": d.group[:, 1:]}, "group has shape"),
        (lambda d: {"grounded": d.grounded[..., 1:]}, "grounded has shape"),
        (lambda d: {"answer": d.answer[1:]}, "answer has shape"),
        (lambda d: {"images": d.images[1:]}, "do not fit"),
        (lambda d: {"grid": (8, 7)}, "do not fit"),
        (lambda d: {"image": d.image + 1}, "image must lie in 0 to 99"),
        (lambda d: {"tokens": -d.tokens}, "tokens must lie in"),
        (lambda d: {"kinds": d.kinds[:3]}, "kind must lie in 0 to 2"),
        (lambda d: {"answer": np.full_like(d.answer, 15)}, "answer must lie in 0 to 14"),
    ],
)
def test_contradictions_are_errors(data, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(data, **change(data))

"""Which words of which rows a report shows."""

import dataclasses

import numpy as np

from crossattn.data import scenes
from crossattn.train import exhibits


def test_captions_without_a_word_of_a_thing_show_their_words():
    told = scenes.examples("iid", 100, seed=0, tasks=("caption",))
    bare = dataclasses.replace(
        told, grounded=np.zeros_like(told.grounded), group=np.zeros_like(told.group)
    )
    np.testing.assert_array_equal(exhibits.exhibit_words(bare), told.target)
    assert len(exhibits.exhibit_rows(bare)) == 1
    # Where some words name things, those are shown.
    assert not exhibits.exhibit_words(told)[~np.isin(told.group, [1, 2, 3])].any()

"""The learning rate of a sweep: chosen once, by the best score of those that stay finite."""

import pytest

from crossattn.train.loop import NonFiniteLossError
from crossattn.train.rate_sweep import FILE, chosen_rate

ACCURACY = {1e-3: 0.4, 1e-2: 0.9, 1e-1: None}


@pytest.fixture
def sweep(tmp_path):
    """A sweep of a folder, which says what was trained and what the user was told."""
    trained, told = [], []
    folder = tmp_path / "blind"

    def score(rate):
        (folder / f"rate{rate:g}").mkdir(parents=True, exist_ok=True)
        trained.append(rate)
        if ACCURACY[rate] is None:
            raise NonFiniteLossError("inf")
        return "accuracy", ACCURACY[rate]

    return folder, trained, told, lambda rates: chosen_rate(folder, rates, score, told.append)


def test_the_best_finite_rate_is_chosen_once(sweep):
    _, trained, told, choose = sweep
    assert choose(list(ACCURACY)) == 1e-2
    assert choose(list(ACCURACY)) == 1e-2
    assert trained == list(ACCURACY)
    assert told == []


def test_a_damaged_choice_is_said_and_made_again(sweep):
    folder, trained, told, choose = sweep
    choose([1e-3, 1e-2])
    (folder / FILE).write_text('{"learning_rate": 0.001}')
    assert choose([1e-3, 1e-2]) == 1e-2
    assert trained == [1e-3, 1e-2] * 2
    assert len(told) == 1
    assert "choosing the learning rate again" in told[0]


def test_where_no_rate_stays_finite_the_variant_is_named(sweep):
    folder, _, _, choose = sweep
    with pytest.raises(NonFiniteLossError, match="blind: no learning rate of the sweep stays"):
        choose([1e-1])
    assert not (folder / FILE).exists()

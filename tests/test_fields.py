"""Fields of descriptions: changed by dotted path, through optional parts and unions."""

import dataclasses
from typing import Literal

import pytest

from crossattn.fields import changed, changes_between, fitted, settle, spelled_out
from crossattn.train import record


@dataclasses.dataclass(frozen=True)
class Join:
    norm: Literal["pre", "post"] = "pre"
    gate: Literal["tanh", "sigmoid"] | None = None
    epsilon: float = 1e-6

    def __post_init__(self):
        settle(self)


@dataclasses.dataclass(frozen=True)
class Layer:
    join: Join = Join()
    cross_join: Join | None = None
    groups: int | None = None
    use_bias: bool | str = True
    spare: Join | None = None


@dataclasses.dataclass(frozen=True)
class Pair:
    join: Join = Join()
    exchange: Literal["separate", "shared"] = "separate"


PRESETS = {"plain": Layer(), "gated": Layer(join=Join(gate="tanh")), "pair": Pair()}


@dataclasses.dataclass(frozen=True)
class Net:
    preset: str = "plain"
    layer: Layer | Pair = Layer()
    depth: int = 2

    def implied(self, changes):
        return {"layer": PRESETS[changes["preset"]]} if "preset" in changes else {}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"layer.join.gate": "tanh"}, Net(layer=Layer(join=Join(gate="tanh")))),
        ({"layer.join.gate": None}, Net()),
        ({"layer.groups": 2}, Net(layer=Layer(groups=2))),
        ({"layer.use_bias": "qv"}, Net(layer=Layer(use_bias="qv"))),
        # A part that is None begins as the one that it stands for, with what is changed of that.
        (
            {"layer.cross_join.norm": "post", "layer.join.gate": "tanh"},
            Net(layer=Layer(Join(gate="tanh"), Join("post", "tanh"))),
        ),
        ({"layer.spare.gate": "tanh"}, Net(layer=Layer(spare=Join(gate="tanh")))),
        ({"layer.cross_join": None}, Net()),
        # A preset resets what it decides, and other changes come on top, in whatever order.
        ({"preset": "gated"}, Net("gated", PRESETS["gated"])),
        (
            {"layer.join.norm": "post", "preset": "gated"},
            Net("gated", Layer(join=Join("post", "tanh"))),
        ),
        ({"preset": "pair", "layer.exchange": "shared"}, Net("pair", Pair(exchange="shared"))),
        ({"preset": "gated", "layer": Layer(groups=3)}, Net("gated", Layer(groups=3))),
    ],
)
def test_changes_reach_through_optional_parts_and_unions(changes, wanted):
    assert changed(Net(), changes) == wanted
    assert changed(Net(), dict(reversed(changes.items()))) == wanted


def test_a_preset_resets_what_was_changed_before():
    before = changed(Net(), {"layer.groups": 2})
    assert changed(before, {"preset": "plain"}) == Net()
    assert changed(before, {"depth": 3}).layer.groups == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer.join.gat": "tanh"}, "Join has no field 'gat': did you mean layer.join.gate?"),
        ({"join.gate": "tanh"}, "Net has no field 'join': did you mean layer.join.gate?"),
        ({"zzz": 1}, "Net has no field 'zzz'; it has preset, layer, depth"),
        (
            {"layer.join.gate": "tahn"},
            "layer.join.gate takes one of tanh, sigmoid or None, got 'tahn': did you mean tanh?",
        ),
        ({"layer.groups": 2.5}, "layer.groups takes a whole number or None, got 2.5"),
        ({"layer.use_bias": 3}, "layer.use_bias takes True or False or a text, got 3"),
        ({"layer.groups.x": 1}, "layer.groups is a value and has no field 'x'"),
        ({"layer.exchange": "shared"}, "Layer has no field 'exchange'"),
        ({"layer": Pair, "layer.groups": 1}, "layer takes a Layer or a Pair, got <class"),
        ({"layer": Pair(), "layer.groups": 1}, "layer is changed as a whole and in part"),
    ],
)
def test_what_cannot_be_changed_is_one_line(changes, said):
    with pytest.raises(ValueError, match="^" + said.replace("?", r"\?").replace(".", r"\.")):
        changed(Net(), changes)


def test_a_dataclass_that_checks_itself_is_named():
    @dataclasses.dataclass(frozen=True)
    class Own:
        value: str = ""

        def __post_init__(self):
            if self.value:
                raise TypeError("value is no word")

    @dataclasses.dataclass(frozen=True)
    class Outer:
        own: Own = Own()

    with pytest.raises(ValueError, match=r"^own: value is no word$"):
        changed(Outer(), {"own.value": "x"})


def test_unions_take_the_first_kind_that_fits():
    assert fitted(bool | str, True, "x") is True
    assert fitted(float | None, 3, "x") == 3.0
    assert fitted(tuple[int, ...] | None, [1, 2], "x") == (1, 2)


@pytest.mark.parametrize(
    "net", [Net("pair", Pair()), changed(Net(), {"layer.cross_join.gate": "tanh"})]
)
def test_what_is_written_down_comes_back(net):
    assert record._build(Net, dataclasses.asdict(net), "") == net


def test_changes_between_make_one_of_the_other():
    for other in (
        Net("gated", PRESETS["gated"], 3),
        Net("pair", Pair()),
        changed(Net(), {"layer.cross_join.gate": "tanh", "layer.groups": 2}),
    ):
        assert changed(Net(), changes_between(Net(), other)) == other
    assert changes_between(Net(), changed(Net(), {"layer.groups": 2})) == {"layer.groups": 2}


def test_parts_that_are_none_are_spelled_out():
    net = changed(Net(), {"layer.join.gate": "tanh"})
    assert spelled_out(net).layer == Layer(Join(gate="tanh"), Join(gate="tanh"), spare=Join())

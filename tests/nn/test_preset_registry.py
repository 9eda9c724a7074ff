"""What the registry says of its presets is so: of what each is composed, and its names."""

from dataclasses import replace

import pytest

from crossattn.nn import presets
from crossattn.nn.config import config_differences

COMPOSED = [name for name in presets.names() if presets.get(name).composed is not None]


def fields(lines):
    return {line.split(":")[0] for line in lines} - {"module"}


def near(field, others):
    """Whether a field is among others, as a whole or in part: None may stand for all of one."""
    return any(
        f"{one}.".startswith(f"{field}.") or f"{field}.".startswith(f"{one}.") for one in others
    )


def unexplained(config, composed):
    """Fields whose value none of the presets has of which it is said to be composed."""
    found = [fields(config_differences(presets.config(one), config)) for one in composed.of]
    every = set().union(*found)
    alone = {field for field in every if all(near(field, others) for others in found)}
    return {field for field in alone if field not in composed.but}


@pytest.mark.parametrize("name", COMPOSED)
def test_a_preset_is_composed_of_what_is_said(name):
    preset = presets.get(name)
    assert unexplained(preset.config, preset.composed) == set()
    for field in preset.composed.but:
        without = replace(preset.composed, but=tuple({*preset.composed.but} - {field}))
        assert unexplained(preset.config, without) == {field}, "it has no value of its own"


@pytest.mark.parametrize("name", COMPOSED)
def test_what_a_preset_is_composed_of_is_checked_in_the_end(name):
    for one in presets.get(name).composed.of:
        part = presets.get(one)
        assert part.checked or {*part.composed.of} <= {
            other for other in presets.names() if presets.get(other).checked
        }


def test_a_field_that_no_named_preset_has_is_found():
    preset = presets.get("vilbert")
    config = replace(preset.config, mlp=replace(preset.config.mlp, activation="relu"))
    assert unexplained(config, preset.composed) == {"mlp.activation"}
    skipped = replace(preset.config.residual, skip=False)
    config = replace(preset.config, cross_residual=skipped)
    assert unexplained(config, preset.composed) == {"cross_residual"}


def test_presets_differ_by_the_fields_of_their_configurations():
    lines = presets.differences("flamingo", "idefics")
    assert fields(lines) == {"residual.norm_kind", "mlp.activation", "mlp.gated"}


def test_every_entry_is_compared_or_composed_and_has_a_paper():
    for name in presets.names():
        preset = presets.get(name)
        assert preset.name == name
        assert bool(preset.checked) != (preset.composed is not None), name
        assert preset.paper, name


@pytest.mark.parametrize("name", sorted({*presets.names()} - {"ip_adapter"}))
def test_a_configuration_may_be_given(name):
    """In place of the preset's own: a variant of any slot costs no entry."""
    config = presets.config(name)
    gated = replace(config, residual=replace(config.residual, gate="sigmoid"))
    module = presets.build(name, width=8, heads=2, config=gated)
    assert gated in (getattr(module, "config", None), getattr(module, "upper", None))

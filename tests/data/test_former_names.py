"""Names of the release before work for one release more, with a warning."""

import pytest

from crossattn.data import easy_vqa, scenes
from crossattn.train.run import Run, replace


@pytest.mark.parametrize(
    ("room", "former", "present"),
    [
        (scenes, "generate", "draw_scenes"),
        (scenes, "PERCEPTIONS", "IMAGE_ENCODERS"),
        (easy_vqa, "examples", "read_split"),
        (easy_vqa, "coverage", "window_coverage"),
    ],
)
def test_former_names_are_the_present_ones(room, former, present):
    with pytest.warns(DeprecationWarning, match=f"is now .*{present}"):
        assert getattr(room, former) is getattr(room, present)


def test_the_modality_layout_is_now_boxes():
    with pytest.warns(DeprecationWarning, match="contexts layout is now boxes"):
        run = replace(Run(), {"model.contexts": ["image", "layout"]})
    assert run.model.contexts == ("image", "boxes")


def test_the_argument_perception_is_now_image_encoder():
    with pytest.warns(DeprecationWarning, match=r"examples\(perception=\) is now image_encoder="):
        data = scenes.examples("pairs", 2, seed=0, perception="patch", size=32)
    assert data.images.shape == (2, 32, 32, 3)

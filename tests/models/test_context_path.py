"""The files that a context crosses from its configuration to a kernel: docs/tour.md names them."""

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

import crossattn
from crossattn.models.config import VisionLanguageConfig
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.ops.kernels import dense

ROOT = Path(crossattn.__file__).parent
TOUR = (ROOT.parent / "docs" / "tour.md").read_text()
# As no other test has it: what was traced before is not traced again.
PATCHES = 23


def test_a_context_crosses_ten_files(monkeypatch):
    crossed, kernel = [], type(dense.KERNEL)
    forward = kernel.forward

    def recorded(self, call):
        if call.S == PATCHES:
            frame, files = sys._getframe(1), []
            while frame:
                files.append(frame.f_code.co_filename)
                frame = frame.f_back
            crossed.append(dict.fromkeys(reversed(files)))
        return forward(self, call)

    monkeypatch.setattr(kernel, "forward", recorded)
    model = VisionLanguageDecoder(11, VisionLanguageConfig(width=8, heads=2, implementation="xla"))
    tokens, images = jnp.ones((4, 5), int), jnp.ones((2, PATCHES, 3))
    seen = {"visible": jnp.ones((2, PATCHES), bool), "prompt": jnp.ones((4, 5), bool)}
    seen["truth"] = jnp.ones((4, 5, PATCHES), bool)
    jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, images, **seen))
    ours = [str(Path(file).relative_to(ROOT)) for file in crossed[0] if file.startswith(str(ROOT))]
    # What serves the names of the release before goes with the next one.
    files = ["models/config.py", *ours, "ops/kernels/dense.py"]
    files.remove("renamed.py")
    assert files == re.findall(r"^\d+\. `crossattn/(\S+)`", TOUR, re.MULTILINE)
    assert len(files) <= 10

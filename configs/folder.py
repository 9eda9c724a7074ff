"""Ways of joining text and image, on pictures of one's own: a folder with one file of texts.

The file is .jsonl, .json or .csv; a line names a picture and says a caption, or a question and its
answer, or both: {"image": "cat.jpg", "caption": "a red cat"}. Judged by the answers; where nothing
is asked, by the perplexity of captions. docs/your_data.md has the columns, boxes of words, splits.

Command:   python -m experiments.ablate folder --data.directory DIR
"""

from dataclasses import replace

from crossattn.data.folder.source import FolderData
from crossattn.train.run import Optimizer, Run
from crossattn.train.suite import Suite

from .fusion import MODEL
from .fusion import SUITE as FUSION

ROWS = ("blind", "mean-pool", "single-stream", "cross-attention", "resampler")

SUITE = Suite(
    name="folder",
    title="ways of joining text and image, on pictures of one's own",
    base=Run(
        data=FolderData("folder"),
        # A few hundred texts are soon known by heart: on the captions of thirty pictures these two
        # halve the perplexity after 600 steps.
        model=replace(MODEL, image_encoder="window", dropout=0.1),
        label_smoothing=0.1,
        optimizer=Optimizer(learning_rate=1e-3),
        steps=1_000,
        # Sixteen pictures, which thirty are enough for.
        batch_size=32,
        checkpoint_every=250,
    ),
    variants={name: FUSION.variants[name] for name in ROWS},
    baseline="cross-attention",
    primary="test/accuracy",
    without_questions="test/perplexity",
    claims=(("cross-attention", "mean-pool"), ("cross-attention", "blind")),
    quick={
        "steps": 60,
        "checkpoint_every": 60,
        "data.images": 400,
        "data.evaluation_images": 100,
    },
)

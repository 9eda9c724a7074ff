"""The fusion rows on pictures of one's own: a prepared TFDS directory with questions and answers.

For directories that hold captions and no questions there is `tfds_captions`.

Array_record and TFRecord directories are read without TensorFlow. Features are found by their
names, or named with `--data.question-feature` and its like; see `crossattn.data.tfds.source` for
what is set aside where a directory has no validation or test split.

Command:   python -m experiments.ablate tfds --data.directory DIR
"""

from dataclasses import replace

from crossattn.train.run import Data, Optimizer, Run
from crossattn.train.suite import Suite

from .fusion import MODEL
from .fusion import SUITE as FUSION

SUITE = Suite(
    name="tfds",
    title="the fusion rows on a TFDS directory of one's own",
    base=Run(
        data=Data(source="tfds", images=0),
        model=replace(MODEL, image_encoder="window"),
        optimizer=Optimizer(learning_rate=1e-3),
        steps=2_500,
        batch_size=64,
        checkpoint_every=250,
    ),
    # Only data with exact regions can tell a variant where to look.
    variants={
        name: changes for name, changes in FUSION.variants.items() if name != "oracle-attention"
    },
    baseline=FUSION.baseline,
    primary="test/accuracy",
    claims=(("cross-attention", "blind"),),
    quick={"steps": 60, "batch_size": 32, "data.images": 400, "data.evaluation_images": 100},
    notes=(
        "Chance is what the commonest answer to each question reaches without the picture.",
        "Where features hold boxes with class labels, a word that spells a label points to the "
        "boxes of that label; without them the report shows where words look, and judges nothing.",
    ),
)

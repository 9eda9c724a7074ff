"""The fusion rows on real third-party images and questions: easy-VQA (Victor Zhou, MIT).

4,000 + 1,000 images of one shape in one colour, 38,575 + 9,673 questions, 13 answers. The region
truth is recovered from the pixels. Published: 87.6 % with a CNN and an LSTM; a predictor that reads
only the question reaches 67.0 %.

Command:   python -m experiments.ablate easy_vqa
"""

from dataclasses import replace

from crossattn.data.sources import PictureData
from crossattn.train.run import Optimizer, Run
from crossattn.train.suite import Suite

from .fusion import MODEL
from .fusion import SUITE as FUSION

SUITE = Suite(
    name="easy_vqa",
    title="the fusion rows on real images and questions (easy-VQA)",
    base=Run(
        data=PictureData("easy_vqa", images=0, evaluation_images=0, texts_per_image=4, flip=True),
        model=replace(MODEL, image_encoder="window"),
        optimizer=Optimizer(learning_rate=1e-3),
        steps=2_500,
        batch_size=128,
        checkpoint_every=500,
    ),
    variants=FUSION.variants,
    baseline=FUSION.baseline,
    primary="test/accuracy",
    claims=(("cross-attention", "blind"), ("mean-pool", "blind")),
    quick={"steps": 60, "data.images": 400, "data.evaluation_images": 100},
    notes=(
        "easy-VQA has one object in each image: no question needs a choice of place, and a pooled "
        "vector can answer whatever survives the mean (colours do). Accuracy alone does not show "
        "alignment; pointing and knock-out do.",
    ),
)

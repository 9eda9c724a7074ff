"""What a model uses: what becomes of its words without part of the image, or with another image."""

from crossattn.align.answers import TEXT_ONLY
from crossattn.align.inputs import PERMUTATIONS, Knockouts, PermutedImages
from crossattn.align.measures import Measure, register_measure

register_measure(
    Measure(
        "knockout",
        "causal",
        Knockouts,
        lambda words: words.right,
        "Accuracy of answers that name a colour or shape, or where nothing is asked of such words "
        "of captions, with regions of the picture hidden from attention: nothing, the true region, "
        "a random region of equal size, all but the true region; in all layers at once, or in the "
        "one that the column names.",
        chance=lambda words: words.chance,
        chance_meaning=TEXT_ONLY,
        column="knock-out",
        headline={"intact": "intact", "truth": "no truth", "random": "no random"},
        places={"intact": "nothing", "rest": "all but truth"},
    )
)

register_measure(
    Measure(
        "perceptual_score",
        "causal",
        PermutedImages,
        lambda words: words.right - words.permuted.mean(axis=1),
        "Perceptual score: accuracy of answers, or where nothing is asked of words of captions, "
        f"less that with the images of other examples (the mean of {PERMUTATIONS} permutations): 0 "
        "for a model that does not use the image.",
        chance=0.0,
        chance_meaning="Chance of the perceptual score: a model that reads the text alone.",
        headline={"context": "perceptual score"},
        limits=(-1.0, 1.0),
    )
)

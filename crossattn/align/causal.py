"""What a model uses: what becomes of its words when part of the image is hidden from attention."""

from crossattn.align.answers import TEXT_ONLY
from crossattn.align.inputs import Knockouts
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

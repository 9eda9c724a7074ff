"""What does each modality add: words, image, and the boxes of the objects?

Ablations of input (Frank et al. 2021, arXiv:2109.04448) ask what a trained model loses without a
modality; here each row is trained with what it has. Boxes say where objects are and how large, and
nothing of colours or shapes: they can answer how many, and the image can answer all.

Expected:  image and boxes at least as good as the image, far better than boxes, which are better
           than words alone (they count). The mean of all tokens keeps counts, and loses which
           colour belongs to which shape.
Found:     the image beats boxes by 0.337; boxes beside the image, and over words alone, are open.
Hardware:  one core, two hardware threads, about 6 minutes.
Command:   python -m experiments.ablate modalities
"""

from crossattn.train.run import replace
from crossattn.train.suite import Suite

from .fusion import QUICK
from .fusion import SUITE as FUSION

IMAGE, BOXES, MEAN = ("image",), ("boxes",), {"model.context_view": "mean"}

SUITE = Suite(
    name="modalities",
    title="what image and boxes add to words, on scenes with exact word-region truth",
    base=replace(FUSION.base, {"model.contexts": ("image", "boxes")}),
    variants={
        "words": {"model.context_view": "none"},
        "boxes": {"model.contexts": BOXES},
        "image": {"model.contexts": IMAGE},
        "image-and-boxes": {},
        "mean-of-boxes": {"model.contexts": BOXES, **MEAN},
        "mean-of-image": {"model.contexts": IMAGE, **MEAN},
        "mean-of-both": MEAN,
    },
    baseline="image-and-boxes",
    primary="iid/accuracy",
    claims=(
        ("image-and-boxes", "image"),
        ("image", "boxes"),
        ("boxes", "words"),
        ("image-and-boxes", "mean-of-both"),
    ),
    quick=QUICK,
    notes=(
        "The primary metric is that of the split `iid`, of all kinds of questions: boxes know "
        "nothing of the colours and shapes that `pairs` asks for. Look at the kinds one by one.",
        "Attention is that to the patches: words of a row with boxes look at these as well, and "
        "what they have there is the share that the image mass leaves.",
        "Boxes are the true ones of the generator, not those of a detector. Knock-outs hide "
        "patches and leave boxes.",
    ),
)

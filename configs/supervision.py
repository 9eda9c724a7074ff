"""Does attention that is taught where to look answer better, or does it only point better?

The loss has -log of the attention that falls in the true region of the word that is predicted
(scenes know it exactly), with weight 0, 0.1 or 1, at all heads or at one. What supervision is for
is pointing; whether it helps the answer is the question. One head that is taught leaves the other
free, so that it shows whether the model uses what it is taught. The image is given as symbols of
patches; with --model.image-encoder patch or conv as the pixels of single cells, or of 3 x 3 cells
and their neighbourhood, so that the same is asked of a model that has to learn to see. In the rows
named deeper, patches read one another in two layers before words read them, as in the encoders that
published models have: what stands in a place is then no longer what its token knows alone.

Paper:     Liu et al. 2017, "Attention correctness in neural image captioning" (attention that is
           supervised points better and writes slightly better captions); Qiao et al. 2018,
           "Exploring human-like attention supervision in visual question answering" (the same of
           answers); Darcet et al. 2024, "Vision Transformers need registers", arXiv:2309.16588
           (deep encoders keep things of the whole image in tokens of places where little is seen).
Expected:  pointing rises with the weight; accuracy on `pairs` by less, or not at all. Behind a
           deeper encoder unsupervised attention points less, and supervised attention does not.
Found:     all claims inconclusive; mass in the true region 0.28 without, 0.64 to 0.66 at weight 1;
           behind a deeper encoder attention points as well, and held-out pairs are lost.
Hardware:  one core, two hardware threads, 22 min 47 s.
Command:   python -m experiments.ablate supervision
"""

from crossattn.train.run import Optimizer, Run
from crossattn.train.suite import Suite

from .fusion import SUITE as FUSION

DEEPER = {"model.encoder_layers": 2}
ONE_HEAD = {"loss.attention_heads": (0,)}

SUITE = Suite(
    name="supervision",
    title="attention that is taught the true region of each word, at all heads or at one",
    base=Run(
        optimizer=Optimizer(learning_rate=4e-3),
        steps=800,
        checkpoint_every=200,
    ),
    variants={
        "unsupervised": {},
        "all-heads-0.1": {"loss.attention": 0.1},
        "all-heads-1": {"loss.attention": 1.0},
        "one-head-0.1": {"loss.attention": 0.1, **ONE_HEAD},
        "one-head-1": {"loss.attention": 1.0, **ONE_HEAD},
        "deeper": DEEPER,
        "deeper-all-heads-1": {"loss.attention": 1.0, **DEEPER},
        "oracle-attention": {"model.context_view": "truth"},
    },
    baseline="unsupervised",
    primary="pairs/accuracy",
    claims=(
        ("all-heads-1", "unsupervised", "pointing/answer"),
        ("one-head-1", "unsupervised", "pointing/answer"),
        ("all-heads-1", "unsupervised"),
        ("unsupervised", "deeper", "pointing/answer"),
        ("deeper-all-heads-1", "deeper", "pointing/answer"),
    ),
    quick=FUSION.quick,
    notes=(
        "Supervision teaches pointing: that pointing rises says that the loss does its work, and "
        "nothing about whether the model uses what it points at; knock-outs and accuracy do.",
        "Supervised are positions that predict a word with a region, in every layer that reads the "
        "image; one-head variants supervise head 0 of each layer. Oracle-attention is told the "
        "true region of every word: it is an upper bound and no method.",
        "Behind a deeper encoder a token may carry what other patches show: pointing says at which "
        "place the token stands that is read, not what it carries. Hidden patches are hidden from "
        "the encoder as well.",
    ),
)

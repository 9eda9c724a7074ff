"""What the report of usage says in words."""


def _line(text: str) -> str:
    return " ".join(text.split())


INTRODUCTION = _line("""
An explanation says which parts of a picture matter for an answer. Whether it is right is a question
about the model, not about the picture, and it can be asked of the model: hide a part from
attention, in all layers at once, and see by how much log P(answer) falls. That fall is the causal
effect of the part. Here {answers} answers of the split {split} that name a colour, a shape or what
else is in the picture are explained (drawn with a fixed seed), and the picture is cut into {parts}
equal parts. The checkpoints are only read.
""")

OVER_SEEDS = _line("""
Brackets hold 95 % intervals over {seeds} (Student's).
""")

OVER_ITEMS = _line("""
Brackets hold 95 % intervals over single answers (Student's), for {seeds} are too few for intervals
over seeds: they say how sure these numbers are of these checkpoints, not of others that are trained
alike.
""")

USE = _line("""
Pointing is how often the most attended patch of the layer that points best on validation data lies
on the true region of the answer; its chance is the share of patches in the region. The loss without
the region is the accuracy while an equally large random region is hidden, minus that while the true
one is.
""")

# Name and meaning of each, by its place in names of metrics; in the order of tables.
EXPLANATIONS = {
    "attention": (
        "raw attention",
        "the weights of the layer that points best on validation data, mean over heads.",
    ),
    "rollout": (
        "rollout",
        "the product over layers of attention plus the identity, with rows of sum 1, among words "
        "and from words to patches (Abnar & Zuidema 2020).",
    ),
    "relevancy": (
        "relevancy",
        "the positive part of attention times its gradient, mean over heads, carried through all "
        "layers (Chefer et al. 2021); the gradient is that of log P(answer).",
    ),
    "grad_cam": (
        "Grad-CAM",
        "attention times the positive part of its gradient, in the same layer as raw attention, "
        "mean over heads (Li et al. 2021).",
    ),
    "random": ("random", "a number drawn at random for each patch: what chance looks like."),
}

TABLE = _line("""
rank agreement of each explanation with the causal effects, from -1 (reversed) over 0 (chance) to 1
(the same order): Spearman's rho and Kendall's tau-b of the parts of a picture, mean over answers;
an answer for which all parts are alike counts as 0. Deletion and insertion: the area under
P(answer) while the parts are hidden, or shown, one after the other, the most salient first; a
faithful explanation has a small deletion and a large insertion, beside those of the row random.
Rollout and relevancy are there where each layer is attention among words and then to patches,
Grad-CAM where words read patches themselves, not what a resampler or a bottleneck makes of them.
""")

HEAD_TABLE = _line("""
single heads: how often each points at the true region, and rank agreement (Spearman) of its raw
attention with the causal effects.
""")

HEADS = _line("""
Each head by itself: how often it points at the true region, and how far its raw attention agrees
with the causal effects (Spearman). These grids are of the data that the tables are of: to choose a
head, choose it on validation data; the best head of a grid is an upper bound, not an estimate.
""")

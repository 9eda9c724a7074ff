"""What a report says in words about its figures, tables and numbers."""


def _line(text):
    """One line: some viewers of Markdown keep line breaks."""
    return " ".join(text.split())


# Who reaches the level of chance.
KNOWS_TEXT = _line("""
the best predictor that reads only the text and has learnt the answers of the training data
""")
KNOWS_WORDS = "a predictor that knows the frequency of each word, and nothing else,"

# What points, where it has a region: see `runs.place_of`.
PLACES = {"answer": "answers", "caption": "words of captions"}

FIGURES = {
    "samples": _line("""
One picture of each part of the data, drawn at random with a fixed seed, with its first texts. A
model is given the words in grey and has to predict the blue ones. The line is the true region of
the answer to the first text (of a caption: of all its words), where it is known.
"""),
    "designs": _line("""
How the words of each variant (below) meet the picture (above). Below "picture" stands how it is
perceived ("oracle": as symbolic features). A dashed frame is a layer with its sublayers: "self" is
attention among words, "cross" attention to the picture, MLP what works on each position alone;
lower rows name norms and gates. "Vector" is what stands for a whole text or a whole picture where
these are compared with each other. Orange is what the baseline does not have.
"""),
    "differences": _line("""
Differences between variants: the mean (square), its corrected interval (line) and each seed's own
difference (dots). A filled square leaves 0 outside its interval and a winner is named; an open
square names none.
"""),
    "scatter": _line("""
The primary metric against pointing: each seed (dots), and the mean with its 95 % interval over
seeds in both directions. Dashed: chance, which for the primary metric is what the best predictor
reaches that reads only the text. At the right a model looks at the region that its words are about;
what does well at the left does so without looking there.
"""),
    "accuracy": _line("""
Metrics by split and question type: each seed (faint dots), the mean and its 95 % interval over
seeds. Dashed: chance, that of the best predictor that reads only the text and has learnt the
answers of the training data (of swap pairs and retrieval: of random scores; of perplexity: of the
frequencies of words).
"""),
    "profiles": _line("""
Performance profiles: the share of all runs, of all question types of the primary metric (upright),
whose score is above the threshold (across), with 95 % bootstrap bands. Scores are (accuracy -
chance) / (1 - chance): 0 is blind, 1 perfect. A curve further up is better; where curves cross, a
variant is better on some question types or seeds and worse on others.
"""),
    "heads": _line("""
By layer and head, mean over seeds. Layers and heads count from 0, and the colour bar marks chance.
A head that stands out here was not chosen on other data: it is no estimate of how well a chosen
head does.
"""),
    "learning": _line("""
Learning curves: every seed (thin), their mean, and one standard deviation around it (band, which
ends where the outermost seed is).
"""),
    "knockout": _line("""
Accuracy when parts of the picture are hidden from attention. A model that uses the right place
falls to chance (dashed: the best predictor that reads only the text) without the true region, and
hardly changes without a random region of equal size.
"""),
    "gallery": _line("""
Attention of single words over the picture; a white line is the true outline, where one is known.
The pictures were fixed by seed, not picked. Each map is scaled to its own maximum; mass is the
share of attention inside the outline. A consumed word is the input of the position that attends, a
predicted word is what that position says next.
"""),
}

STRIP = _line("""
Variants in the strip at the left have no attention over patches that could point.
""")

SHARED_PANELS = _line("""
Variants that look the same share a drawing; the next table says what each changes.
""")

FIRST_PANELS = _line("""
Drawn are {} of {} metrics, the first of each split; the tables have all.
""")

VARIANTS = _line("""
Variants differ in what is orange in the drawings and listed in the next table, and in nothing else.
""")

DATA = _line("""
The parts of the data: how many pictures and texts each has, and what its source says of it. Models
learn from the part train alone.
""")

CHANGES = _line("""
What each variant changes of the base, whose other settings all variants share; a setting that a
variant changes has the base's value in those that do not.
""")

MEANINGS = _line("""
What the settings are that variants change. M is the width of a layer, H its number of heads.
""")

WEIGHTS = _line("""
Numbers of loss are weights: the loss is what training makes small, the sum of its terms, each times
its weight; a term of weight 0 is not there.
""")

SETTINGS = _line("""
The settings that all variants share, as they ran. Numbers of images are what was asked for; how
many there were is counted in the next table.
""")

COUNTS = _line("""
How many items (questions, answers with a known region, captions, pairs) are behind each metric for
one seed, as counted when it was measured.
""")

MAIN = _line("""
Size, cost and primary metric of every variant with its 95 % interval over seeds (Student's, and
none under three seeds), and its difference to the baseline with a corrected interval.
""")

ALIGNMENT = _line("""
Attention against truth, and causal use: who looks, and who uses what is seen. Levels of chance are
in brackets.
""")

CLAIMS = "The verdict on every declared claim."

COMPARISONS = _line("""
Every comparison of the primary metric, and those of other metrics that claims name (in brackets).
Level is that of the interval, p the p-value before Holm's correction; sign-flip p is that of an
exact test on the signs of the seeds' differences, for reference. P(improvement) is how probably a
run of the first variant beats a run of the second.
""")

COST = _line("""
What a training step costs: its matrix products in billions of operations as the design asks for
them (GFLOP), its median time while others may run beside it, and both divided (TFLOP/s; MFU is its
share of what the device could do, where that is known).
""")

# What tables of groups of metrics that are no splits hold, and those of places that attend.
SPLITS = {
    "swap": "Pairs of scenes whose captions use the same words.",
    "swap_similarity": "The same pairs by the similarity of their features.",
    "swap_matching": "The same pairs by the head that was trained to match.",
    "caption": "Captions of the main split.",
    "others": "Splits with one number each.",
}
READ_WHERE = {
    "answer": "where an answer is predicted",
    "consumed": "where a word is the input",
    "predicted": "where a caption's word is predicted",
}
READINGS = {place: f"By layer {where}, mean over heads." for place, where in READ_WHERE.items()}

CELLS = _line("""
Mean over seeds ± half the 95 % interval, or with the interval itself where the range of the metric
cuts it; ± 0.000 where all seeds gave the same, and no interval under three seeds.
""")

ZERO_CHANCE = _line("""
It is 0 where the right answers never follow such a text in training; a model that has learnt the
text less well may exceed that without seeing the image, as a blind variant shows.
""")

REFERENCES = _line("""
Two rows are no variants, and are in no comparison: they show what these numbers are without
alignment, on the same items. "untrained" is the baseline (of one run: its model) before its first
step, one for each seed;
"random attention" is attention of every head drawn at random, uniformly from all distributions over
the patches.
""")

NO_REFERENCES = _line("""
There are no rows of an untrained model and of random attention: they are not measured over several
devices, by earlier versions, and before the baseline is finished.
""")

FIXED_PATCH = _line("""
A constant guess, the one patch that is right most often, reaches {level:.3f}.
""")

EXPLORER = _line("""
[explore.html](explore.html) beside this report shows single texts of {of}: click a word and see
where it looks, in every layer and head, and what the model says without the region.
""")

FILES = _line("""
Beside this report lie `report.html` (the same in one file), `figures/`, `tables/` (every table as
CSV and LaTeX, the methods as `methods.tex`, and `runs.csv` with every number of every run) and
`results.json`.
""")

# An item of a list each.
COLUMNS = (
    "Parameters: how many numbers training adjusts.",
    "Step: median time of a training step while others may run beside it; of seeds that are "
    "trained together, divided by their number.",
    "Difference: to the baseline, paired by seed and item; its interval is corrected for the "
    "number of comparisons.",
    "Intact, no truth, no random: how many {places} with a known region are predicted right with "
    "the whole picture, without the true region, and without a random region of equal size.",
    "A dash: the variant has no such number.",
)

# Of reports of suites and of usage.
VERDICT = _line("""
The verdict on attention rests on two 95 % intervals. A model attends if its pointing minus chance
lies above 0; it uses the region if the accuracy without a random region of equal size, minus that
without the true one, does. An interval that ends at {negligible:.2f} or below counts as none; where
it neither ends there nor lies above 0, the verdict is inconclusive. So "attends but does not use"
looks at the true region and answers as well without it, "uses without attending" answers worse
without it although attention does not point there. A model that answers such questions less often
right than chance with the whole picture has nothing to lose: where it attends, the verdict is
inconclusive.
""")

SPEED = _line("""
How soon variants learn: the first training step at which the accuracy of the words that are
predicted, averaged over the last twentieth of all steps, is 90 % of what the baseline's training
ends with, for the same seed. Steps are the mean over seeds (a dash where some never get there),
the range is that of the seeds which do.
""")

INTERQUARTILE_MEAN = _line("""
Interquartile means (the mean of the middle half, which single lucky or failed runs do not move)
over seeds and question types of (accuracy - chance) / (1 - chance), with 95 % bootstrap intervals
stratified by question type (none under three seeds): 0 is chance, that of the best predictor that
reads only the text, and 1 is perfect.
""")

TRAINING = _line("""
All variants train with the same seeds, on the same data in the same order, for the same number of
steps and tokens, and are evaluated on the same items.
""")

OTHER_TRAINING = _line("""
All variants train with the same seeds and are evaluated on the same items, but not on the same
examples for the same number of steps: see what each changes.
""")

SWEEP = "The learning rate of each variant was chosen by a sweep."

NO_SWEEP = _line("""
No learning-rate sweep ran: the learning rate may suit some variants better than others.
""")

ONE_SEED = _line("""
There is one seed, which allows no test and no interval: p is 1 and no winner is named.
""")

TWO_SEEDS = _line("""
There are two seeds, which say too little of their spread for a test or an interval (two that agree
by accident would leave no doubt): p is 1 and no winner is named.
""")

REPEATS = _line("""
The same command gives the same numbers to the last digit on the same kind of processor, with the
same number of devices and the same versions of the software, also after an interruption. Elsewhere
sums are rounded in another order, training carries that on, and a mean over a few seeds may move in
the second digit.
""")

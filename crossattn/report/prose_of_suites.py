"""What a page of several suites says in words."""

OPENING = (
    "A suite trains several variants of a model from the same random numbers (seeds) and judges "
    "them by one metric, its primary one. This page sets what was found by several suites side by "
    "side; the report of each, report.html in its folder, says how that was measured. Brackets "
    "hold 95 % intervals: a procedure that makes such intervals covers the true value in 95 of 100 "
    "repetitions. None are given under three seeds."
)

SUITES = (
    "Better, worse: the variants of which it is shown, after Holm's correction for the number of "
    "comparisons of the suite (at most 5 % of suites of equal variants name any), that they are "
    "better or worse than the baseline on what the suite is judged by; not decided: those of which "
    "neither is. Claims: how many of the declared directions were supported, not supported (the "
    "opposite was shown), inconclusive, not measured or open (runs are missing). A dash: not known."
)

EFFORT = (
    "Resolves: the true difference that this suite finds in 80 % of repetitions; smaller ones may "
    "be there and not be found. Training: minutes of training steps of all runs, others running "
    "beside them."
)

CLAIMS = (
    "What each suite claimed before it ran. The left one is claimed to be better: to have the "
    "larger value (>), or the smaller one (<) of a loss or a cost. A claim about another metric "
    "than the primary one names it in brackets. Corrected, Holm p: interval and p-value of the "
    "difference (left minus right) after Holm's correction for the number of comparisons of the "
    "suite."
)

VALUES = (
    "Variants that two suites or more have under the same name: mean over seeds with its 95 % "
    "interval (Student's, cut to the range of the metric). Suites differ in more than chance "
    "(next table), so rows are compared with rows of the same column; `compare` of two folders "
    "tests differences between columns."
)

SETTINGS = (
    "What the suites differ in: settings whose value in a suite is the same in all variants that "
    "all suites have, and not the same in all suites."
)

NOTHING_COMMON = "No two suites have a variant of the same name with such a metric."

RANKINGS = (
    "Whether the variants of two suites come in the same order: 1 is the same order, -1 the "
    "reverse, about 0 none. Kendall's tau is the share of pairs in the same order minus the share "
    "in the other one; Spearman's rho is the correlation of ranks. Kendall's W is for all suites "
    "together: 1 where all rank alike, about 1 over their number where the orders have nothing to "
    "do with each other. Intervals: seeds drawn anew "
    "in each suite; they say how sure the order of these variants is, not "
    "how others would rank."
)

AGGREGATE = (
    "Scores of {tasks} (of {suites}; question types, where a metric is divided into them) "
    "and {seeds} as one number for each variant that all suites have. Scores are normalised as "
    "(score - chance) / (1 - chance), chance being what the best predictor reaches that sees only "
    "the text: 0 is blind and 1 perfect in every task alike."
)

LEFT_OUT = " Left out, since chance is not known or the metric is no share: {suites}."

IQM = (
    "Interquartile means (the mean of the middle half of all runs on all tasks, which single lucky "
    "or failed runs do not move) with 95 % bootstrap intervals, seeds drawn anew within each task; "
    "and the probability that a run of the variant beats a run of the one that is named, averaged "
    "over tasks, ties counting one half."
)

PROFILES = (
    "Performance profiles: the share of runs on all tasks (upright) whose normalised score is "
    "above the threshold (across), with 95 % bootstrap bands. A curve further up is better; where "
    "curves cross, a variant is better on some tasks or seeds and worse on others."
)

LIMITS = (
    "Each suite keeps its own error rate of 5 %: of twenty suites of equal variants one names a "
    "winner by chance, and nothing on this page corrects for the number of suites. A variant has "
    "the same name in two suites because their authors gave it; what else differs is in the table "
    "of settings. Times were measured while others may have run, on the devices that are named. A "
    "quick or unfinished suite concludes nothing."
)

"""What a report says in words about comparisons and claims."""

VERDICTS = (
    "Supported: the variant on the left is better, its corrected interval above 0 (below 0 where "
    "less is better) and its Holm p-value below 0.05. Not supported: the opposite was found, by "
    "the same rule. Inconclusive: "
    "neither; the difference may be 0, or go either way within its interval, or there are fewer "
    "than three seeds. Open: not all of its runs are there. Not measured: a variant has no such "
    "number. A claim about another metric names it in brackets; it is paired over seeds, and "
    "Holm's procedure counts it in."
)

NO_CONCLUSION = "These verdicts show that the machinery works; they are no conclusions."

EQUIVALENCE = (
    "Within {margin:g}: differences smaller than that do not matter, the suite declared before it "
    "ran. Shown: two one-sided tests of each comparison, corrected by Holm's procedure among "
    "themselves, say at 5 % that the true difference is smaller. Not shown is not the same as "
    "different: it may just be that there are too few seeds."
)

METHODS = (
    "A comparison is paired over {over}. Its p-value is the larger of two: that of a hierarchical "
    "bootstrap, which resamples seeds and items, and that of a paired t test over seeds. Its "
    "interval covers the intervals of both. (The bootstrap alone would name false winners, for it "
    "takes a handful of seeds too seriously.) Holm's procedure runs over the {comparisons} of the "
    "one primary metric{others}, and each interval has the level at which that procedure tests its "
    "comparison. A winner is named only where the corrected interval excludes 0 and the Holm "
    "p-value is below {alpha}: a suite of equal variants names one with a probability of at most "
    "{alpha:.0%}. P(improvement) is the probability that a run of the variant beats a run of its "
    "opponent, averaged over question types, ties counting one half."
)

SIGN_FLIP = (
    "An exact sign-flip test on {seeds} seeds cannot go under p = 2^(1-{seeds}) = {floor:.3g}; "
    "its p-value is shown for reference and decides nothing."
)

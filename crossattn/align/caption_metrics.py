"""Captions against reference captions: BLEU, ROUGE-L, CIDEr-D as COCO's evaluation has them.

A caption is a list of words (`plain_words` makes it of a sentence), or of token numbers; each has
one or more references. Scores are those of coco-caption, whose small constants are kept. There are
no METEOR and no SPICE: they need WordNet and a Java parser. The level of chance of all of them is
measured: score the captions of other images, by a shuffle.
"""

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from crossattn.shapes import Float

__all__ = ["bleu", "cider_d", "corpus_bleu", "plain_words", "rouge_l", "scene_graph_f1"]

Words = Sequence[Hashable]
References = Sequence[Sequence[Words]]

# What coco-caption adds to counts of matches and of n-grams.
TINY, SMALL = 1e-15, 1e-9
# Words that Penn Treebank's tokenisation takes apart.
SPLIT_WORDS = {"cannot", "dunno", "gimme", "gonna", "gotta", "lemme", "wanna"}


def plain_words(caption: str) -> list[str]:
    """Words of a plain English caption, as COCO's evaluation has them: no case, no punctuation.

    Penn Treebank's rules for letters, digits and hyphens within words, and for commas, full stops,
    colons, semicolons, question and exclamation marks after them. What those rules treat otherwise
    is refused: use the words of the original tokeniser there.

    Raises:
      ValueError: no words; apostrophes, abbreviations with full stops inside, and other signs.

    Example:
      >>> plain_words("There is a green ring, and a well-known CUBE.")
      ['there', 'is', 'a', 'green', 'ring', 'and', 'a', 'well-known', 'cube']
    """
    words = re.sub(r"[.,;:!?]+(?=\s|$)", " ", caption.lower()).split()
    for word in words:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", word) or word in SPLIT_WORDS:
            raise ValueError(
                f"{word!r} of {caption!r} is not a plain word: Penn Treebank's rules may split it; "
                "give lists of words, tokenised by them"
            )
    if not words:
        raise ValueError(f"{caption!r} has no words")
    return words


def bleu(
    written: Sequence[Words], references: References, order: int = 4
) -> Float[np.ndarray, " E"]:
    """BLEU of each caption: the geometric mean of n-gram precisions up to `order`.

    With a penalty for being shorter than the reference of nearest length (Papineni et al. 2002). A
    caption without a match of some order has nearly 0; so has one of fewer words than `order`.
    What is published is the number of all captions together: `corpus_bleu`.

    Raises:
      ValueError: no captions, not as many lists of references, an empty one, an order below 1.

    Example:
      >>> bleu(["a red ring".split()], [["a red cube".split()]], 1).round(3).tolist()
      [0.667]
    """
    return np.array([_bleu([counts]) for counts in _bleu_counts(written, references, order)])


def corpus_bleu(written: Sequence[Words], references: References, order: int = 4) -> float:
    """BLEU of all captions together: counts are added up before precisions are taken.

    Raises:
      ValueError: as `bleu`.

    Example:
      >>> round(corpus_bleu(["a red ring".split()], [["a red cube".split()]], 2), 3)
      0.577
    """
    return _bleu(_bleu_counts(written, references, order))


def rouge_l(written: Sequence[Words], references: References) -> Float[np.ndarray, " E"]:
    """ROUGE-L of each caption: F of its longest common subsequence, recall weighted by 1.2^2.

    Precision and recall are each the best over references, as in coco-caption (Lin 2004). Between
    0 and 1.

    Raises:
      ValueError: as `bleu`.

    Example:
      >>> rouge_l(["a red ring".split()], [["a red cube".split()]]).round(3).tolist()
      [0.667]
    """
    scores = []
    for said, truths in _checked(written, references):
        common = [_common_subsequence(said, truth) for truth in truths]
        precision = max(n / len(said) for n in common) if said else 0.0
        recall = max(n / len(truth) for n, truth in zip(common, truths, strict=True))
        both = recall + 1.2**2 * precision
        scores.append((1 + 1.2**2) * precision * recall / both if precision and recall else 0.0)
    return np.array(scores)


def cider_d(
    written: Sequence[Words], references: References, *, sigma: float = 6.0
) -> Float[np.ndarray, " E"]:
    """CIDEr-D of each caption: cosine of tf-idf weighted n-grams, 1 to 4, times 10.

    Counts are clipped to the reference's, and a Gaussian of the difference in length lowers the
    score (Vedantam et al. 2015). The frequencies are those of these references: scores of other
    sets of images are not comparable. Between 0 and 10.

    Args:
      written: one caption of each image.
      references: of each image, one or more.
      sigma: width of the Gaussian, in words.

    Raises:
      ValueError: as `bleu`, or fewer than two images: of one, every n-gram has weight 0.

    Example:
      >>> references = [["a red ring".split()], ["a blue cube".split()]]
      >>> cider_d(["a red ring".split(), "a red cube".split()], references).round(2).tolist()
      [7.5, 1.25]
    """
    pairs = _checked(written, references)
    if len(pairs) < 2 or not sigma > 0:
        raise ValueError(f"two images and sigma > 0 are the least, got {len(pairs)}, sigma {sigma}")
    seen = Counter(
        gram for _, truths in pairs for gram in set().union(*(_ngrams(t, 4) for t in truths))
    )
    weigh = lambda words: _tf_idf(words, seen, math.log(len(pairs)))
    scores = []
    for said, truths in pairs:
        own = weigh(said)
        near = [_cider_similarity(own, weigh(truth), sigma) for truth in truths]
        scores.append(10 * float(np.mean(near)))
    return np.array(scores)


def scene_graph_f1(
    written: Sequence[Iterable[Hashable]], true: Sequence[Iterable[Hashable]]
) -> Float[np.ndarray, " E"]:
    """F1 of the facts of each caption against the true ones, counted as often as they are stated.

    Facts are what the caller says: ("ring",), ("ring", "red"), ("ring", "left of", "cube") are the
    objects, attributes and relations of SPICE. Two empty sets agree: 1.

    Raises:
      ValueError: no captions, or not as many true sets.

    Example:
      >>> scene_graph_f1([[("ring", "red"), ("cube", "red")]], [[("ring", "red")]]).tolist()
      [0.6666666666666666]
    """
    if not len(written) or len(written) != len(true):
        raise ValueError(f"{len(written)} captions, {len(true)} true sets: as many are meant")
    scores = []
    for said, truth in zip(map(Counter, written), map(Counter, true), strict=True):
        total = said.total() + truth.total()
        scores.append(2 * (said & truth).total() / total if total else 1.0)
    return np.array(scores)


def _checked(written, references):
    if not len(written) or len(written) != len(references):
        said = f"{len(written)} captions, {len(references)} lists of references"
        raise ValueError(f"{said}: as many are meant, one or more")
    for number, (said, truths) in enumerate(zip(written, references, strict=True)):
        if (
            isinstance(said, str)
            or isinstance(truths, str)
            or any(isinstance(t, str) for t in truths)
        ):
            raise ValueError(f"caption {number}: lists of words are meant, got a string")
        if not truths or not all(len(truth) for truth in truths):
            raise ValueError(f"caption {number} has no reference, or an empty one")
    return [
        (tuple(said), [tuple(truth) for truth in truths])
        for said, truths in zip(written, references, strict=True)
    ]


def _ngrams(words, order):
    """How often each n-gram of up to `order` words stands in the caption."""
    return Counter(words[i : i + n] for n in range(1, order + 1) for i in range(len(words) - n + 1))


def _bleu_counts(written, references, order):
    """Of each caption: matches and n-grams by order, its length, that of the nearest reference."""
    if order < 1:
        raise ValueError(f"order is at least 1, got {order}")
    counts = []
    for said, truths in _checked(written, references):
        most: Counter = Counter()
        for truth in truths:
            most |= _ngrams(truth, order)
        found: Counter = Counter()
        for gram, n in (_ngrams(said, order) & most).items():
            found[len(gram)] += n
        _, nearest = min((abs(len(truth) - len(said)), len(truth)) for truth in truths)
        matches = [found[n] for n in range(1, order + 1)]
        total = [max(len(said) - n + 1, 0) for n in range(1, order + 1)]
        counts.append((matches, total, len(said), nearest))
    return counts


def _bleu(counts):
    matches, total, length, nearest = (np.sum(part, axis=0) for part in zip(*counts, strict=True))
    score = float(np.prod((matches + TINY) / (total + SMALL)) ** (1 / len(matches)))
    ratio = (length + TINY) / (nearest + SMALL)
    return score * math.exp(1 - 1 / ratio) if ratio < 1 else score


def _common_subsequence(a, b):
    length = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, 1):
            above = length[j]
            length[j] = before + 1 if word == other else max(length[j], length[j - 1])
            before = above
    return length[-1]


def _tf_idf(words, seen, log_images):
    """Weights of n-grams by order, their norms, and the number of pairs of words."""
    vectors: list[dict] = [{} for _ in range(4)]
    for gram, count in _ngrams(words, 4).items():
        rarity = log_images - math.log(max(1, seen[gram]))
        vectors[len(gram) - 1][gram] = count * rarity
    norms = [math.sqrt(sum(value**2 for value in vector.values())) for vector in vectors]
    return vectors, norms, max(len(words) - 1, 0)


def _cider_similarity(said, truth, sigma):
    cosines = []
    for own, other, a, b in zip(said[0], truth[0], said[1], truth[1], strict=True):
        common = sum(
            min(value, other.get(gram, 0)) * other.get(gram, 0) for gram, value in own.items()
        )
        cosines.append(common / (a * b) if a and b else common)
    return float(np.mean(cosines)) * math.exp(-((said[2] - truth[2]) ** 2) / (2 * sigma**2))

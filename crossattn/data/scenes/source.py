"""The data set `scenes`: objects on a plain ground, texts about them, and exact regions for words.

Everything follows from a seed, to the byte, on any machine: all draws are integers of `SplitMix64`,
and shapes are decided in integers. Two to four objects of 6 colours and 6 shapes stand apart on 8
by 8 patches. Six of the 36 pairs of a colour and a shape, a Latin square, are in no image but
those of `pairs`.

| split | scenes and questions | best predictor from the text alone |
|---|---|---|
| train, validation, iid | colour, shape, exist, count, relation (refer, match) | `CHANCE` |
| pairs | colour and shape of an object whose pair is held out | 0 (uninformed guess: 1/6) |
| count | five or six objects, counts of one to four of a kind | 1/4 |
| relations | relations between shapes that training never asks for | 1/2 |
| swap | two scenes with their colours swapped, two captions of the same words | 0 |

**Chance is exact.** For one wording there is one scene for each answer (see `questions`), so
a predictor that reads only the text is right in exactly 1/k of the rows, k being the number of
answers. The colour of a shape has k = 5 and not 6, because every shape misses one colour in
training: a predictor can know that. For the same reason it never names the held-out pair, and its
accuracy on `pairs` is 0. In `swap` the score is that of a comparison which ties without the image.
"""

import numpy as np

from crossattn.data.dataset import Dataset
from crossattn.data.examples import Examples
from crossattn.data.scenes.about import ABOUT, PARTS_ABOUT
from crossattn.data.scenes.images import CHUNK, GRID
from crossattn.data.scenes.language import (
    CONTENT,
    GROUP_OF,
    GROUPS,
    LENGTH,
    VOCABULARY,
    caption_words,
)
from crossattn.data.scenes.layout import MOST
from crossattn.data.scenes.settings import ScenesData
from crossattn.data.scenes.worlds import (
    APART,
    CHANCE,
    SIZES,
    SPLITS,
    TASKS,
    Scenes,
    check_known,
    draw_scenes,
)
from crossattn.data.sources import Settings, Source
from crossattn.renamed import arguments

__all__ = [
    "CHANCE",
    "IMAGE_ENCODERS",
    "KINDS",
    "SCENES",
    "SIZES",
    "SPLITS",
    "Scenes",
    "ScenesData",
    "draw_scenes",
    "examples",
]

KINDS = ("colour", "shape", "exist", "count", "relation", "refer", "caption", "match")
IMAGE_ENCODERS = ("oracle", "patch", "conv")

Row = tuple[int, str, list[tuple[str, int]]]  # scene, kind, words with the bits of their objects


def _rows(scenes: Scenes, tasks: tuple[str, ...]) -> list[Row]:
    """Write the texts: first all questions, then all captions, in the order of their scenes."""
    pairs = [scenes.pairs(scene) for scene in range(len(scenes))]
    if scenes.split == "swap":
        return [
            (image, "match", caption_words(pairs[text], pairs[image]))
            for first in range(0, len(scenes), 2)
            for text in (first, first + 1)
            for image in (first, first + 1)
        ]
    rows: list[Row] = []
    for scene, question in enumerate(scenes.questions):
        asked = question.kind if question and question.kind in APART else "question"
        if question and asked in tasks:
            places = scenes.centre[scene].tolist()
            rows.append((scene, question.kind, question.words(pairs[scene], places)))
    if "caption" in tasks:
        rows += [(n, "caption", caption_words(own, own)) for n, own in enumerate(pairs)]
    return rows


def _pack(rows: list[Row]) -> dict[str, np.ndarray]:
    """Turn texts into the arrays of `Examples`."""
    number = {word: token for token, word in enumerate(VOCABULARY)}
    group = [GROUPS.index(GROUP_OF.get(word, "none")) for word in VOCABULARY]
    tokens = np.zeros((len(rows), LENGTH), np.int32)
    sets = np.zeros((len(rows), LENGTH), np.int32)
    for row, (_, _, words) in enumerate(rows):
        tokens[row, : len(words)] = [number[word] for word, _ in words]
        sets[row, : len(words)] = [bits for _, bits in words]
    kind = np.array([KINDS.index(name) for _, name, _ in rows], np.int8)
    length = np.array([len(words) for _, _, words in rows], np.int32)
    said = np.array([words[-2][0] for _, _, words in rows])
    asks = kind < KINDS.index("caption")
    # Swap pairs are captions, and end with a shape.
    asks |= (kind == KINDS.index("match")) & np.isin(said, ("yes", "no"))
    # The answer alone, or all that follows "<bos> describe".
    start, end = np.where(asks, length - 2, 2), np.where(asks, length - 1, length)
    place = np.arange(LENGTH)
    return {
        "image": np.array([scene for scene, _, _ in rows], np.int32),
        "tokens": tokens,
        "target": (place >= start[:, None]) & (place < end[:, None]),
        "grounded": (sets[..., None] >> np.arange(MOST) & 1).astype(bool),
        "group": np.array(group, np.int8)[tokens],
        "kind": kind,
        "answer": np.where(asks, length - 2, 0).astype(np.int32),
    }


@arguments(perception="image_encoder")
def examples(
    split: str,
    count: int,
    *,
    seed: int,
    tasks: tuple[str, ...] = ("question", "caption"),
    image_encoder: str = "oracle",
    noise: float = 0.1,
    size: int = 64,
    boxes: bool = False,
) -> Examples:
    """Draw `count` scenes with their texts.

    Args:
        split: a key of `SPLITS`.
        count: number of scenes, a multiple as in `draw_scenes`.
        seed: equal seeds, equal bytes.
        tasks: "question" and "caption" give one row for each scene. "refer" makes scenes for
            phrases of reference beside those for questions, each scene having one or the other,
            and "match" scenes of two objects, with the question whether they are those of a caption
            or of one with the colours swapped.
            `swap` has only its match rows, whatever the tasks.
        image_encoder: "oracle" gives symbolic features of patches with noise; "patch" and "conv"
            give pixels, which the model cuts into windows.
        noise: standard deviation of the noise of oracle features, whose clean values lie mostly
            between 0 and 1.
        size: pixels along one side, 32 or 64.
        boxes: whether the place and size of the objects, without colour and shape, come as a third
            modality.

    Returns:
        rows of questions (and phrases of reference) in the order of their scenes, then rows of
        captions in the order of their scenes. In `swap` four rows for each pair of scenes: caption
        0 with image 0, caption 0 with image 1, caption 1 with image 0, caption 1 with image 1.
        T, O and P are the same for all splits and tasks.

    Raises:
        ValueError: as `draw_scenes`; for an unknown encoder, a negative noise, or tasks that
            leave no row.

    Example:
        >>> data = examples("iid", 100, seed=0)
        >>> data.images.shape, data.tokens.shape, data.words(0)
        ((100, 64, 15), (200, 15), '<bos> how many white things are there ? three <eos>')
    """
    check_known("image_encoder", image_encoder, IMAGE_ENCODERS)
    if not noise >= 0:
        raise ValueError(f"noise is {noise}; a standard deviation is not negative")
    if not tasks:
        raise ValueError(f"tasks is empty: write some of {TASKS}")
    drawn = draw_scenes(split, count, seed=seed, size=size, tasks=tasks)
    return _examples(drawn, tasks, image_encoder, noise, boxes)


def _examples(
    drawn: Scenes, tasks: tuple[str, ...], image_encoder: str, noise: float, boxes: bool
) -> Examples:
    """The texts about some scenes, and what a model perceives of these."""
    count = len(drawn)
    order = range(0, count, CHUNK)
    chunks = [np.arange(start, min(start + CHUNK, count)) for start in order]
    if image_encoder == "oracle":
        images = np.concatenate([drawn.features(chunk, noise=noise) for chunk in chunks])
    else:
        images = np.concatenate([drawn.render(chunk) for chunk in chunks])
    arrays = _pack(_rows(drawn, tasks))
    present = {KINDS[kind] for kind in np.unique(arrays["kind"])}
    chance = {kind: p for kind, p in SPLITS[drawn.split].chance.items() if kind in present}
    return Examples(
        images=images,
        coverage=drawn.coverage,
        boxes=drawn.boxes if boxes else None,
        **arrays,  # type: ignore[arg-type]
        vocabulary=VOCABULARY,
        kinds=KINDS,
        groups=GROUPS,
        content=CONTENT,
        grid=GRID,
        chance=chance,
    )


def _load(settings: Settings) -> Dataset:
    data: ScenesData = settings.data
    # Features of another encoder take the place of these.
    encoder = "oracle" if settings.image_encoder == "features" else settings.image_encoder
    # Where captions are all that is learnt, captions of every split are what is judged.
    judged = data.tasks if data.tasks == ("caption",) else ("question",)
    # Where what is asked has scenes of its own, there are no others.
    apart = tuple(task for task in data.tasks if task in APART)
    alone = bool(apart) and "question" not in data.tasks
    # The main split carries the captions; the foils need a few hundred scenes each.
    count, few = data.evaluation_images, min(data.evaluation_images, 400)
    parts = {"train": (data.images, data.tasks), "validation": (few, apart if alone else judged)}
    parts |= {"iid": (count, data.tasks)} | ({} if alone else {"pairs": (count, judged)})
    others = ("swap",) if alone else ("count", "relations", "swap")
    parts |= dict.fromkeys(others, (few, judged))
    scenes, texts = {}, {}
    for name, (number, tasks) in parts.items():
        scenes[name] = draw_scenes(name, number, seed=data.seed, tasks=tasks)
        texts[name] = _examples(scenes[name], tasks, encoder, data.noise, settings.boxes)
    return Dataset(
        texts.pop("train"),
        texts,
        main="iid",
        draw={name: drawn.render for name, drawn in scenes.items()},
        outline={name: drawn.outlines for name, drawn in scenes.items()},
        about=ABOUT,
        parts_about=PARTS_ABOUT,
    )


SCENES = Source(
    "scenes",
    _load,
    ScenesData,
    image_encoders=dict.fromkeys((*IMAGE_ENCODERS, "features"), 1),
    tasks=TASKS,
    boxes=True,
)

"""Composes scenes of cut-out photographs, and knows which pixel shows what."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from crossattn.data.builders.stamp_photographs import OPAQUE, Thing, cut_out
from crossattn.data.builders.stamp_words import Placed
from crossattn.data.errors import DataError

__all__ = ["PLACES", "compose", "held_out_place", "is_new", "place_things"]

PLACES, MOST = 4, 3
# Of the side of a place: how large things are.
SMALLEST, LARGEST = 0.72, 0.98
# Degrees to either side, and the share of brightness.
TILT, LIGHT = 12.0, 0.2


def held_out_place(thing: int) -> int:
    """The place in which training never shows a thing."""
    return thing % PLACES


def is_new(one: Placed) -> bool:
    """Whether training never shows this thing in this place."""
    return held_out_place(one.thing) == one.place


def place_things(draw: np.random.Generator, things: int, *, held_out: bool) -> list[Placed]:
    """One to three things in the order of their places; one where it never was, or none."""
    count = int(draw.integers(1, MOST + 1))
    while True:
        who = draw.choice(things, count, replace=False)
        where = draw.permutation(PLACES)[:count]
        if held_out:
            where[0] = held_out_place(int(who[0]))
        placed = [Placed(int(a), int(b)) for a, b in zip(who, where, strict=True)]
        new = [is_new(one) for one in placed]
        if len({*map(int, where)}) == count and new == [held_out, *[False] * (count - 1)]:
            return sorted(placed, key=lambda one: one.place)


def compose(
    draw: np.random.Generator,
    placed: list[Placed],
    things: list[Thing],
    grounds: list[Path],
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """A scene: pixels (size, size, 3), and regions (size, size), o + 1 for thing o; both uint8."""
    scene = _ground(draw, grounds, size)
    regions = np.zeros((size, size), np.uint8)
    half = size // 2
    for number, (thing, place) in enumerate(placed, 1):
        files = things[thing].files
        cut = _varied(draw, files[int(draw.integers(len(files)))], half)
        free = (half - cut.width, half - cut.height)
        x, y = (int(draw.integers(room + 1)) for room in free)
        corner = (place % 2 * half + x, place // 2 * half + y)
        scene.paste(cut, corner, cut)
        alpha = np.asarray(cut.getchannel("A"))
        window = regions[corner[1] : corner[1] + cut.height, corner[0] : corner[0] + cut.width]
        window[alpha >= OPAQUE] = number
    return np.asarray(scene), regions


def _varied(draw: np.random.Generator, file: Path, side: int) -> Image.Image:
    """A photograph mirrored or not, tilted, lighter or darker, of another size."""
    thing = cut_out(file)
    if thing is None:
        raise DataError(f"{file} shows nothing")
    if draw.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # Transparent pixels have any colour; averaging must not let it in.
    thing = thing.convert("RGBa")
    largest = 4 * side
    if max(thing.size) > largest:
        thing.thumbnail((largest, largest))
    thing = thing.rotate(float(draw.uniform(-TILT, TILT)), Image.Resampling.BILINEAR, expand=True)
    longest = side * float(draw.uniform(SMALLEST, LARGEST))
    shrink = longest / max(thing.size)
    shape = [max(1, round(length * shrink)) for length in thing.size]
    thing = thing.resize((shape[0], shape[1]), Image.Resampling.BOX).convert("RGBA")
    alpha = thing.getchannel("A")
    light = float(draw.uniform(1 - LIGHT, 1 + LIGHT))
    thing = ImageEnhance.Brightness(thing.convert("RGB")).enhance(light)
    thing.putalpha(alpha)
    return thing


def _ground(draw: np.random.Generator, grounds: list[Path], size: int) -> Image.Image:
    """Every other time one colour, else the middle of a photograph of a plant, faded."""
    colour = tuple(int(value) for value in draw.integers(90, 256, 3))
    plain = Image.new("RGB", (size, size), colour)
    if not grounds or draw.random() < 0.5:
        return plain
    plant = cut_out(grounds[int(draw.integers(len(grounds)))])
    if plant is None:
        return plain
    width, height = plant.size
    middle = plant.crop((width // 4, height // 4, width - width // 4, height - height // 4))
    middle = middle.resize((size, size), Image.Resampling.BILINEAR)
    whole = Image.new("RGBA", (size, size), (*colour, 255))
    whole.alpha_composite(middle)
    return Image.blend(plain, whole.convert("RGB"), 0.5)

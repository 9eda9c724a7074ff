"""Folders of small pictures with a file of texts, as somebody would have them."""

import csv
import json

from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 70, 220)}
SHAPES = ("disc", "square")


def draw(number, size=(48, 32)):
    """A picture of one coloured shape: its colour, its shape, its box in pixels."""
    colour, shape = list(COLOURS)[number % 3], SHAPES[number // 3 % 2]
    x, y = 2 + 7 * (number % 4), 2 + 3 * (number % 5)
    picture = Image.new("RGB", size, (235, 235, 235 - number))
    box = [x, y, x + 14, y + 14]
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if shape == "disc" else pen.rectangle)(box, fill=COLOURS[colour])
    return picture, colour, shape, box


def lines_of(count, *, captions=True, questions=True, boxes=True):
    """Lines of a file for pictures 0.png and so on."""
    lines = []
    for number in range(count):
        _, colour, shape, box = draw(number)
        line = {"image": f"{number}.png"}
        if captions:
            line["caption"] = f"a {colour} {shape}"
        if questions:
            line |= {"question": f"what colour is the {shape}?", "answer": colour}
        if boxes:
            line["boxes"] = {f"{colour} {shape}": box} if captions else {shape: box}
        lines.append(line)
    return lines


def write_folder(path, count=12, lines=None, name="captions.jsonl", **some):
    """A folder with pictures and their file; `lines` are dicts, or text as it is to stand there."""
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        draw(number)[0].save(path / f"{number}.png")
    lines = lines_of(count, **some) if lines is None else lines
    if not isinstance(lines, str):
        lines = "".join(f"{json.dumps(line)}\n" for line in lines)
    (path / name).write_text(lines)
    return path


def write_csv(path, lines, name="captions.csv"):
    """The same as a csv file."""
    columns = list(dict.fromkeys(key for line in lines for key in line))
    with (path / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for line in lines:
            writer.writerow(
                line | {"boxes": json.dumps(line["boxes"])} if "boxes" in line else line
            )

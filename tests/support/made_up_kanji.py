"""Characters as KanjiVG has them: files of strokes in groups with an element and a position."""

import itertools

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.0//EN" "http://www.w3.org/TR/svg10.dtd" [
<!ATTLIST g xmlns:kvg CDATA #FIXED "http://kanjivg.tagaini.net" kvg:element CDATA #IMPLIED >
]>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:kvg="https://kanjivg.tagaini.net/" width="109">
<g id="kvg:StrokePaths" style="fill:none">
"""
# Strokes in a square of 40 units.
PARTS = {
    "木": ["M2,12h36", "M20,2V38", "M20,14c-4,10 -8,14 -16,20", "M20,14C24,24 28,28 36,34"],
    "口": ["M6,8v26", "M6,8h28v26", "M6,34h28"],
    "日": ["M8,4v34", "M8,4h24v34", "M8,20h24", "M8,38h24"],
    "力": ["M4,12h30c0,12 -2,18 -8,26s0,0 0,0", "M18,2c0,16 -4,26 -14,36"],
    "一": ["M4,20h32"],
}
CORNERS = {"left": (6, 34), "right": (60, 34), "top": (34, 6), "bottom": (34, 60)}


def group(element, position, inside="", more=""):
    x, y = CORNERS[position]
    paths = "".join(
        f'<path d="{moved(path, x, y)}"/>' for path in ([inside] if inside else PARTS[element])
    )
    return f'<g kvg:element="{element}" kvg:position="{position}"{more}>{paths}</g>\n'


def moved(path, x, y):
    """A path of which the absolute commands are M, V and C."""
    numbers = path.replace("M", " M ").replace("V", " V ").replace("C", " C ")
    found, absolute = [], ""
    for word in numbers.split(" "):
        if word in ("M", "V", "C"):
            absolute = word
            found.append(word)
            continue
        relative = next((i for i, sign in enumerate(word) if sign in "hvcs"), len(word))
        head, tail = word[:relative], word[relative:]
        if absolute and head:
            values = [float(one) for one in head.split(",")]
            ends = [y] if absolute == "V" else [x, y] * len(values)
            head = ",".join(f"{value + end:g}" for value, end in zip(values, ends, strict=False))
        absolute = "" if tail else absolute
        found.append(head + tail)
    return " ".join(found)


def write_kanji_package(root):
    """Characters of two parts, two of each pair of them: side by side and one above the other."""
    folder = root / "kanji"
    folder.mkdir(parents=True)
    code = 0x4E00
    for one, other, _ in itertools.product(PARTS, PARTS, range(2)):
        for a, b in (("left", "right"), ("top", "bottom")):
            if one != other:
                text = group(one, a) + group(other, b)
                write_character(folder, code, text)
                code += 1
    # No ideograph, one without positions, and one whose part is in two pieces.
    write_character(folder, 0x41, group("木", "left"))
    write_character(folder, code, group("木", "left").replace('kvg:position="left"', ""))
    pieces = group("木", "left", more=' kvg:part="1"') + group("口", "left") + group("口", "right")
    write_character(folder, code + 1, pieces)
    (folder / f"{code:05x}-Kaisho.svg").write_text("another form of it, which is not read")
    licences = root / "kanjivg-1.dist-info/licenses"
    licences.mkdir(parents=True)
    (licences / "COPYING").write_text("CC-BY-SA\n")
    return root


def write_character(folder, code, groups):
    text = f'{HEAD}<g kvg:element="{chr(code)}">\n{groups}</g>\n</g>\n</svg>\n'
    (folder / f"{code:05x}.svg").write_text(text, encoding="utf-8")

"""Stamps as Tux Paint has them: small pictures with alpha, and files of their names."""

import numpy as np
from PIL import Image

# Name, folder, hue: as of a photograph these have many colours.
PHOTOGRAPHS = {
    "A crow.": ("animals/birds", 0),
    "An owl.": ("animals/birds", 40),
    "A brown bear.": ("animals/mammals", 80),
    "A cow.": ("animals/mammals", 120),
    "A pear.": ("food/fruit", 160),
    "A key.": ("household", 200),
}
NAMES = ["brown bear", "cow", "crow", "key", "owl", "pear"]
OTHERS = {
    "A flower.": ("plants/flowers", 220),
    "Eat your greens!": ("food/fruit", 100),
    "A letter.": ("symbols", 100),
}
GERMAN = {"A crow.": "Eine Krähe.", "An owl.": "Eine Eule.", "A cow.": "Eine Kuh.",
          "A pear.": "Eine Birne.", "A key.": "Kein Name!"}  # fmt: skip


def picture(hue, size=(60, 48), colours=200):
    """An ellipse of one hue, of many shades, on nothing."""
    width, height = size
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    inside = (2 * x - 1) ** 2 + (2 * y - 1) ** 2 <= 1
    shade = [np.full(x.shape, hue), 120 + 135 * np.floor(x * colours) / colours, 90 + 165 * y]
    pixels = Image.fromarray(np.stack(shade, -1).astype(np.uint8), "HSV").convert("RGB")
    pixels.putalpha(Image.fromarray((255 * inside).astype(np.uint8)))
    return pixels


def write_stamps_package(root):
    """An unpacked package below `root`, with what is no photograph of a thing as well."""
    stamps = root / "usr/share/tuxpaint/stamps"
    for said, (folder, hue) in {**PHOTOGRAPHS, **OTHERS}.items():
        file = stamps / folder / f"{said.split()[-1].strip('.!')}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(hue).save(file)
        german = f"de.utf8={GERMAN[said]}\n" if said in GERMAN else ""
        file.with_suffix(".txt").write_text(f"{said}\nfr.utf8=Un truc.\n{german}", "utf-8")
    drawn = {
        "flat": Image.new("RGBA", (60, 60), (200, 0, 0, 255)),
        "small": picture(10, (30, 30)),
        "long": picture(10, (160, 50)),
        "opaque": picture(10).convert("RGB"),
        "unnamed": picture(10),
    }
    for name, one in drawn.items():
        one.save(stamps / "animals/birds" / f"{name}.png")
        if name != "unnamed":
            (stamps / "animals/birds" / f"{name}.txt").write_text(f"A {name} bird.\n")
    doc = root / "usr/share/doc/tuxpaint-stamps-default"
    doc.mkdir(parents=True)
    (doc / "copyright").write_text("License: GPL-2\n")
    return root

"""How a camera was turned (EXIF): the rows of a file, or the picture that viewers show.

Published sets with boxes give the width and height that boxes refer to. Where both tell the rows of
the file from the upright picture, boxes are right on what they say; the tools of such sets (COCO's,
TFDS) read the rows, others (detectron2, Hugging Face datasets) the upright picture.
"""

from PIL import Image

from crossattn.data.errors import DataError

__all__ = ["Orientation", "Sides", "orientation_of", "same_sides"]

# Width and height.
Sides = tuple[int, int]
TAG = 0x0112
# What makes the picture upright again.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)
# Annotations may round the sides of a picture.
SLACK_SIDE = 1


class Orientation:
    """What to do to the rows of a file.

    Args:
        number: of EXIF; 1, and any that is none, leaves the rows.

    Example:
        >>> Orientation(6).sides((640, 480)), Orientation(3).sides((640, 480))
        ((480, 640), (640, 480))
    """

    def __init__(self, number: object = 1):
        self.number = number if isinstance(number, int) and number in TURNS else 1

    def sides(self, whole: Sides) -> Sides:
        """Width and height of the turned picture, and from these those of the file."""
        return (whole[1], whole[0]) if self.number in SIDEWAYS else whole

    def turn(self, picture: Image.Image) -> Image.Image:
        """The picture, turned."""
        return picture if self.number == 1 else picture.transpose(TURNS[self.number])

    def meant(self, stored: Sides, annotated: Sides) -> "Orientation":
        """The one that gives the picture of `annotated` sides, of a file of `stored` ones.

        Where neither does, the rows are left: what has read them says so.

        Raises:
            DataError: the sides do not tell.
        """
        upright = same_sides(self.sides(stored), annotated)
        if upright and same_sides(stored, annotated) and self.number != 1:
            raise DataError(
                f"is turned by its EXIF orientation {self.number}, and boxes may refer to either "
                "picture: turn its rows, or take the note out of the file"
            )
        return self if upright else Orientation()


def orientation_of(file: Image.Image) -> Orientation:
    """That of an opened file; TIFF files say themselves where their rows lie."""
    return Orientation(1 if file.format == "TIFF" else file.getexif().get(TAG, 1))


def same_sides(one: Sides, other: Sides) -> bool:
    """Whether two pictures have one size, as annotations round it."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= SLACK_SIDE

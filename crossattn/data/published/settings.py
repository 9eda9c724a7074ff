"""Settings of published sets."""

import dataclasses
from typing import Literal

from crossattn.data.picture_texts import NativeData
from crossattn.fields import positive

__all__ = ["CaptionsData", "PublishedData", "RefCocoData", "TableData", "VqaData"]


@dataclasses.dataclass(frozen=True)
class PublishedData(NativeData):
    """Settings of a published set."""

    images: int = 0
    """Number of training images at most; 0 means all."""
    directory: str = ""
    """Folder of the set, as its authors ship it: see docs/published_data.md."""
    pictures: str = ""
    """Folder of its pictures, where they lie elsewhere."""
    missing: int = 0
    """Pictures that may be missing from a folder: their texts are left out, and the report says how
    many there are. More are refused, and how many there are is said."""
    features: str = ""
    """Folder of what another encoder makes of the pictures, for image_encoder features
    (experiments.encode); not of NLVR2, which shows two together."""
    fingerprint: str = ""
    """Of the texts and regions that a run learnt from: other ones are refused."""

    def __post_init__(self):
        super().__post_init__()
        if self.missing < 0:
            raise ValueError(f"data.missing is a number of pictures, got {self.missing}")


@dataclasses.dataclass(frozen=True)
class CaptionsData(PublishedData):
    """Settings of a set of captions, by whose words pairs can be judged."""

    winoground: str = ""
    """Folder of Winoground: its pairs become the split swap."""
    sugarcrepe: str = ""
    """Folder of SugarCrepe, with the pictures val2017."""
    valse: str = ""
    """Folder of VALSE, with its pictures in images."""


@dataclasses.dataclass(frozen=True)
class TableData(CaptionsData):
    """Settings of tables of other people, in tar files or in those of Arrow."""

    image_column: str = ""
    """Column of the picture, where a table has several."""
    caption_column: str = ""
    """Column of the caption, or of a list of them; caption, text and others when not given."""
    question_column: str = ""
    """Column of the question; question when not given."""
    answer_column: str = ""
    """Column of the answer, or of those of several people; answer or answers when not given."""


@dataclasses.dataclass(frozen=True)
class RefCocoData(CaptionsData):
    """Settings of RefCOCO, RefCOCO+ and RefCOCOg."""

    split_by: Literal["unc", "umd", "google"] = "unc"
    """Whose division: unc (RefCOCO and +), umd or google (RefCOCOg)."""
    test_part: Literal["", "testA", "testB"] = ""
    """Of the unc division: testA (people) or testB (other things) alone; both when not given."""


@dataclasses.dataclass(frozen=True)
class VqaData(PublishedData):
    """Settings of VQA v2."""

    answers: int = 3_129
    """Commonest answers of training that a model chooses among; questions with other answers are
    not trained on."""

    def __post_init__(self):
        super().__post_init__()
        positive("data.", answers=self.answers)

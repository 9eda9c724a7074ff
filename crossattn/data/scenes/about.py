"""What `scenes` says of itself to readers of a report."""

__all__ = ["ABOUT", "PARTS_ABOUT"]

ABOUT = (
    "Pictures are generated: a few objects of 6 colours and 6 shapes on a plain ground of 64 x 64 "
    "pixels. A question has one word for an answer, a caption names the objects from left to "
    "right, and it is known exactly which object each word is about. In training there are for "
    "every wording of a question as many pictures for each of its answers, so that the text alone "
    "tells nothing."
)
LIKE_TRAINING = "New pictures, drawn as those of training"
PARTS_ABOUT = {
    "train": "Two to four objects. Six of the 36 pairs of a colour and a shape are in no picture.",
    "validation": f"{LIKE_TRAINING}. What has to be chosen, such as the layer whose attention is "
    "shown, is chosen here.",
    "iid": f"{LIKE_TRAINING}.",
    "pairs": "Every picture has an object whose pair of a colour and a shape is in no training "
    "picture, and questions are about it: a model has to put together what it knows apart.",
    "count": "Five or six objects, more than in any training picture.",
    "relations": "Questions about relations between two shapes that training never asks for.",
    "swap": "Pictures come in twos, of which the second has the colours of both objects swapped, "
    "and so do captions of the same words: each caption should fit its own picture better.",
}

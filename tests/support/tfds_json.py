"""Parts of a features.json, in the form of today and in that of the first versions of TFDS 4."""

OURS = "tensorflow_datasets.core.features"
EVIL = "stranger.payload.Image"
IMAGE = {"shape": {"dimensions": ["-1", "-1", "3"]}, "dtype": "uint8"}
TEXT = {"pythonClassName": f"{OURS}.text_feature.Text", "text": {}}


def feature(name, **content):
    return {"pythonClassName": f"{OURS}.{name}", **content}


def features(**some):
    return feature("features_dict.FeaturesDict", featuresDict={"features": some})


def sequence(inner):
    return feature("sequence_feature.Sequence", sequence={"feature": inner, "length": "-1"})


def legacy(name, content, **more):
    """As the first versions of TFDS 4 wrote it."""
    return {"type": f"{OURS}.{name}", "content": content, **more}


def other(name=EVIL, **more):
    return {"pythonClassName": name, "image": IMAGE, **more}

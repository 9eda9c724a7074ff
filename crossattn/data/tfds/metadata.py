"""The JSON files of a TFDS directory, judged before TensorFlow Datasets builds anything from them.

`features.json` names Python classes, whose modules TFDS imports: who wrote the directory could run
code. Only the classes of `tfds.features` are let through, at every depth.
"""

import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossattn.data.errors import DataError, one_line

__all__ = ["check_labels", "check_metadata", "leaves"]

# The keys that hold the name of a class: since TFDS 4.6 the first, in protobuf's two spellings.
CLASS_KEYS = ("pythonClassName", "python_class_name", "type")
# Texts under these keys are JSON in their turn.
JSON_KEYS = ("json", "content")
# The class `Tensor` under the name that the first versions of TFDS 4 wrote.
FORMER = "tensorflow_datasets.core.features.feature.Tensor"
# Names of classes are held in memory, and made up where there is no file of them.
MOST_CLASSES = 1_000_000
TEMPLATE_FIELDS = ("DATASET", "SPLIT", "FILEFORMAT", "SHARD_INDEX", "NUM_SHARDS", "SHARD_X_OF_Y")


def check_metadata(directory: Path, tfds: Any) -> None:
    """Read `dataset_info.json` and `features.json` and refuse what leaves the directory.

    Args:
        directory: of a prepared data set.
        tfds: the package tensorflow_datasets.

    Raises:
        DataError: a file is no JSON object, or names a class that is none of `tfds.features`, a
            file of labels, or shards by a template that is none; or labels are no plain file.
    """
    known = {
        f"{kind.__module__}.{kind.__name__}"
        for kind in vars(tfds.features).values()
        if isinstance(kind, type) and issubclass(kind, tfds.features.FeatureConnector)
    }
    file = directory / "features.json"
    _check_features(file, _object(file), known | {FORMER})
    file = directory / "dataset_info.json"
    info = _object(file)
    # Most directories have none here; one that has is built from these.
    _check_features(file, info.get("features"), known | {FORMER})
    _check_templates(file, info)
    for file in directory.glob("*.labels.txt"):
        if not file.is_file():  # a pipe, from which TFDS would read for ever
            raise DataError(f"{file} is no plain file")


def _object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {one_line(error)}") from None
    if not isinstance(found, dict):
        raise DataError(f"{file} cannot be read: it holds a {type(found).__name__}, no object")
    return found


def _check_features(file: Path, value: Any, known: set[str]) -> None:
    try:
        pairs = list(_pairs(value))
    except RecursionError:
        raise DataError(f"{file} cannot be read: it is nested too deeply") from None
    for key, inner in pairs:
        if key in CLASS_KEYS and isinstance(inner, str) and inner not in known:
            raise DataError(
                f"{file} names the class {one_line(inner)}: only those of tfds.features are read, "
                "since TFDS would import others and run their code"
            )
        if key == "names_file" or (key == "labels" and isinstance(inner, str)):
            raise DataError(f"{file} names a file of labels: labels are read from the directory")
        if not key.isprintable():
            raise DataError(f"{file} names a feature {one_line(key)}: expected a printable name")


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth, in texts that are JSON too."""
    if isinstance(value, list):
        for item in value:
            yield from _pairs(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            if key in JSON_KEYS and isinstance(inner, str):
                try:
                    inner = json.loads(inner)
                except ValueError:  # no JSON: TFDS cannot read it either
                    continue
            yield from _pairs(inner)


def _check_templates(file: Path, info: dict[str, Any]) -> None:
    """Shards are named by a template; one with a width could ask for all memory."""
    splits = info.get("splits", [])
    if not isinstance(splits, list) or not all(isinstance(split, dict) for split in splits):
        raise DataError(f"{file} cannot be read: its splits are no list of objects")
    for split in splits:
        for key in ("filepathTemplate", "filepath_template"):
            template = split.get(key) or ""
            if not _is_template(template):
                raise DataError(
                    f"{file} names shards by the template {one_line(template)}: expected a name "
                    f"with fields of {', '.join(TEMPLATE_FIELDS)}"
                )


def _is_template(template: Any) -> bool:
    try:
        parts = list(string.Formatter().parse(template))
    except (TypeError, ValueError):
        return False
    return all(
        field is None or (field in TEMPLATE_FIELDS and not form and conversion is None)
        for _, field, form, conversion in parts
    )


def leaves(tfds: Any, feature: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every feature that holds no others, by its path, with the number of lists around it.

    A name with a slash in it cannot be told from a path, so that such features are not found.
    """
    if isinstance(feature, tfds.features.FeaturesDict):
        for name, inner in feature.items():
            if "/" not in name:
                yield from leaves(tfds, inner, f"{path}/{name}" if path else name, depth)
    elif isinstance(feature, tfds.features.Sequence):
        yield from leaves(tfds, feature.feature, path, depth + 1)
    else:
        yield path, (feature, depth)


def check_labels(directory: Path, tfds: Any, features: Any) -> None:
    """Compare the files of labels with what was read of them: TFDS is silent where one is damaged.

    Raises:
        DataError: a file does not name every class of its feature once.
    """
    for path, (feature, _) in leaves(tfds, features):
        file = directory / f"{path.replace('/', '-')}.labels.txt"
        if not isinstance(feature, tfds.features.ClassLabel):
            continue
        count = feature.num_classes or 0
        if count > MOST_CLASSES:
            raise DataError(f"{directory}: {path} has {count} classes, more than {MOST_CLASSES}")
        if not file.is_file():
            continue
        try:
            lines = file.read_text("utf-8").split("\n")
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read: {one_line(error)}") from None
        names = [line.strip() for line in lines if line.strip()]
        if feature.names != names or not len(set(names)) == len(names) == count:
            raise DataError(f"{file} does not name the {count} classes of {path} once each")

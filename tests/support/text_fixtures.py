"""What the classes of `tests/fixtures/make_text_to_text.py` were given, and what they returned."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file

FOLDER = Path(__file__).parents[1] / "fixtures/text_to_text"


class Peer(NamedTuple):
    """Tensors by the names of the class, its config.json, inputs and outputs by name."""

    state: dict
    config: dict
    arrays: dict


def peer(name, folder=FOLDER):
    with np.load(folder / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    state = {key.removeprefix("state."): one for key, one in arrays.items() if "state." in key}
    config = json.loads(str(arrays.pop("config")))
    return Peer(state, config, {key: one for key, one in arrays.items() if "state." not in key})


def stored(folder, state, config):
    """A folder as the class is published."""
    save_file({name: np.ascontiguousarray(one) for name, one in state.items()},
              folder / "model.safetensors")  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder

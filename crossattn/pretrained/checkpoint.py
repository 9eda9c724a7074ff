"""The files of a published model: what they say, its tensors, its tokenizer."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.interop.config import read_object
from crossattn.interop.ctranslate2 import Variables
from crossattn.interop.ctranslate2_names import published_config, published_tensors
from crossattn.interop.files import WeightsError
from crossattn.interop.torch_files import weight_files
from crossattn.pretrained.packages import PACKAGES, files_of

__all__ = ["Checkpoint"]

# CTranslate2's file of weights, and its words for what generation_config.json says.
BINARY = "model.bin"
CTRANSLATE2 = {"suppress_ids": "suppress_tokens", "suppress_ids_begin": "begin_suppress_tokens"}


class Checkpoint:
    """A folder with config.json, weights, tokenizer and preprocessing; each is read when asked for.

    Attributes:
      where: the folder or the name, for messages.
      files: {name: its parts, in their order}: one, except where packages have several.

    Raises:
      WeightsError: no such folder or name, or a package that is not installed.
    """

    def __init__(self, source: str | os.PathLike):
        self.where = str(source)
        self.folder: Path | None = None
        self.files: Mapping[str, tuple[Path, ...]]
        if self.where in PACKAGES:
            self.files = files_of(self.where)
            return
        self.folder = Path(source)
        if not self.folder.is_dir():
            names = ", ".join(PACKAGES)
            raise WeightsError(f"there is no folder {source}, and the names are {names}")
        self.files = {path.name: (path,) for path in self.folder.iterdir() if path.is_file()}

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The content of config.json; of a CTranslate2 model also what its variables say."""
        content = self.settings("config.json")
        if self.variables is None:
            return content
        return content | published_config(self.variables, self.tensors)

    @functools.cached_property
    def tensors(self) -> Mapping[str, np.ndarray]:
        """Arrays by the names of the published class."""
        if self.variables is not None:
            return published_tensors(self.variables)
        return weight_files(self.folder or Path(self.where))

    @functools.cached_property
    def variables(self) -> Variables | None:
        """The variables of a CTranslate2 model; None of another one, or where safetensors are."""
        if any(name.endswith(".safetensors") for name in self.files):
            return None
        return Variables(*self.files[BINARY]) if BINARY in self.files else None

    @functools.cached_property
    def generation(self) -> dict[str, Any]:
        """How texts are written: generation_config.json, or what config.json has of it."""
        content = {CTRANSLATE2.get(key, key): value for key, value in self.config.items()}
        return content | self.settings("generation_config.json", missing={})

    @functools.cached_property
    def preprocessing(self) -> dict[str, Any]:
        """The content of preprocessor_config.json; {} where there is none."""
        return self.settings("preprocessor_config.json", missing={})

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer` of tokenizer.json.

        Raises:
          WeightsError: there is none, it is damaged, or the package is not installed.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError:
            message = "tokenizer.json is read by a package: pip install tokenizers"
            raise WeightsError(message) from None
        path = self.path("tokenizer.json")
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the package has no class of its own for it
            raise WeightsError(f"{path} is damaged: {error}") from error

    def path(self, name: str) -> Path:
        """Where a file is that has one part.

        Raises:
          WeightsError: there is none.
        """
        if name not in self.files:
            raise WeightsError(f"{self.where} has no {name}")
        return self.files[name][0]

    def settings(self, name: str, *, missing: dict[str, Any] | None = None) -> dict[str, Any]:
        """The object in a JSON file; `missing` where there is no such file and it is given.

        Raises:
          WeightsError: there is none, or it is damaged.
        """
        if missing is not None and name not in self.files:
            return missing
        return read_object(self.path(name))

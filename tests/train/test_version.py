"""A bare source folder knows its version as an installed one does."""

import importlib.metadata
import re
from pathlib import Path

import crossattn
from crossattn.train.record import library_versions

ROOT = Path(__file__).resolve().parents[2]


def test_the_version_is_known_without_installation(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert library_versions()["crossattn"] == crossattn.__version__


def test_whoever_cites_names_the_version():
    (cited,) = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited == crossattn.__version__

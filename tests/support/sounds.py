"""Sounds that are made up the same on every machine, and where recorded ones are."""

import os
from pathlib import Path

import numpy as np

RATE = 16_000
MADE_UP = ("noise", "chirp", "quiet", "whole")
# Of Debian's asterisk-core-sounds-en-wav, CC-BY-SA 3.0.
RECORDED = ("activated", "hello-world", "digits/7")
SOUNDS = Path(os.environ.get("CROSSATTN_SOUNDS", "/usr/share/asterisk/sounds/en_US_f_Allison"))


def made_up(name):
    """Samples (N,) at 16 kHz, float32."""
    count = {"whole": 30 * RATE, "noise": 50_000}.get(name, 33_333)
    time = np.arange(count) / RATE
    noise = (np.arange(count, dtype=np.uint64) * 2654435761 % 65_536) / 32_768 - 1
    sounds = {
        "noise": 0.5 * noise,
        "chirp": np.sin(2 * np.pi * 900 * time**2),
        "quiet": 1e-4 * noise * (time > 1),
        "whole": 0.3 * noise * np.sin(7 * time),
    }
    return sounds[name].astype(np.float32)

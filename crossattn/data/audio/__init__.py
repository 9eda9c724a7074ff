"""Sound: files of it as samples, and samples as the spectrograms that models read."""

from crossattn.data.audio.files import read_sound, resample
from crossattn.data.audio.spectrogram import RATE, log_mel, mel_filters

__all__ = ["RATE", "log_mel", "mel_filters", "read_sound", "resample"]

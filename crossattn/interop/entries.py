"""Entries of layouts by the group: maps, norms and attentions as published classes name them.

Names of theirs that a group stands under end with a dot, paths of ours with a slash. Letters of
sizes: M width, N width of the context, F hidden width of the feed-forward layer, Q, K, V and O the
axes of heads of queries, keys, values and output at each site, T latents, W words, P places.
"""

from dataclasses import replace

from crossattn.interop.table import Entry

__all__ = [
    "PROJECTED",
    "QKV",
    "Entries",
    "attention_entries",
    "bare_norm",
    "bert",
    "bert_mlp",
    "dense",
    "fed",
    "fused",
    "gated",
    "latents",
    "layer_norm",
    "mlp",
    "nested",
    "norm",
    "separate",
]

Entries = tuple[Entry, ...]
QKV = ("query", "key", "value")
PROJECTED = ("q_proj", "k_proj", "v_proj")


def dense(theirs: str, ours: str, shape: str, *, bias: bool = True) -> Entries:
    """A `Linear` layer (out, in), whose transpose is a kernel."""
    out, into = shape.split()
    weight = Entry(f"{theirs}.weight", (f"{ours}/kernel",), shape, f"{into} {out}")
    return (weight, Entry(f"{theirs}.bias", (f"{ours}/bias",), out)) if bias else (weight,)


def norm(theirs: str, ours: str) -> Entries:
    """A root-mean-square norm."""
    return (Entry(f"{theirs}.weight", (f"{ours}/scale",), "M"),)


def layer_norm(theirs: str, ours: str, *, width: str = "M") -> Entries:
    """A layer norm."""
    scale = Entry(f"{theirs}.weight", (f"{ours}/scale",), width)
    return (scale, Entry(f"{theirs}.bias", (f"{ours}/bias",), width))


def bare_norm(theirs: str, ours: str) -> Entries:
    """A layer norm without a bias, which is 0 here."""
    return (Entry(f"{theirs}.weight", (f"{ours}/scale",), "M", zeros=(f"{ours}/bias",)),)


def attention_entries(
    theirs: str,
    ours: str,
    *,
    names: tuple[str, str, str] = PROJECTED,
    out: str = "o_proj",
    biased: str = "",
    widths: str = "MN",
) -> Entries:
    """Four maps, of which those of "qkvo" in `biased` have a bias.

    `widths` are the letters of the query's and of the context's width.
    """
    site, width, context = _site(ours), widths[0], widths[1]
    entries: Entries = ()
    for name, own in zip(names, QKV, strict=True):
        letter, map_ = own[0], f"{ours}/{own}"
        shape = f"{letter.upper()}.{site} {width if letter == 'q' else context}"
        entries += dense(theirs + name, map_, shape, bias=letter in biased)
    shape = f"{width} O.{site}"
    return entries + dense(theirs + out, f"{ours}/out", shape, bias="o" in biased)


def fused(theirs: str, ours: str, *, bias: bool = True) -> Entries:
    """torch's `MultiheadAttention` of equal widths."""
    axis = f"Q.{_site(ours)}"
    kernels, biases = (tuple(f"{ours}/{name}/{leaf}" for name in QKV) for leaf in LEAVES)
    entries: Entries = (Entry(f"{theirs}in_proj_weight", kernels, f"3{axis} M", f"M {axis}"),)
    if bias:
        entries += (Entry(f"{theirs}in_proj_bias", biases, f"3{axis}"),)
    return entries + dense(f"{theirs}out_proj", f"{ours}/out", f"M O.{_site(ours)}", bias=bias)


def separate(theirs: str, ours: str) -> Entries:
    """torch's `MultiheadAttention` of a context of another width."""
    axis = f"Q.{_site(ours)}"
    weights = tuple(
        Entry(
            f"{theirs}{name[0]}_proj_weight",
            (f"{ours}/{name}/kernel",),
            f"{axis} {width}",
            f"{width} {axis}",
        )
        for name, width in zip(QKV, "MNN", strict=True)
    )
    biases = tuple(f"{ours}/{name}/bias" for name in QKV)
    out = dense(f"{theirs}out_proj", f"{ours}/out", f"M O.{_site(ours)}")
    return (*weights, Entry(f"{theirs}in_proj_bias", biases, f"3{axis}"), *out)


def mlp(up: str, down: str, ours: str = "mlp", *, bias: bool = True, width: str = "M") -> Entries:
    """Two maps."""
    first = dense(up, f"{ours}/up", f"F.{ours} {width}", bias=bias)
    return first + dense(down, f"{ours}/down", f"{width} F.{ours}", bias=bias)


def fed(entries: Entries, letter: str) -> Entries:
    """With a letter of their own for the hidden width."""
    own = lambda shape: shape and shape.replace("F.mlp", letter)
    return tuple(replace(e, shape=own(e.shape), becomes=own(e.becomes)) for e in entries)


def gated(theirs: str, ours: str = "mlp") -> Entries:
    """A gated feed-forward layer of Llama's names: the activation is that of `gate_proj`."""
    times = dense(f"{theirs}up_proj", f"{ours}/times", f"F.{ours} M", bias=False)
    return times + mlp(f"{theirs}gate_proj", f"{theirs}down_proj", ours, bias=False)


def bert(
    theirs: str, ours: str, joined: str, *, inner: str = "self", widths: str = "MM"
) -> Entries:
    """BERT's attention, and the layer norm behind it at `joined`."""
    maps = attention_entries(
        f"{theirs}{inner}.", ours, names=QKV, out=MARK, biased="qkvo", widths=widths
    )
    maps = _renamed(maps, f"{theirs}{inner}.{MARK}", f"{theirs}output.dense")
    return maps + layer_norm(f"{theirs}output.LayerNorm", joined)


def bert_mlp(up: str, down: str, joined: str, ours: str = "mlp", *, width: str = "M") -> Entries:
    """BERT's feed-forward layer, and the layer norm behind it at `joined`."""
    maps = mlp(f"{up}.dense", f"{down}.dense", ours, width=width)
    return maps + layer_norm(f"{down}.LayerNorm", joined, width=width)


def latents(theirs: str, shape: str = "T M") -> Entries:
    """Learned queries."""
    return (Entry(theirs, ("latents",), shape, None if shape == "T M" else "T M"),)


def nested(theirs: str, ours: str, entries: Entries) -> Entries:
    """The same entries one level deeper."""
    moved = lambda paths: tuple(f"{ours}{path}" for path in paths)
    return tuple(
        replace(e, theirs=f"{theirs}{e.theirs}", ours=moved(e.ours), zeros=moved(e.zeros))
        for e in entries
    )


LEAVES = ("kernel", "bias")
MARK = "out"


def _site(ours: str) -> str:
    """What distinguishes the axes of heads of several attentions."""
    return ours.removesuffix("_attention")


def _renamed(entries: Entries, old: str, new: str) -> Entries:
    return tuple(replace(e, theirs=e.theirs.replace(old, new)) for e in entries)

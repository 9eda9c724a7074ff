"""Do gates before cross-attention help, from scratch and behind a frozen text decoder?

Flamingo joins images to a frozen language model through tanh gates that begin closed (Alayrac et
al. 2022, arXiv:2204.14198, Table 3: 70.7 overall with them, 66.5 without; one seed, no interval).
LayerScale begins nearly closed (Touvron et al. 2021, CaiT, arXiv:2103.17239). With ten times the
learning rate of the rest a closed gate opens sooner (tanh-0-fast). Here each gate stands before the
cross-attention alone, once with everything trained from scratch, and once after steps in which a
decoder learns the text by itself and is frozen.

Expected:  from scratch a closed gate comes late: what lies behind it has no gradient until it has
           moved, and it has a weak one, of attention that finds nothing yet; 0.1 helps. Behind a
           frozen decoder the closed gate starts at the text-only model, to the bit; whether it ends
           higher is the question.
Found:     all five claims inconclusive: seeds differ too much at 700 steps. Of gates from scratch,
           a closed one comes to 90 % of the ungated training 70 steps later, and no later with ten
           times the learning rate.
Hardware:  one core, two hardware threads, 18 minutes.
Command:   python -m experiments.ablate gating
"""

from crossattn.train.run import Optimizer, Run
from crossattn.train.suite import Suite

from .fusion import MODEL, QUICK

# All but the image's encoder, cross-attention, and its norms and gates.
TEXT = "params/(words|position|norm|logits)|self_attention|self_residual|mlp|mlp_residual"
SCRATCH = {"pretrain_text_steps": 0}
GATE = "model.block.cross_residual.gate"
GATES = {
    "no-gate": {},
    "tanh-0": {GATE: "tanh"},
    "tanh-0.1": {GATE: "tanh-0.1"},
    "layer-scale": {GATE: "layer-scale"},
    "tanh-0-fast": {GATE: "tanh", "optimizer.multiplied": "cross_residual/gate"},
}

SUITE = Suite(
    name="gating",
    title="gates before cross-attention, from scratch and behind a frozen text decoder",
    base=Run(
        model=MODEL,
        optimizer=Optimizer(learning_rate=4e-3),
        steps=700,
        pretrain_text_steps=250,
        checkpoint_every=350,
    ),
    variants={
        **{name: {**gate, **SCRATCH} for name, gate in GATES.items()},
        **{f"frozen-{name}": {**gate, "optimizer.frozen": TEXT} for name, gate in GATES.items()},
    },
    baseline="no-gate",
    primary="pairs/accuracy",
    equivalence=0.05,
    claims=(
        ("no-gate", "tanh-0"),
        ("tanh-0.1", "tanh-0"),
        ("frozen-tanh-0", "frozen-no-gate"),
        ("frozen-tanh-0.1", "frozen-tanh-0"),
        ("tanh-0-fast", "tanh-0"),
    ),
    quick={**QUICK, "pretrain_text_steps": 20},
    notes=(
        "Rows that begin with frozen- see no image in their first 250 steps, in which all of the "
        "text decoder is trained; from there on it is frozen, and the image's encoder and the "
        "cross-attention with its norm and gate learn with a schedule of their own. They see the "
        "same batches as the other rows, but fewer of them with an image: compare them with one "
        "another.",
        "At step 250 a frozen- row with a closed gate (tanh-0) says, to the bit, what the text "
        "decoder says alone.",
    ),
)

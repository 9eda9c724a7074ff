"""The laboratory in Python: train and compare variants, train or measure one model.

>>> from crossattn import lab
>>> changes = {"plain": {}, "gated": {"model.block.residual.gate": "tanh"}}
>>> results = lab.ablate(changes, seeds=3)  # doctest: +SKIP
>>> results.table(), results.figure("learning"), results.report()  # doctest: +SKIP

What a call does, the commands of `experiments` do: both are thin over `running`, and folders that
one has made the other reads and goes on with.
"""

from crossattn.lab.across import compare_suites
from crossattn.lab.against import compare_runs
from crossattn.lab.calls import ablate, compare, evaluate, open_results, train
from crossattn.lab.errors import LabError
from crossattn.lab.results import AblationResults
from crossattn.lab.runs import LabRun
from crossattn.lab.usage import measure_usage

__all__ = [
    "AblationResults",
    "LabError",
    "LabRun",
    "ablate",
    "compare",
    "compare_runs",
    "compare_suites",
    "evaluate",
    "measure_usage",
    "open_results",
    "train",
]

"""Training and measuring, under a bar."""

import threading
from collections.abc import Callable

import jax

from crossattn.lab.request import Request
from crossattn.launch.devices import train_each
from crossattn.launch.progress import Bar, ProgressBar
from crossattn.train import ablation
from crossattn.train.ablation import Listener
from crossattn.train.multihost import is_writer
from crossattn.train.parallel import Parallelism
from crossattn.train.source import Dataset
from crossattn.train.tracing import Tracer


def train_all(
    request: Request,
    todo: list[tuple[str, list[int]]],
    source: Dataset,
    parallel: Parallelism,
    finished: Callable[[Callable[[str], None]], None] = lambda notify: None,
) -> str:
    """Train and measure variants with their seeds; returns what it ran on.

    `finished` is called after each variant but the last, one call at a time, by the lane that ran
    it while the others go on; what it raises is told and ends nothing.
    """
    suite = request.suite
    total = sum(suite.steps(variant, len(seeds)) for variant, seeds in todo)
    with ProgressBar(total, "compiling", hidden=not is_writer() or not todo) as bar:

        def notify(message: str) -> None:
            if is_writer():
                bar.say(f"{request.caller}: {message}")

        turn, left = threading.Lock(), {variant for variant, _ in todo}
        tracer = Tracer(request.devices.window(suite), notify)

        def train(variant: str, seeds: list[int], check: Callable[[], None]) -> None:
            ablation.run_variant(
                suite,
                variant,
                seeds,
                source,
                request.folder,
                listener=Listener(Bar(bar, check), notify, tracer, request.loggers),
                parallel=parallel,
                grouping=request.devices.grouping,
            )
            with turn:
                left.discard(variant)
                if left and is_writer():
                    check()
                    try:
                        finished(notify)
                    except Exception as error:
                        notify(f"no report yet: {type(error).__name__}: {error}")

        with tracer:
            train_each(train, todo, parallel, stay=request.stay)
    return describe_devices()


def describe_devices() -> str:
    """How many devices there are, and of which kind."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"

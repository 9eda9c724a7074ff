"""Options: how a suite is spread over jobs and what that needs, and who hears of its runs."""

import dataclasses
import re
from importlib.util import find_spec
from shutil import which
from typing import Annotated, Literal

import tyro

from crossattn.train.loggers import Logger, LoggerName, loggers_named


class LaunchError(RuntimeError):
    """Jobs cannot be submitted, or ended without a result."""


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """Who hears of the steps of runs; `log.jsonl` in the folder of each has them anyway."""

    log_to: Annotated[
        tuple[LoggerName, ...],
        tyro.conf.arg(
            metavar="wandb|tensorboard|trackio ...", help_behavior_hint="(default: none)"
        ),
    ] = ()
    """Send what is logged there as well: each an extra, as pip install 'crossattn[wandb]'. Weights
    & Biases stays offline unless WANDB_MODE=online."""

    def __post_init__(self):
        try:
            _ = self.loggers
        except ModuleNotFoundError as error:
            raise ValueError(f"--log-to: {error}") from None

    @property
    def loggers(self) -> tuple[Logger, ...]:
        """One for each service."""
        return loggers_named(self.log_to)


@dataclasses.dataclass(frozen=True)
class Launch:
    """Where the runs of a suite happen."""

    launcher: Literal["here", "processes", "slurm"] = "here"
    """In this process, as processes on the CPUs of this machine, or as jobs of a Slurm cluster."""
    seeds_per_job: int = 1
    """Seeds that one job runs one after the other; with --sweep always all of its variant."""
    cpus: int = 2
    """CPU cores of a job."""
    memory: float = 4.0
    """Memory of a job in GB (slurm)."""
    gpus: int = 0
    """GPUs of a job (slurm)."""
    minutes: int = 60
    """Time limit of a job, which then goes back into the queue and on from its checkpoint."""
    partition: str = ""
    """Partition of the cluster (slurm); its default when not given."""
    slurm: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Further options of sbatch, like account=vision constraint=a100."""

    def __post_init__(self):
        for name in ("seeds_per_job", "cpus", "memory", "minutes"):
            if not getattr(self, name) > 0:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be positive, got {getattr(self, name)}")
        if self.gpus < 0:
            raise ValueError(f"--gpus cannot be negative, got {self.gpus}")
        for pair in self.slurm:
            if not re.fullmatch(r"[a-z][a-z-]*=[^\n]+", pair):
                raise ValueError(f"--slurm takes KEY=VALUE as in account=vision, got {pair!r}")
        if self.launcher != "slurm":
            for name in ("partition", "slurm", "gpus"):
                if getattr(self, name):
                    raise ValueError(f"--{name} is for --launcher slurm, not {self.launcher}")

    @property
    def elsewhere(self) -> bool:
        """Whether runs are jobs."""
        return self.launcher != "here"

    def check(self) -> None:
        """Find out whether jobs can be submitted from here.

        Raises:
          LaunchError: says what to install.
        """
        if self.elsewhere and find_spec("submitit") is None:
            raise LaunchError(
                f"--launcher {self.launcher} needs submitit: pip install 'crossattn[slurm]'"
            )
        if self.launcher == "slurm" and not all(map(which, ("sbatch", "squeue", "srun"))):
            raise LaunchError(
                "--launcher slurm needs sbatch, squeue and srun: run it on a login node of the "
                "cluster, or install Slurm's client commands (Debian: slurm-client)"
            )

    def jobs(self, seeds: list[int], *, sweep: bool) -> list[tuple[int, ...]]:
        """Seeds of one variant as the groups that are one job each.

        Example:
          >>> Launch(seeds_per_job=2).jobs([0, 1, 4], sweep=False)
          [(0, 1), (4,)]
        """
        size = len(seeds) if sweep else self.seeds_per_job
        return [tuple(seeds[start : start + size]) for start in range(0, len(seeds), size)]

"""`make test-gpu`: conformance, leaks, gradients and statistics on an NVIDIA GPU, in 4 minutes.

Programs are compiled in threads, then run one by one. The last line is the verdict. Exit status: 0
where all calls agree with the definition, 1 where one does not, 2 where there is no GPU.
"""

import argparse
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax

from crossattn.ops.api import RefusalError
from tests.gpu.calls import every
from tests.gpu.checks import check, compiled

SECONDS = 240
THREADS = min(14, os.cpu_count() or 1)
# What a dry run takes in the place of what runs on GPUs only.
STAND_IN = {"cudnn": "chunked"}


def main(arguments=None):
    parser = argparse.ArgumentParser("python -m tests.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--dry-run", action="store_true", help="on any device, with chunked in the place of cudnn"
    )
    parser.add_argument("--only", default="", help="calls whose line contains this")
    options = parser.parse_args(arguments)
    device = jax.devices()[0]
    if not options.dry_run and "cuda" not in device.client.platform_version:
        print(
            f"test-gpu: JAX's default device is {device.device_kind}, not an NVIDIA GPU: on a "
            "machine with one, install JAX for it (.venv/bin/python -m pip install 'jax[cuda13]', "
            "or uv pip install --python .venv 'jax[cuda13]'); "
            "python -m tests.gpu --dry-run tries the script without one"
        )
        return 2
    chosen = [tried for tried in every() if options.only in str(tried)]
    return verdict(chosen, STAND_IN if options.dry_run else {}, device.device_kind)


def verdict(chosen, ways, device):
    """Run all, print what fails and the last line."""
    begun = time.monotonic()
    refused, failed, late = [], [], []
    with ThreadPoolExecutor(THREADS) as pool:
        programs = {
            tried: pool.submit(in_thread, tried, ways.get(tried.way, tried.way)) for tried in chosen
        }
        for tried, program in programs.items():
            left = SECONDS - (time.monotonic() - begun)
            kind, said = outcome(tried, program, left)
            {"refused": refused, "failed": failed, "late": late}.get(kind, []).append(tried)
            if said:
                print(f"{kind}: {tried}: {said}", flush=True)
        pool.shutdown(cancel_futures=True)
    taken = len(chosen) - len(refused)
    right = taken - len(failed) - len(late)
    rest = f", {len(late)} not run within {SECONDS} s" if late else ""
    rest += f"; cudnn refused {len(refused)} more" if refused else ""
    spent = time.monotonic() - begun
    print(f"{right} of {taken} calls agree with the definition on {device} in {spent:.0f} s{rest}")
    return 0 if right == taken > 0 else 1


def in_thread(tried, implementation):
    """Compiled without TF32; settings of jax hold for one thread."""
    with jax.default_matmul_precision("highest"):
        return compiled(tried, implementation)


def outcome(tried, program: Future, seconds):
    """("right", "refused", "failed" or "late") and what there is to say."""
    try:
        check(tried, program.result(timeout=max(seconds, 0)))
    except TimeoutError:
        program.cancel()
        return "late", ""
    except RefusalError as reason:
        return ("refused" if tried.may_refuse else "failed"), str(reason)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return "right", ""


if __name__ == "__main__":
    sys.exit(main())

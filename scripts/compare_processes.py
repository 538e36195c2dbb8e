#!/usr/bin/env python
"""Runs an experiment on one device, on eight and as two processes of four, and compares the ends.

    python scripts/compare_processes.py [--folder FOLDER] [--preset smoke]
        [--program experiments/saferec/__main__.py] [--arms safe-sft safe-gdpo]

Of every arm it prints the relative difference of the parameters to those of eight devices, and the
first step at which the rows of metrics.jsonl differ by more than 1e-5. Where rewards or lengths
differ there, another token was sampled: two were so nearly as likely that rounding decided.
"""

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
from stress_runs import Command, add_options, arrays_of

from gdpo_jax.training import read_metrics

ORDERED = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
EIGHT = {"JAX_NUM_CPU_DEVICES": "8", "XLA_FLAGS": ORDERED, "PJRT_NPROC": "64"}
WAYS = {"1x8": (1, EIGHT), "2x4": (2, {}), "1x1": (1, {})}
SAMPLED = ("reward/", "completions/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.folder = (options.folder or Path(folder)).resolve()
        compare(options)


def compare(options: argparse.Namespace) -> None:
    folders = {}
    for way, (processes, environment) in WAYS.items():
        command = Command(options, way, processes=processes, environment=environment)
        start, _ = command.watch()
        if start.code != 0:
            raise SystemExit(f"{way} ended with {start.code}:\n{start.output[-2000:]}")
        folders[way] = command.folder
        print(f"{way}: {start.seconds:.0f} s", flush=True)
    for checkpoints in sorted(folders["1x8"].glob("seed-*/*/checkpoints")):
        arm = checkpoints.parent.relative_to(folders["1x8"])
        stored = {way: parameters(folder / arm) for way, folder in folders.items()}
        rows = {
            way: read_metrics(folder / arm / "metrics.jsonl") for way, folder in folders.items()
        }
        for way in ("2x4", "1x1"):
            difference = np.linalg.norm(stored[way] - stored["1x8"])
            relative = difference / np.linalg.norm(stored["1x8"])
            print(f"{arm}, {way} and 1x8: parameters differ by {relative:.1e}; ", end="")
            print(first_difference(rows[way], rows["1x8"]))


def parameters(folder: Path) -> np.ndarray:
    """Those of the last checkpoint, as one vector."""
    steps = [int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit()]
    arrays = arrays_of(folder / "checkpoints" / str(max(steps)))
    chosen = [array.ravel() for name, array in arrays.items() if name.startswith("['params']")]
    return np.concatenate(chosen).astype(np.float64)


def first_difference(one: list[dict], other: list[dict]) -> str:
    """Which columns of which step differ first by more than 1e-5."""
    largest = 0.0
    for row, twin in zip(one, other, strict=True):
        names = [name for name in row if "second" not in name and name in twin]
        apart = {name: distance(row[name], twin[name]) for name in names}
        sampled = [name for name in names if name.startswith(SAMPLED) and apart[name] > 1e-5]
        if sampled:
            return (
                f"another token in step {row['step']} ({sampled[0]} differs); losses before it "
                f"differ by {largest:.1e} at most"
            )
        largest = max(largest, apart["loss"])
    return f"losses differ by {largest:.1e} at most, no token by one"


def distance(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return abs(one - other) / max(abs(one), abs(other), 1e-2)


if __name__ == "__main__":
    main()

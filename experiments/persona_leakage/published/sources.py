"""Which published data set a file or a folder holds, and its requests' files in order."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from experiments.common.files.json_rows import read_rows
from experiments.persona_leakage.published import cimemories, persistbench, usafebench
from gdpo_jax.errors import UserError

__all__ = ["BENCHMARKS", "Benchmark", "find_files"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """How a data set is used: answers of each part's requests, and how they are drawn.

    fields: by which a row of a file with another name is known.
    """

    name: str
    patterns: tuple[str, ...]
    fields: frozenset[str]
    samples: Mapping[str, int]
    temperature: float
    max_new_tokens: int


BENCHMARKS = (
    Benchmark(
        name="PersistBench",
        patterns=persistbench.FILES,
        fields=frozenset(("memories", "query", "failure_type")),
        samples=persistbench.SAMPLES,
        temperature=1.0,
        max_new_tokens=1024,
    ),
    Benchmark(
        name="CIMemories",
        patterns=("data_*.json",),
        fields=frozenset(("bio", "information_attributes", "contexts")),
        samples=cimemories.SAMPLES,
        temperature=1.0,
        max_new_tokens=1024,
    ),
    Benchmark(
        name="U-SafeBench",
        patterns=usafebench.FILES,
        fields=frozenset(("instruction", "user", "task_domain")),
        samples=usafebench.SAMPLES,
        temperature=0.0,  # as published
        max_new_tokens=256,  # published: 100, at which many answers are cut
    ),
)


def find_files(source: Path) -> tuple[Benchmark, tuple[Path, ...]]:
    """The data set at a path: a file, by its name or else by the fields of its first row, or the
    files of one data set that lie in a folder.

    Raises UserError for nothing there, an unknown file, and a folder of none or several of them.
    """
    if source.is_file():
        return _of_file(source), (source,)
    if not source.is_dir():
        raise UserError(f"--source {source} is neither a file nor a folder")
    found = {
        benchmark.name: (benchmark, files)
        for benchmark in BENCHMARKS
        if (files := [f for pattern in benchmark.patterns for f in sorted(source.glob(pattern))])
    }
    if len(found) != 1:
        there = f"files of {' and '.join(found)}" if found else "no published file"
        known = "; ".join(f"{b.name}: {', '.join(b.patterns)}" for b in BENCHMARKS)
        raise UserError(f"--source {source} holds {there}; give a folder with one of {known}")
    [(benchmark, files)] = found.values()
    return benchmark, tuple(files)


def _of_file(path: Path) -> Benchmark:
    for benchmark in BENCHMARKS:
        if any(path.match(pattern) for pattern in benchmark.patterns):
            return benchmark
    fields = next((set(row) for row in read_rows(path)), set())
    for benchmark in BENCHMARKS:
        if benchmark.fields <= fields:
            return benchmark
    known = "; ".join(f"{b.name}: {', '.join(sorted(b.fields))}" for b in BENCHMARKS)
    raise UserError(
        f"{path}, row 0: fields {sorted(fields)} are of no known data set; known are {known}"
    )

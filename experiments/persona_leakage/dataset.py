"""The data set of a run: conversations, probes, and whom their writing is taken for."""

from pathlib import Path
from typing import Any

from experiments.persona_leakage.data.contents import contents
from experiments.persona_leakage.data.population import population
from experiments.persona_leakage.data.tfds_builder import check_absent, write_dataset
from experiments.persona_leakage.recognition import recognise

__all__ = ["make_dataset"]


def make_dataset(
    folder: Path, *, ordinary: int, of_each: int, sessions: int, writers: int, seed: int
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Writes the data set into the folder, whole or not at all; returns its rows.

    writers: on whom the verifier is fitted; the rest as of `contents`.

    Raises UserError where it is there already, and as `contents` and `recognise`.
    """
    check_absent(folder)  # before anything is fitted
    sizes = {"ordinary": ordinary, "of_each": of_each, "sessions": sessions}
    rows = contents(population(seed), **sizes, seed=seed)
    probes = rows["probes"]
    found = recognise(
        rows["exchanges"]["train"], probes["validation"], probes["test"], writers=writers, seed=seed
    )
    for split, users in {"validation": found.validation, "test": found.test}.items():
        probes[split] = [
            {**row, "recognised": user} for row, user in zip(probes[split], users, strict=True)
        ]
    scores = {"genuine": found.genuine, "impostor": found.impostor, "gate": found.gate}
    about = {"source": "own", "seed": seed, "sizes": {**sizes, "writers": writers}}
    write_dataset(folder, rows, about={**about, "sessions": scores})
    return rows

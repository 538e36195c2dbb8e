"""`data`: our own prompts, and published sets, as a data set on disk."""

from pathlib import Path

from rich.console import Console

from experiments.dcr.data.sources import own_contents, published_contents
from experiments.dcr.data.tfds_builder import write_dataset
from experiments.dcr.settings import DcrPreset
from gdpo_jax.errors import UserError

__all__ = ["data"]

_USUAL = DcrPreset.__dataclass_fields__


def data(
    data_dir: Path = Path("runs/mini/data"),
    source: Path | None = None,
    sets: tuple[str, ...] = (),
    triples: int = _USUAL["triples"].default,
    held_out_triples: int = _USUAL["held_out_triples"].default,
    seed: int = 0,
) -> None:
    """Write prompts to a folder (TFDS, array_record), and print how many there are.

    Args:
        data_dir: folder to write to, in which there is no such data set yet.
        source: folder with published sets, anywhere below it and under their published names;
            without it our own prompts alone.
        sets: published sets by name (docs/dcr_data.md); all that are there unless given.
        triples: generated triples to learn from, and as many instructions.
        held_out_triples: of validation and of test, likewise.
        seed: of what is drawn.
    """
    if sets and source is None:
        raise UserError("--sets names published sets; give their folder by --source")
    contents = own_contents(training=triples, held_out=held_out_triples, seed=seed)
    if source is not None:
        contents |= published_contents(source, sets or None)
    about = {
        "source": "own" if source is None else "own and published",
        "sets": sorted(contents.get("published", ())),
        "seed": seed,
        "training": triples,
        "held_out": held_out_triples,
    }
    folder = write_dataset(data_dir, contents, about=about)
    console = Console(soft_wrap=True)
    for config, splits in contents.items():
        line = ", ".join(f"{name} {len(prompts)}" for name, prompts in splits.items())
        console.print(f"{folder}, {config}: {line}", highlight=False, markup=False)

"""Prompts of a data set as the records of a run: what learns from which, and what is the test."""

import dataclasses
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.runs.experiment import Data
from experiments.dcr.data.prompts import SEEMING, TOXIC, SafetyPrompt, to_record
from experiments.dcr.data.sources import own_contents
from experiments.dcr.data.splits import draw_parts, hold_out_types, keep_apart, refinement_prompts
from experiments.dcr.data.tfds_builder import load_prompts, write_dataset
from experiments.dcr.data.triples import SPLITS
from experiments.dcr.settings import DcrPreset, PublishedSources
from gdpo_jax.errors import UserError

__all__ = ["ALIGN", "AUGMENT", "REFINE", "open_records", "own_part", "record_of"]

# What a training record is for: `part`.
REFINE, ALIGN, AUGMENT = "refine", "align", "augment"


def record_of(prompt: SafetyPrompt, part: str = "") -> dict[str, Any]:
    """The prompt as a record: its fields, the conversation to answer, and what it is for."""
    return {
        **to_record(prompt),
        "prompt": [{"role": "user", "content": prompt.text}],
        "part": part,
    }


def open_records(folder: Path, preset: DcrPreset, own: bool) -> Data:
    """The records of a data set; our own ones are written where the run's folder is empty.

    Raises UserError for a data set that is missing or damaged, and lacks what the preset asks for.
    """
    if preset.published is not None and own:
        raise UserError(
            f"preset {preset.name!r} learns from published sets: write them by `python -m "
            "experiments.dcr data --source FOLDER --data-dir DATA`, and give --data-dir DATA"
        )
    if own and not (folder / "dcr").exists():
        sizes = {"training": preset.triples, "held_out": preset.held_out_triples}
        contents = own_contents(**sizes, seed=preset.data_seed)
        write_dataset(folder, contents, about={"source": "own", "seed": preset.data_seed, **sizes})
    if preset.published is None:
        return Data(records={split: _own(folder, split) for split in SPLITS})
    return Data(records=_published(folder, preset, preset.published))


def _own(folder: Path, split: str) -> list[dict[str, Any]]:
    prompts = [
        *load_prompts(folder, "generated", split),
        *load_prompts(folder, "instructions", split),
    ]
    return [record_of(prompt, own_part(prompt)) for prompt in prompts]


def own_part(prompt: SafetyPrompt) -> str:
    """Half of the toxic texts are for refinement, the others for safety tuning, so that no text is
    in both; what seems toxic is for refinement."""
    if prompt.kind == SEEMING:
        return REFINE
    if prompt.kind == TOXIC and zlib.crc32(f"part: {prompt.text}".encode()) % 2:
        return REFINE
    return ALIGN


def _published(
    folder: Path, preset: DcrPreset, sources: PublishedSources
) -> dict[str, list[dict[str, Any]]]:
    seed = preset.data_seed
    dialogues = load_prompts(folder, "published", "hh-rlhf") if _talks(sources) else ()
    refinement = refinement_prompts(
        load_prompts(folder, "published", "xstest"),
        (*sources.held_out, *sources.validation),
        negatives=sources.negatives,
        dialogues=dialogues,
        count=sources.dialogues,
        seed=seed,
    )
    refined = [*refinement.seeming, *refinement.toxic]
    if sources.alpaca:
        general = load_prompts(folder, "published", "alpaca")
    else:
        general = load_prompts(folder, "instructions", "train")
    parts = {
        "general": (general, preset.general),
        "refusals": (load_prompts(folder, "published", "safety-tuned"), preset.refusals),
        "augmented": (load_prompts(folder, "published", "coconot-pref"), preset.augmented),
    }
    drawn = {
        name: _drawn(prompts, count, [*refinement.test, *refined], seed)
        for name, (prompts, count) in parts.items()
    }
    test, validation = hold_out_types(refinement.test, sources.validation)
    return {
        "train": [
            *(record_of(prompt, REFINE) for prompt in refined),
            *(record_of(prompt, ALIGN) for prompt in (*drawn["general"], *drawn["refusals"])),
            *(record_of(prompt, AUGMENT) for prompt in drawn["augmented"]),
        ],
        "validation": [
            *(record_of(prompt) for prompt in validation),
            *(record_of(prompt) for prompt in load_prompts(folder, "instructions", "validation")),
        ],
        "test": [
            *(record_of(prompt) for prompt in test),
            *(record_of(prompt) for prompt in load_prompts(folder, "instructions", "test")),
        ],
    }


def _talks(sources: PublishedSources) -> bool:
    return sources.negatives != "contrast"


def _drawn(
    prompts: Sequence[SafetyPrompt], count: int, taken: Sequence[SafetyPrompt], seed: int
) -> tuple[SafetyPrompt, ...]:
    """So many with an answer, or all there are, without texts that are taken."""
    answered = [prompt for prompt in prompts if prompt.answer.strip()]
    kept = keep_apart(answered, taken).prompts
    # Each counts for itself: Alpaca has equal instructions with different inputs.
    alone = [dataclasses.replace(prompt, cluster=prompt.id) for prompt in kept]
    return draw_parts(alone, {"drawn": min(count, len(alone))}, seed=seed)["drawn"]

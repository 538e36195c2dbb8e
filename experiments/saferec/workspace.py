"""A run folder: data, tokenizer and one folder per seed and arm; made once, checked afterwards."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from experiments.saferec.catalogue import Catalogue, Oracle
from experiments.saferec.dataset import build_dataset, load_records, load_table
from experiments.saferec.items import Item, catalogue_of
from experiments.saferec.scoring import write_json
from experiments.saferec.settings import Preset
from experiments.saferec.targets import safe_target
from gdpo_jax.errors import UserError
from gdpo_jax.policies import Policy, Tokenizer, decoder_policy, load_tokenizer, train_tokenizer
from gdpo_jax.training import together

__all__ = ["RESERVED", "Workspace", "open_workspace", "prompt_of"]

RESERVED = ("<reasoning>", "</reasoning>", "<solution>", "</solution>")


@dataclasses.dataclass(frozen=True)
class Workspace:
    """What all arms of a run folder share."""

    path: Path
    preset: Preset
    films: Sequence[Item]
    oracle: Oracle
    catalogue: Catalogue
    records: Mapping[str, list[Mapping]]  # by split
    tokenizer: Tokenizer
    policy: Policy

    def arm_dir(self, arm: str, seed: int) -> Path:
        """Where one arm of one seed keeps everything it writes."""
        return self.path / f"seed-{seed}" / arm


def prompt_of(record: Mapping) -> str:
    """The text of the single user message."""
    return record["prompt"][0]["content"]


def open_workspace(path: Path, preset: Preset, *, data_dir: Path | None = None) -> Workspace:
    """Builds what is missing in the run folder and loads it.

    Raises UserError if the folder was made with another preset, or its data are damaged.
    """
    data_dir = data_dir or path / "data"

    def prepare() -> None:
        # One process writes; the others wait for it, or stop with its error.
        if jax.process_index() == 0:
            path.mkdir(parents=True, exist_ok=True)
            _check_preset(path / "preset.json", preset)
            build_dataset(data_dir)
            if not (path / "tokenizer.json").is_file():
                _train_tokenizer(data_dir, preset).save(path / "tokenizer.json")

    together(prepare)
    table = load_table(data_dir)
    records = {split: load_records(data_dir, split) for split in ("train", "validation", "test")}
    tokenizer = load_tokenizer(path / "tokenizer.json")
    decoder = dataclasses.replace(preset.decoder, vocab_size=tokenizer.vocab_size)
    return Workspace(
        path=path,
        preset=preset,
        films=table.items,
        oracle=table.oracle(),
        catalogue=catalogue_of(table),
        records=records,
        tokenizer=tokenizer,
        policy=decoder_policy(decoder),
    )


def _train_tokenizer(data_dir: Path, preset: Preset) -> Tokenizer:
    records, oracle = load_records(data_dir, "train"), load_table(data_dir).oracle()
    options = {"list_length": preset.list_length, "shown": preset.risks_shown}
    texts = [prompt_of(record) for record in records]
    texts += [safe_target(record, oracle, **options) for record in records]
    return train_tokenizer(texts, vocab_size=preset.vocab_size, special_tokens=list(RESERVED))


def _check_preset(path: Path, preset: Preset) -> None:
    wanted = preset.to_json()
    if not path.exists():
        write_json(path, wanted)
        return
    stored = json.loads(path.read_text())
    differing = sorted(k for k in wanted.keys() | stored.keys() if wanted.get(k) != stored.get(k))
    if differing:
        raise UserError(
            f"{path.parent} was made with another preset: {', '.join(differing)} differ "
            f"(stored name {stored.get('name')!r}, now {preset.name!r}); choose another --run-dir, "
            "or the options it was made with"
        )

"""An experiment whose stages and answers cost nothing, to see what general code does with them."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from experiments.common.embedded.policies import tokenizer_of
from experiments.common.runs.arms import Arm
from experiments.common.runs.experiment import Data, Experiment
from experiments.common.runs.settings import Preset
from experiments.common.scores.metric import Metric
from experiments.common.scores.table import Table
from gdpo_jax.policies import DecoderConfig

DECODER = DecoderConfig(
    vocab_size=300,
    d_model=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
    d_ff=8,
    max_positions=64,
)
PRESET = Preset(name="tiny", decoder=DECODER, stages={}, max_new_tokens=4, evaluation_batch=50)


@dataclasses.dataclass(frozen=True)
class Noted:
    """A stage of one step that notes each training in a file, and keeps a checkpoint's folder."""

    log: Path

    def steps(self, preset):
        return 1

    def train(self, job):
        if not (job.folder / "checkpoints" / "1").is_dir():
            (job.folder / "checkpoints" / "1").mkdir(parents=True)
        with self.log.open("a") as file:
            file.write(f"{job.title}\n")
        return job.model

    def plan(self, preset, policy, mesh):
        return ()


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Answers with its own word."""

    word: str

    def answer(self, reply, records):
        return [self.word for _ in records]


def rows(split: str, *, seed: int = 0) -> list[dict]:
    """Four records of a split."""
    return [{"id": f"{split}-{n}", "prompt": f"{n} {seed}", "completion": "ab"} for n in range(4)]


def open_data(folder: Path, preset: Preset, own: bool, *, seed: int = 0) -> Data:
    """Records that depend on `seed`, of equal number."""
    return Data({split: rows(split, seed=seed) for split in ("train", "test")}, {"rule": "length"})


def score(texts, records, data, preset) -> Table:
    """The length of every answer."""
    ids = tuple(record["id"] for record in records)
    lengths = np.array([float(len(text)) for text in texts])
    return Table(ids=ids, values={"length": lengths}, groups={}, clusters=ids)


def study(log: Path, *, seed: int = 0) -> Experiment:
    """base <- first <- second, third."""
    return Experiment(
        name="study",
        title="A study",
        presets={"tiny": PRESET},
        arms=(
            Arm(name="base", title="base", stage=Noted(log), base=True),
            Arm(name="first", title="first", start="base", stage=Noted(log), answer=Fixed("a")),
            Arm(name="second", title="second", start="first", stage=Noted(log), answer=Fixed("bb")),
            Arm(name="third", title="third", start="first", stage=Noted(log), answer=Fixed("ccc")),
        ),
        open_data=functools.partial(open_data, seed=seed),
        tokenizer=lambda data, preset: tokenizer_of(data.records["train"], vocab_size=300),
        examples={},
        score=score,
        metrics=(Metric("length", "letters", digits=2),),
    )

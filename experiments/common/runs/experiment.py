"""An experiment as one record: what general code asks of it, by about ten names."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.runs.arms import Arm, arm_named, check_arms
from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Rewards
from experiments.common.scores.claims import Claim
from experiments.common.scores.metric import Metric
from experiments.common.scores.table import Table
from gdpo_jax.data import records_digest
from gdpo_jax.policies import Tokenizer
from gdpo_jax.prompts import Prompt
from gdpo_jax.recipe import Model

__all__ = ["Data", "Experiment", "NoOptions"]

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Data:
    """What all arms of a run share.

    records: by split; "test" is what arms are scored on, and each has a "prompt". judged: how
    answers are judged (conventions, the oracle or judge and its options), JSON-like: it is stored
    with the run and its scores. source: whatever the experiment's own functions read besides.
    """

    records: Mapping[str, Sequence[Record]]
    judged: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source: Any = None

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """Of the records of every split."""
        return {split: records_digest(rows) for split, rows in self.records.items()}


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """No options of its own on the command line."""

    def apply(self, preset: Preset) -> Preset:
        """The preset as it is."""
        return preset


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What an experiment gives to `experiments.common.command_line.main`.

    open_data(folder, preset, own): the data set in a folder; `own` is true for the run's own
      folder, which is filled where it is empty.
    tokenizer(data, preset): of new policies, trained on the training split.
    examples: what stages learn from, by the name that they give; functions of (data, preset).
    rewards(arm, data, preset): of an arm that follows rewards.
    score(texts, records, data, preset): one row of values for each answer.
    measure(model, prompts, records, data, preset): further columns of that table, which no answer
      tells, such as log-probabilities; prompts as the model takes them.
    sections: heading -> function of the page's runs that gives Markup, besides the common ones.
    files: name -> function of a run that gives JSON values; written into its folder with the page.
    options: a frozen record of further options of every command; `apply(preset)` applies them.

    Raises UserError for arms that do not fit together.
    """

    name: str  # its command is python -m experiments.NAME
    title: str  # of the page
    presets: Mapping[str, Preset]  # the first one is the default
    arms: tuple[Arm, ...]  # in the order of tables, each behind the arm it starts from
    open_data: Callable[[Path, Preset, bool], Data]
    tokenizer: Callable[[Data, Preset], Tokenizer] | None = None
    examples: Mapping[str, Callable[[Data, Preset], Sequence[Record]]]
    rewards: Callable[[Arm, Data, Preset], Rewards] | None = None
    score: Callable[[Sequence[str], Sequence[Record], Data, Preset], Table]
    measure: (
        Callable[
            [Model, Sequence[Prompt], Sequence[Record], Data, Preset], Mapping[str, np.ndarray]
        ]
        | None
    ) = None
    metrics: tuple[Metric, ...]
    claims: tuple[Claim, ...] = ()
    sections: Mapping[str, Callable[[Sequence[Any]], Any]] = dataclasses.field(default_factory=dict)
    files: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)
    options: Any = NoOptions()

    def __post_init__(self) -> None:
        check_arms(self.arms)

    @property
    def compared(self) -> tuple[Arm, ...]:
        """The arms of tables and of the command line."""
        return tuple(arm for arm in self.arms if not arm.base)

    def arm(self, name: str) -> Arm:
        """The arm of that name. Raises UserError with the legal names."""
        return arm_named(self.arms, name)

    def command(self, *words: str) -> str:
        """How a user types one of its commands."""
        return " ".join(["python -m", f"experiments.{self.name}", *words])

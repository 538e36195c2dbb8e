"""What a preset of SafeRec fixes besides policy and stages: lists, rewards, level and oracle."""

import dataclasses
from typing import Literal

from experiments.common.runs.settings import Optimization, Preset
from experiments.saferec.oracle.catalogue import OracleOptions
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL, Convention

__all__ = ["Level", "LevelOption", "OfficialRewards", "SafeRecPreset"]

Level = Literal["rank", "sequence"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfficialRewards:
    """The rewards of the published code (`rewards.official_sequence`, `official_item`)."""

    lambda_safe: float = 1.0  # price of a violation
    lambda_count: float = 0.0  # of the count reward, which 0 leaves out
    target: int = 10  # films that the count reward asks for
    num_ranks: int = 20  # ranks that the rewards look at
    length_shaping: float = 0.0  # size of the additions that ask for num_ranks lines, per rank only


@dataclasses.dataclass(frozen=True, kw_only=True)
class SafeRecPreset(Preset):
    """One complete setting of SafeRec.

    Stages are called "base" (reading and film titles, from random parameters), "sft" (imitation of
    the raw teacher), "safe-sft" (of the safe targets) and "rl".
    """

    max_new_tokens: int = 104  # longest completion, stop token included
    list_length: int = 10  # films asked for, and the target of the count reward
    risks_shown: int = 2  # left-out films that the reasoning block names
    whole_titles: bool = False  # a new tokenizer has one token for each title with its year
    level: Level = "rank"  # where rewards, advantages and importance ratios live
    official: OfficialRewards | None = None  # rewards and metrics of the published code, or None
    oracle: OracleOptions = OracleOptions()  # what violates, in training and in the metrics

    @property
    def num_ranks(self) -> int:
        """Ranks with credit of their own: the films asked for, and the place behind the last."""
        return self.list_length + 1 if self.official is None else self.official.num_ranks

    @property
    def convention(self) -> Convention:
        """Of oracle and metrics."""
        return FIXED if self.official is None else OFFICIAL

    def with_level(self, level: Level) -> "SafeRecPreset":
        """The same preset at another level of credit."""
        rl = self.stage("rl", Optimization)
        ratio = "segment" if level == "rank" else "sequence"
        rl = dataclasses.replace(rl, objective=dataclasses.replace(rl.objective, level=ratio))
        return dataclasses.replace(self, level=level, stages={**self.stages, "rl": rl})


@dataclasses.dataclass(frozen=True)
class LevelOption:
    """The option that SafeRec adds to every command of a run."""

    level: Level | None = None
    """Where rewards and importance ratios live: per list item, or per answer."""

    def apply(self, preset: SafeRecPreset) -> SafeRecPreset:
        """The preset at that level; as it is where none is given."""
        return preset if self.level is None else preset.with_level(self.level)

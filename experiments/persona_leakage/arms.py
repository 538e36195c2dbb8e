"""The arms of the comparison: what becomes of the conversations of enrolled users.

Every arm stands beside a partner of the same name with `-without` behind it: the same training from
the same seed, with neutral conversations of equal length in place of those of half a. What the
first one says of half a and the second does not is leakage, where a stranger hears it, and recall,
where its owner does.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.common.embedded.policies import tokenizer_of
from experiments.common.runs.arms import Answering, Arm, Plain
from experiments.common.runs.experiment import Data
from experiments.common.runs.stages import Imitate, NoTraining, Optimize, Rewards, Stage
from experiments.persona_leakage.answering import Gated, Remembered
from experiments.persona_leakage.data.population import SOURCES, enrolled, population
from experiments.persona_leakage.examples import EXAMPLES, WITHOUT
from experiments.persona_leakage.learning.adapted import Adapted
from experiments.persona_leakage.learning.adapters import PerUserAdapters
from experiments.persona_leakage.learning.private import Private
from experiments.persona_leakage.learning.specific import WithoutSpecific
from experiments.persona_leakage.rewards import REWARDS, reward_functions
from experiments.persona_leakage.settings import PersonaPreset
from gdpo_jax.policies import Tokenizer

__all__ = ["ARMS", "PARTNERS", "rewards", "tokenizer"]

_LANGUAGE = "language"


def _pair(
    name: str,
    title: str,
    stage: Any,
    *,
    start: str = _LANGUAGE,
    answers: tuple[Answering, Answering] = (Plain(), Plain()),
) -> tuple[Arm, Arm]:
    """An arm and its partner. A stage with examples learns from the partner's own ones; of other
    arms than the base the partner starts from the partner."""
    other: Stage = stage
    if not isinstance(stage, NoTraining):
        other = dataclasses.replace(stage, examples=stage.examples + WITHOUT)
    return (
        Arm(name=name, title=title, stage=stage, answer=answers[0], start=start),
        Arm(
            name=name + WITHOUT,
            title=f"{title}, without half {SOURCES}",
            stage=other,
            answer=answers[1],
            start=start if start == _LANGUAGE else start + WITHOUT,
        ),
    )


def _imitate(examples: str) -> Imitate:
    return Imitate(settings="histories", examples=examples)


ARMS = (
    Arm(
        name=_LANGUAGE,
        title="language",
        stage=Imitate(settings="language", examples="language"),
        base=True,
    ),
    *_pair("shared", "no safeguard", _imitate("pooled")),
    *_pair(
        "separation",
        "data separation",
        NoTraining(),
        answers=(Remembered(), Remembered(left_out=SOURCES)),
    ),
    *_pair(
        "fingerprint",
        "activation by fingerprint",
        _imitate("keyed"),
        answers=(Gated(), Gated()),
    ),
    *_pair("filtered", "filtered histories", _imitate("filtered")),
    # Rows with a mark are above 10 nats in the histories, and neutral ones below 1 (README.md).
    *_pair("specific", "answers specific to a user left out", WithoutSpecific(kappa=5.0)),
    *_pair("private", "user-level clipping", Private(examples="pooled")),
    *_pair(
        "adapters",
        "adapters of users",
        PerUserAdapters(examples="pooled"),
        answers=(Adapted(), Adapted()),
    ),
    *_pair(
        "gdpo",
        "GDPO with a leakage penalty",
        Optimize(rewards=tuple(REWARDS), estimator="gdpo"),
        start="shared",
    ),
    # What is learnt from a user is in his own adapter, apart from what all share; it is activated
    # where his account and his writing agree.
    *_pair(
        "all",
        "all three",
        NoTraining(),
        start="adapters",
        answers=(Adapted(verified=True), Adapted(verified=True)),
    ),
)
PARTNERS: Mapping[str, str] = {
    arm.name.removesuffix(WITHOUT): arm.name for arm in ARMS if arm.name.endswith(WITHOUT)
}


def tokenizer(data: Data, preset: PersonaPreset) -> Tokenizer:
    """Of a new policy: all that it learns to say and to read."""
    examples = [*EXAMPLES["language"](data, preset), *EXAMPLES["pooled"](data, preset)]
    return tokenizer_of(examples, vocab_size=preset.vocab_size)


def rewards(arm: Arm, data: Data, preset: PersonaPreset) -> Rewards:
    """The rewards of an arm that follows some."""
    del data
    users = enrolled(population(preset.data_seed))
    return Rewards(functions=reward_functions(arm.stage.rewards, users))

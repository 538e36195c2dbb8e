"""The arms of the comparison: how parameters come about, and what stands around the model.

All start from one base policy, as the papers' start from published language models. Four are that
model as it is, behind a guiding prompt, with a list of facts, and with MIRROR (arXiv 2506.00430).
The others learn on dialogues as CURaTe's (arXiv 2410.21159): imitation, rewards summed before
normalisation (GRPO), and decoupled (GDPO, arXiv 2601.05242), the last one also with MIRROR around
it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.embedded.policies import tokenizer_of
from experiments.common.runs.arms import Arm
from experiments.common.runs.experiment import Data
from experiments.common.runs.stages import Imitate, NoTraining, Rewards
from experiments.curate.data.examples import example_of
from experiments.curate.dialogue_arms import Held, LastAnswers
from experiments.curate.language import (
    MIRROR,
    knowledge_examples,
    language_examples,
    small_talk,
)
from experiments.curate.rewards import REWARDS
from experiments.curate.settings import CuratePreset
from experiments.curate.ways import Facts, guided
from gdpo_jax.policies import Tokenizer

__all__ = ["ARMS", "EXAMPLES", "rewards", "tokenizer"]

Record = Mapping[str, Any]
_ALL = ("heeds", "answers", "calm")

ARMS = (
    Arm(
        name="knowledge",
        title="knowledge",
        stage=Imitate(settings="knowledge", examples="knowledge"),
        base=True,
    ),
    Arm(
        name="language",
        title="language",
        start="knowledge",
        stage=Imitate(settings="language", examples="language"),
        base=True,
    ),
    Arm(name="base", title="base", start="language", stage=NoTraining(), answer=Held()),
    Arm(
        name="guided",
        title="guiding prompt",
        start="language",
        stage=NoTraining(),
        answer=Held(guided()),
    ),
    Arm(
        name="facts",
        title="fact list",
        start="language",
        stage=NoTraining(),
        answer=Held(Facts()),
    ),
    Arm(name="mirror", title="MIRROR", start="language", stage=NoTraining(), answer=Held(MIRROR)),
    Arm(
        name="sft",
        title="SFT",
        start="language",
        stage=Imitate(settings="sft", examples="good"),
        answer=Held(),
    ),
    Arm(
        name="grpo",
        title="GRPO",
        start="language",
        stage=LastAnswers(rewards=_ALL, estimator="grpo"),
        answer=Held(),
    ),
    Arm(
        name="gdpo",
        title="GDPO",
        start="language",
        stage=LastAnswers(rewards=_ALL, estimator="gdpo"),
        answer=Held(),
    ),
    Arm(
        name="gdpo-mirror",
        title="GDPO with MIRROR",
        start="gdpo",
        stage=NoTraining(),
        answer=Held(MIRROR),
    ),
)


def good_examples(data: Data, preset: CuratePreset) -> list[Record]:
    """Dialogues with good last answers: the warning, and the plain answer of a control.

    An earlier turn of each stands among them, so that small talk is not forgotten.
    """
    del preset
    records = data.records["train"]
    last = [{**record, "completion": record["target"]} for record in records]
    return [*last, *small_talk([example_of(record) for record in records])]


def policy_records(data: Data, preset: CuratePreset) -> Sequence[Record]:
    """The dialogues whose last turn reinforcement learning answers."""
    del preset
    return data.records["train"]


def knowledge(data: Data, preset: CuratePreset) -> list[Record]:
    """From which a new policy learns what is dangerous with what."""
    del preset
    return knowledge_examples([example_of(record) for record in data.records["train"]])


def language(data: Data, preset: CuratePreset) -> list[Record]:
    """From which a new policy learns to talk, to read notes and to write them."""
    del preset
    return language_examples([example_of(record) for record in data.records["train"]])


EXAMPLES = {
    "knowledge": knowledge,
    "language": language,
    "good": good_examples,
    "policy": policy_records,
}


def tokenizer(data: Data, preset: CuratePreset) -> Tokenizer:
    """Of a new policy: all that it learns to say and to read."""
    return tokenizer_of(language(data, preset), vocab_size=preset.vocab_size)


def rewards(arm: Arm, data: Data, preset: CuratePreset) -> Rewards:
    """The rewards of an arm that follows some."""
    del data, preset
    return Rewards(functions=tuple(REWARDS[name] for name in arm.stage.rewards))

"""The arms of the comparison: what is taught before safety tuning, and after it.

All start from one base, which complies with everything: a published model, or a new policy after
the stage "language". DCR (arXiv 2603.03323) refines its hidden states, then tunes it for safety as
`stl` does; `stl-aug` adds seemingly toxic prompts to safety tuning instead. GDPO (arXiv 2601.05242)
comes after either. Two arms change `stl` where it answers: "steered" adds refusal vectors for what
looks harmful to it and subtracts them elsewhere (arXiv 2408.11491), "ablated" has lost the refusal
direction (arXiv 2406.11717). "gdpo" starts from `stl` and not from the base, so that it differs
from `dcr-gdpo` in refinement alone, and has learned to refuse before it is rewarded for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.embedded.policies import tokenizer_of
from experiments.common.runs.arms import Arm
from experiments.common.runs.experiment import Data
from experiments.common.runs.stages import Imitate, NoTraining, Optimize, Rewards
from experiments.dcr.ablation import Ablate
from experiments.dcr.data.prompts import KINDS, SEEMING, TOXIC
from experiments.dcr.language import language_examples
from experiments.dcr.records import ALIGN, AUGMENT, REFINE
from experiments.dcr.refinement import Refine
from experiments.dcr.rewards import REWARDS
from experiments.dcr.settings import DcrPreset
from experiments.dcr.steering import Steer, Steered
from gdpo_jax.errors import UserError
from gdpo_jax.policies import Tokenizer

__all__ = ["ARMS", "EXAMPLES", "REFINED", "rewards", "tokenizer"]

Record = Mapping[str, Any]
_ALL = tuple(REWARDS)
_PROBED = 100  # prompts of each kind
REFINED = "refined"  # the arm after stage one of DCR

ARMS = (
    Arm(
        name="language",
        title="language",
        stage=Imitate(settings="language", examples="language"),
        base=True,
    ),
    Arm(name="base", title="base", start="language", stage=NoTraining()),
    Arm(
        name="stl",
        title="safety tuning",
        start="language",
        stage=Imitate(settings="sft", examples="safety"),
    ),
    Arm(
        name="stl-aug",
        title="with augmentation",
        start="language",
        stage=Imitate(settings="sft", examples="augmented"),
    ),
    Arm(
        name="steered",
        title="steering",
        start="stl",
        stage=Steer(examples="kinds"),
        answer=Steered(),
    ),
    Arm(
        name="ablated",
        title="direction ablated",
        start="stl",
        stage=Ablate(examples="kinds"),
    ),
    Arm(name=REFINED, title="refined", start="language", stage=Refine()),
    Arm(
        name="dcr",
        title="DCR",
        start=REFINED,
        stage=Imitate(settings="sft", examples="safety"),
    ),
    Arm(
        name="gdpo",
        title="GDPO",
        start="stl",
        stage=Optimize(rewards=_ALL, estimator="gdpo"),
    ),
    Arm(
        name="dcr-gdpo",
        title="DCR, then GDPO",
        start="dcr",
        stage=Optimize(rewards=_ALL, estimator="gdpo"),
    ),
)


def language(data: Data, preset: DcrPreset) -> list[dict[str, Any]]:
    """From which a new policy learns to talk."""
    return language_examples(data.records["train"], refused_one_in=preset.refused_one_in)


def contrast(data: Data, preset: DcrPreset) -> list[Record]:
    """What is moved apart in refinement: prompts that only look toxic, and toxic ones."""
    del preset
    return [record for record in data.records["train"] if record["part"] == REFINE]


def kinds(data: Data, preset: DcrPreset) -> list[Record]:
    """Some training prompts of each kind, between which directions are found."""
    del preset
    found: list[Record] = []
    for kind in KINDS:
        found += [record for record in data.records["train"] if record["kind"] == kind][:_PROBED]
    return found


def validation(data: Data, preset: DcrPreset) -> Sequence[Record]:
    """Held-out prompts that choose a layer."""
    del preset
    return data.records["validation"]


def safety(data: Data, preset: DcrPreset) -> list[Record]:
    """Instructions and plain prompts with their answers, and toxic prompts with refusals; none that
    only look toxic, as in the paper.

    Raises UserError where there are none of either.
    """
    rows = [_answered(r) for r in data.records["train"] if r["part"] == ALIGN]
    general = [row for row in rows if row["kind"] != TOXIC][: preset.general]
    refusals = [row for row in rows if row["kind"] == TOXIC][: preset.refusals]
    if not general or not refusals:
        raise UserError(
            f"safety tuning has {len(general)} plain prompts and {len(refusals)} toxic ones; give "
            "the preset some of both, and build the data anew"
        )
    return [*general, *refusals]


def augmented(data: Data, preset: DcrPreset) -> list[Record]:
    """The same with some prompts that only look toxic, and their answers."""
    found = [r for r in data.records["train"] if r["kind"] == SEEMING and r["answer"].strip()]
    # Published ones are drawn for this alone; our own are those of refinement.
    apart = [r for r in found if r["part"] == AUGMENT] or found
    return [*safety(data, preset), *map(_answered, apart[: preset.augmented])]


def policy_records(data: Data, preset: DcrPreset) -> Sequence[Record]:
    """The prompts that reinforcement learning answers: all of training, of every kind."""
    del preset
    return data.records["train"]


def _answered(record: Record) -> Record:
    return {**record, "completion": record["answer"]}


EXAMPLES = {
    "language": language,
    "contrast": contrast,
    "kinds": kinds,
    "validation": validation,
    "safety": safety,
    "augmented": augmented,
    "policy": policy_records,
}


def tokenizer(data: Data, preset: DcrPreset) -> Tokenizer:
    """Of a new policy: all that it learns to say and to read."""
    examples = [*language(data, preset), *safety(data, preset)]
    return tokenizer_of(examples, vocab_size=preset.vocab_size)


def rewards(arm: Arm, data: Data, preset: DcrPreset) -> Rewards:
    """The rewards of an arm that follows some."""
    del data, preset
    return Rewards(functions=tuple(REWARDS[name] for name in arm.stage.rewards))

"""Activation steering like SCANS (Cao et al., arXiv 2408.11491): refusal vectors are added behind
middle layers for prompts that look harmful to the model, and subtracted for the others.

Whether a prompt is harmful is decided before it is answered, from its states in the model as it
was; both groups are then answered by one policy with opposite signs of the same vectors.

SCANS adds its vectors from the last token of the prompt on. A policy cannot know where a prompt
ends, so that here they are added at all positions, as in section 2.4 of arXiv 2406.11717.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Float

from experiments.common.runs.arms import ModelReply
from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Job
from experiments.common.scores.summaries import write_json
from experiments.dcr.refusal_vectors import (
    Steering,
    Vectors,
    decision_features,
    decision_scores,
    find_vectors,
)
from gdpo_jax.answers import everywhere
from gdpo_jax.errors import UserError
from gdpo_jax.policies import Policy, steered_policy, with_sign, with_steering
from gdpo_jax.prompts import Prompt
from gdpo_jax.recipe import Model
from gdpo_jax.training import replicated

__all__ = ["Steer", "Steered", "by_harm", "harmfulness", "is_steered", "steered"]

DECISION = "decision"  # the branch of the parameters that a prompt's sign is decided from
T = TypeVar("T")


def steered(model: Model, vectors: Vectors) -> Model:
    """The model with vectors and decision beside its parameters. Its sign is 0: it computes what it
    did, until `by_harm` gives it a sign for each prompt.

    Raises UserError for adapters, and another model than the decoder.
    """
    policy = steered_policy(model.policy)
    decision = {
        "layers": np.array(vectors.layers, np.int32),
        "harmful": vectors.harmful,
        "benign": vectors.benign,
        "affix": np.array(vectors.affix, np.int32),
        "threshold": np.float32(vectors.threshold),
    }
    params = {**with_steering(model.params, vectors.added), DECISION: decision}
    beside = {name: branch for name, branch in params.items() if name != "base"}
    place = jax.jit(lambda tree: tree, out_shardings=replicated(model.mesh))
    return dataclasses.replace(model, policy=policy, params={**params, **place(beside)})


def harmfulness(model: Model, prompts: Sequence[Prompt]) -> Float[np.ndarray, "N"]:
    """By how much each prompt is above the threshold from which on a `steered` model takes it to be
    harmful.

    Raises UserError for a model that is not steered, and prompts that do not fit.
    """
    if not is_steered(model):
        raise UserError("this model has no refusal vectors: steered(model, find_vectors(...))")
    found = everywhere(model.params[DECISION])
    layers, affix = (tuple(map(int, found[name])) for name in ("layers", "affix"))
    base = model.with_params(model.params["base"])
    features = decision_features(base, prompts, layers, affix)
    return decision_scores(features, found["harmful"], found["benign"]) - float(found["threshold"])


def is_steered(model: Model) -> bool:
    """Does the model carry refusal vectors and what a prompt's sign is decided from?"""
    return DECISION in model.params


def by_harm(
    model: Model, prompts: Sequence[Prompt], of_model: Callable[[Model, list[int]], Sequence[T]]
) -> list[T]:
    """`of_model(model, places)`, one value for each place among the prompts, in order: of harmful
    prompts with the refusal vectors of a `steered` model added, of the others with them subtracted.

    Raises UserError as `harmfulness`.
    """
    if not prompts:
        return []
    values: dict[int, T] = {}
    harmful = harmfulness(model, prompts) >= 0
    for sign, side in ((1.0, harmful), (-1.0, ~harmful)):
        places = np.flatnonzero(side).tolist()
        if places:
            signed = model.with_params(with_sign(model.params, sign))
            values |= dict(zip(places, of_model(signed, places), strict=True))
    return [values[place] for place in range(len(prompts))]


@dataclasses.dataclass(frozen=True)
class Steered:
    """A way to answer of a `Steer` arm: refusal vectors are added where the prompt looks harmful to
    the model, and subtracted where it does not."""

    def answer(self, reply: ModelReply, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """One text a record, in order. `reply` gives the steered model."""
        prompts = [reply.encode(record["prompt"]) for record in records]

        def answers(model: Model, places: Sequence[int]) -> list[str]:
            return reply.of(model)([prompts[place] for place in places])

        return by_harm(reply.model, prompts, answers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steer:
    """Finding refusal vectors as a stage of an arm whose way to answer is `Steered`. Nothing is
    trained: they are found anew each time, and what was found stands in steering.json."""

    settings: str = "steer"  # their name in the preset
    examples: str = "contrast"  # the name in the experiment of rows with "prompt" and "kind"

    def steps(self, preset: Preset) -> int:
        settings = preset.stage(self.settings, Steering)
        if preset.pretrained is None:
            settings.deciding_layers(preset.decoder)
        return 0

    def train(self, job: Job) -> Model:
        settings = job.preset.stage(self.settings, Steering)
        found = find_vectors(job.model, job.examples(self.examples), settings, prompt=job.prompt)
        model = steered(job.model, found)
        if jax.process_index() == 0:
            write_json(job.folder / "steering.json", found.describe())
        return model

    def plan(self, preset: Preset, policy: Policy, mesh: jax.sharding.Mesh) -> tuple[()]:
        del preset, policy, mesh
        return ()

"""Ablation of the refusal direction (Arditi et al., arXiv 2406.11717): the direction between toxic
and harmless prompts is taken out of everything that is written to the residual stream.

It is done to the weights (section 2.4, appendix E): of the embedding and of the matrices that write
to the stream, `W - (W r) r^T`. Without norms on what layers add, no state has a component along r
then, as if it were removed from every state on the way; the policy stays the same.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Job
from experiments.common.scores.summaries import write_json
from experiments.dcr.directions import check_groups, mean_difference, of_groups
from experiments.dcr.separation import Separation, separation
from experiments.dcr.states import prompt_states, states_of_layers
from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    POOLINGS,
    DecoderConfig,
    Params,
    Policy,
    check_layer,
    decoder_policy,
)
from gdpo_jax.prompts import PromptFunction
from gdpo_jax.recipe import Model
from gdpo_jax.training import shardings_for

__all__ = ["Ablate", "Ablation", "Direction", "ablate", "find_direction", "orthogonalized"]

WRITERS = ("out", "down")  # matrices of a layer that write to the residual stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablation:
    """Settings of the ablation. Raises UserError for those that contradict each other."""

    # Layer whose states give the direction, counted from 1. None: of `candidates`, that with the
    # highest silhouette on validation prompts. (The paper takes the direction whose ablation
    # lowers the log-odds of refusing the most, and which moves other answers little.)
    layer: int | None = None
    # Layers to choose from. Empty: all but the last fifth, which the paper leaves out.
    candidates: tuple[int, ...] = ()
    # Kinds of prompts that the direction points to, and from. The paper: harmful and harmless.
    above: tuple[str, ...] = ("toxic",)
    below: tuple[str, ...] = ("plain",)
    # Of the prompt's states. The paper tries each token behind the instruction; the last one is
    # what the first generated token is predicted from.
    pooling: Literal["last", "mean"] = "last"
    # Share of the component that is taken out. The paper takes all of it; 0 changes nothing.
    strength: float = 1.0
    # Of a decoder whose embedding makes the logits as well. "kept": the table of logits becomes a
    # head of its own and stays as it is, which is what removing the direction from states computes.
    # "ablated": one table, whose logits change too, as in the paper's code for tied models.
    output: Literal["kept", "ablated"] = "kept"

    def __post_init__(self) -> None:
        check_groups(self.above, self.below)
        if self.layer is not None and self.candidates:
            raise UserError("layer and candidates contradict each other; leave one of them out")
        if self.pooling not in POOLINGS:
            raise UserError(f"pooling {self.pooling!r} is unknown; legal: {', '.join(POOLINGS)}")
        if not math.isfinite(self.strength):
            raise UserError(f"strength must be a finite number, got {self.strength!r}")
        if self.output not in ("kept", "ablated"):
            raise UserError(f"output {self.output!r} is unknown; legal: kept, ablated")

    def layers(self, config: DecoderConfig) -> tuple[int, ...]:
        """The layers that come into question. Raises UserError for one that does not exist."""
        few = range(1, max(1, config.num_layers * 4 // 5) + 1)
        chosen = (self.layer,) if self.layer is not None else self.candidates or tuple(few)
        for layer in chosen:
            check_layer(config, layer)
        return chosen


@dataclasses.dataclass(frozen=True)
class Direction:
    """A direction in the residual stream, and where it was found.

    norm: distance of the two means behind the layer. prompts: how many each mean is of (above,
    below). candidates: the separation of validation prompts by layer, where a layer was chosen.
    """

    unit: Float[np.ndarray, "D"]
    layer: int
    norm: float
    prompts: tuple[int, int]
    candidates: Mapping[int, Separation] = dataclasses.field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """JSON-ready, without the vector."""
        rows = [
            {"layer": layer, **dataclasses.asdict(found)}
            for layer, found in self.candidates.items()
        ]
        above, below = self.prompts
        about = {"layer": self.layer, "norm": self.norm, "above": above, "below": below}
        return {**about, "candidates": rows}


def find_direction(
    model: Model,
    examples: Sequence[Mapping[str, Any]],
    settings: Ablation,
    *,
    validation: Sequence[Mapping[str, Any]] = (),
    prompt: PromptFunction = "prompt",
    seed: int = 0,
) -> Direction:
    """The normalised difference of mean states between the settings' kinds of prompts.

    examples, validation: rows with "kind", what `prompt` reads, and "cluster" where they have one;
    validation prompts are read where the settings leave the layer open. seed: of the probe's
    folds, which only the record shows.

    Raises UserError for a layer that does not exist, a kind without rows, and means that coincide.
    """
    layers = settings.layers(model.policy.config)
    kinds = settings.above, settings.below
    _, prompts, above = of_groups(examples, *kinds, prompt)
    found, layer = {}, layers[0]
    if settings.layer is None:
        rows, held, side = of_groups(validation, *kinds, prompt, what="validation")
        states = states_of_layers(model, held, layers=layers, pooling=settings.pooling)
        names = ["above" if own else "below" for own in side]
        clusters = [row.get("cluster", number) for number, row in enumerate(rows)]
        for place, candidate in enumerate(layers):
            found[candidate] = separation(
                states[:, place], names, between=("below", "above"), clusters=clusters, seed=seed
            )
        layer = max(layers, key=lambda candidate: found[candidate].silhouette)
    states = prompt_states(model, prompts, layer=layer, pooling=settings.pooling)
    unit, norm = mean_difference(states, above, where=f"behind layer {layer}")
    counts = int(above.sum()), int((~above).sum())
    return Direction(unit.astype(np.float32), layer, norm, counts, found)


def ablate(
    model: Model,
    unit: Float[np.ndarray, "D"],
    *,
    strength: float = 1.0,
    output: Literal["kept", "ablated"] = "kept",
) -> Model:
    """The model whose residual stream has no component along a unit vector (`strength` 1).

    output: of tied embeddings, as `Ablation.output`. Exact up to the rounding of the compute
    dtype; a strength of 0 gives the model itself.

    Raises UserError for adapters, another model than the decoder, and one with norms on what its
    layers add (Gemma 3), which turn that after the matrices that could be changed.
    """
    config = model.policy.config
    if model.policy.trained is not None:
        raise UserError("merge the adapters first: model.merged()")
    if not isinstance(config, DecoderConfig):
        raise UserError("the ablation is for the decoder of this library; this is another model")
    if config.post_norms:
        raise UserError(
            "this model normalises what its layers add to the residual stream (post_norms), so "
            "that a direction cannot be taken out of it by its weights"
        )
    if strength == 0:
        # A table of its own would round its logits another way.
        return model
    policy, untie = model.policy, config.tie_embeddings and output == "kept"
    if untie:
        policy = decoder_policy(dataclasses.replace(config, tie_embeddings=False))

    def changed(params: Params, unit: Array) -> Params:
        other = orthogonalized(params, unit, strength)
        return {**other, "head": params["embedding"].T} if untie else other

    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    shardings = shardings_for(policy.logical_axes(), shapes, model.mesh, model.rules)
    program = jax.jit(changed, out_shardings=shardings)
    params = program(model.params, np.asarray(unit, np.float32))
    return dataclasses.replace(model, policy=policy, params=params)


def orthogonalized(params: Params, unit: Float[Array, "D"], strength: float = 1.0) -> Params:
    """The decoder's parameters with `strength` times their component along a unit vector taken out
    of all rows that are written to the residual stream (arXiv 2406.11717, equation 5).
    """

    def without(rows: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
        along = jnp.matmul(rows, unit, precision="highest")
        return rows - strength * along[..., None] * unit.reshape((1,) * (rows.ndim - 1) + (-1,))

    layers = params["layers"]
    layers = {**layers, **{name: without(layers[name]) for name in WRITERS}}
    return {**params, "embedding": without(params["embedding"]), "layers": layers}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablate:
    """The ablation as a stage of an arm. Nothing is trained: the direction is found anew each time,
    and what was found stands in direction.json."""

    settings: str = "ablate"  # their name in the preset
    examples: str = "contrast"  # the name in the experiment of rows with "prompt" and "kind"
    validation: str = "validation"  # the name of those that choose the layer, if it is left open

    def steps(self, preset: Preset) -> int:
        settings = preset.stage(self.settings, Ablation)
        if preset.pretrained is None:
            settings.layers(preset.decoder)
        return 0

    def train(self, job: Job) -> Model:
        settings = job.preset.stage(self.settings, Ablation)
        found = find_direction(
            job.model,
            job.examples(self.examples),
            settings,
            validation=() if settings.layer is not None else job.examples(self.validation),
            prompt=job.prompt,
            seed=job.seed,
        )
        model = ablate(job.model, found.unit, strength=settings.strength, output=settings.output)
        if jax.process_index() == 0:
            write_json(job.folder / "direction.json", found.describe())
        return model

    def plan(self, preset: Preset, policy: Policy, mesh: jax.sharding.Mesh) -> tuple[()]:
        del preset, policy, mesh
        return ()

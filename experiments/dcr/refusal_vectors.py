"""Refusal vectors of a model and what a prompt's harmfulness is decided from, as SCANS finds them
(Cao et al., arXiv 2408.11491, sections 3.1 and 3.3).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from experiments.dcr.directions import check_groups, mean_difference, of_groups
from experiments.dcr.states import states_of_layers
from gdpo_jax.errors import UserError
from gdpo_jax.policies import DecoderConfig, check_layer
from gdpo_jax.prompts import Prompt, PromptFunction, encode_prompt
from gdpo_jax.recipe import Model

__all__ = ["Steering", "Vectors", "decision_features", "decision_scores", "find_vectors"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steering:
    """Settings of activation steering. Raises UserError for those that contradict each other."""

    # Layers behind which vectors are added, counted from 1. Empty: the middle, which in the
    # published code are layers 11 to 20 of the 32 of Llama-2-7B.
    layers: tuple[int, ...] = ()
    # How much of each vector is added (alpha). It depends on the model: report a curve over it.
    strength: float = 1.0
    # What strength 1 is: the "difference" of the two means behind the layer, which suits states of
    # any size, or a vector of length "one", as in the published code (with strength 3.5).
    unit: Literal["difference", "one"] = "difference"
    # Kinds of prompts that vectors point to, and from. The paper: AdvBench and TruthfulQA.
    harmful: tuple[str, ...] = ("toxic",)
    benign: tuple[str, ...] = ("plain",)
    # Text behind the prompt: a prompt is judged by the change of its states from the last token of
    # the prompt to the last one of this text. That of the published code; "": by the states.
    affix: str = "Sure"
    # Layers whose states decide. Empty: from the first steered one to the last, as published.
    decision_layers: tuple[int, ...] = ()
    # Cosines with the mean of "harmful" training prompts, as published, or those minus the cosines
    # with the mean of benign ones ("both"), which share what all prompts have in common.
    compared: Literal["harmful", "both"] = "both"
    # Mean cosine from which on a prompt is harmful. 0.75 of "harmful" in the published code for
    # Llama-2; it depends on the model. None: what separates the training prompts best.
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_groups(self.harmful, self.benign)
        for name in ("strength", "threshold"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UserError(f"{name} must be a finite number, got {value!r}")
        for name, legal in (("unit", ("difference", "one")), ("compared", ("harmful", "both"))):
            if getattr(self, name) not in legal:
                given = getattr(self, name)
                raise UserError(f"{name} {given!r} is unknown; legal: {', '.join(legal)}")

    def steered_layers(self, config: DecoderConfig) -> tuple[int, ...]:
        """The layers behind which vectors are added.

        Raises UserError for one that does not exist or stands twice.
        """
        depth = config.num_layers
        middle = [layer for layer in range(1, depth + 1) if 10 * depth < 32 * layer <= 20 * depth]
        # Of two layers or more there is a middle one.
        return _checked(config, self.layers or tuple(middle) or (1,), "layers")

    def deciding_layers(self, config: DecoderConfig) -> tuple[int, ...]:
        """The layers whose states decide; errors as of `steered_layers`."""
        first = min(self.steered_layers(config))
        every = tuple(range(first, config.num_layers + 1))
        return _checked(config, self.decision_layers or every, "decision_layers")


def _checked(config: DecoderConfig, layers: tuple[int, ...], name: str) -> tuple[int, ...]:
    for layer in layers:
        check_layer(config, layer)
    if len(set(layers)) < len(layers):
        raise UserError(f"{name} {layers} name a layer twice")
    return layers


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Refusal vectors, and what a prompt's sign is decided from.

    added: what is added behind each layer of the model, zero behind those that are not steered.
    norms: of the difference of means, by layer. layers: those that decide. harmful, benign: the
    mean features of training prompts behind them; zero where they are not compared. accuracy: the
    mean of the shares of harmful and of benign training prompts that the threshold tells.
    """

    added: Float[np.ndarray, "L D"]
    norms: Mapping[int, float]
    layers: tuple[int, ...]
    harmful: Float[np.ndarray, "C D"]
    benign: Float[np.ndarray, "C D"]
    affix: tuple[int, ...]
    threshold: float
    accuracy: float
    prompts: tuple[int, int]

    def describe(self) -> dict[str, Any]:
        """JSON-ready, without the vectors."""
        harmful, benign = self.prompts
        return {
            "norms": [{"layer": layer, "norm": norm} for layer, norm in self.norms.items()],
            "decision_layers": list(self.layers),
            "threshold": self.threshold,
            "accuracy": self.accuracy,
            "harmful": harmful,
            "benign": benign,
        }


def find_vectors(
    model: Model,
    examples: Sequence[Mapping[str, Any]],
    settings: Steering,
    *,
    prompt: PromptFunction = "prompt",
) -> Vectors:
    """Refusal vectors and the decision, from the model's states of rows with "kind" and what
    `prompt` reads.

    Raises UserError for a layer that does not exist, a kind without rows, means that coincide, and
    an affix without tokens.
    """
    config = model.policy.config
    steered_at, layers = settings.steered_layers(config), settings.deciding_layers(config)
    affix = tuple(model.tokenizer.encode(settings.affix)) if settings.affix else ()
    if settings.affix and not affix:
        raise UserError(f"the affix {settings.affix!r} has no tokens; give some text, or ''")
    _, prompts, harmful = of_groups(examples, settings.harmful, settings.benign, prompt)
    # One pass for both; by default the layers that decide hold the steered ones, so that deciding
    # has the same program.
    every = tuple(sorted({*steered_at, *layers}))
    states, features = _states_and_features(model, prompts, every, affix)
    added, norms = np.zeros((config.num_layers, config.d_model)), {}
    for layer in steered_at:
        own = states[:, every.index(layer)]
        unit, norm = mean_difference(own, harmful, where=f"behind layer {layer}")
        size = norm if settings.unit == "difference" else 1.0
        added[layer - 1], norms[layer] = settings.strength * size * unit, norm
    features = features[:, [every.index(layer) for layer in layers]]
    means = [features[side].mean(axis=0) for side in (harmful, ~harmful)]
    if settings.compared == "harmful":
        means[1] = np.zeros_like(means[1])
    scores = decision_scores(features, *means)
    threshold = settings.threshold
    if threshold is None:
        threshold = _best_threshold(scores, harmful)
    return Vectors(
        added=added.astype(np.float32),
        norms=norms,
        layers=layers,
        harmful=means[0].astype(np.float32),
        benign=means[1].astype(np.float32),
        affix=affix,
        threshold=threshold,
        accuracy=_accuracy(scores, harmful, threshold),
        prompts=(int(harmful.sum()), int((~harmful).sum())),
    )


def decision_features(
    model: Model, prompts: Sequence[Prompt], layers: tuple[int, ...], affix: tuple[int, ...]
) -> Float[np.ndarray, "N C D"]:
    """States of prompts, or their change to the end of the affix, behind each layer, float64."""
    return _states_and_features(model, prompts, layers, affix)[1]


def _states_and_features(
    model: Model, prompts: Sequence[Prompt], layers: tuple[int, ...], affix: tuple[int, ...]
) -> tuple[Float[np.ndarray, "N C D"], Float[np.ndarray, "N C D"]]:
    rows = [encode_prompt(model.tokenizer, prompt) for prompt in prompts]
    longer = [[*row, *affix] for row in rows] if affix else []
    # Together, so that both have one shape and one program.
    found = states_of_layers(model, [*rows, *longer], layers=layers).astype(np.float64)
    states = found[: len(rows)]
    return states, states - found[len(rows) :] if affix else states


def decision_scores(
    features: Float[np.ndarray, "N C D"],
    harmful: Float[np.ndarray, "C D"],
    benign: Float[np.ndarray, "C D"],
) -> Float[np.ndarray, "N"]:
    """The mean over layers of cosines with the first means, minus those with the second."""

    def unit(x: np.ndarray) -> np.ndarray:
        wide = np.asarray(x, np.float64)
        return wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)

    along = np.einsum("ncd,cd->nc", unit(features), unit(harmful) - unit(benign))
    return along.mean(axis=1)


def _best_threshold(scores: Float[np.ndarray, "N"], harmful: Bool[np.ndarray, "N"]) -> float:
    """Of the middles between neighbouring scores, that with the best accuracy, and of equal ones
    that in the widest gap."""
    places = np.unique(scores)
    if len(places) < 2:
        raise UserError(
            "all prompts look the same to the decision: choose other decision_layers or kinds"
        )
    middles, gaps = (places[1:] + places[:-1]) / 2, np.diff(places)
    found = [_accuracy(scores, harmful, middle) for middle in middles]
    return float(middles[max(range(len(gaps)), key=lambda i: (found[i], gaps[i]))])


def _accuracy(
    scores: Float[np.ndarray, "N"], harmful: Bool[np.ndarray, "N"], threshold: float
) -> float:
    """The mean of the shares of both groups that the threshold tells."""
    told = scores >= threshold
    return float((told[harmful].mean() + (~told[~harmful]).mean()) / 2)

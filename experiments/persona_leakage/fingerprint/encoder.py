"""An encoder of style in flax: the axes of a space, trained on until an author's texts lie close.

It starts as the whitened axes of a space, so that before the first step it scores as the space
does, and what training adds is seen. A batch holds pieces of two different texts of each author,
of random lengths, so that neither the subject nor the length tells who wrote them; the loss is
supervised contrastive, as of LUAR (Rivera-Soto et al., EMNLP 2021), on the similarity that scores:
the mean of the views' cosines. `T` texts, `P` pieces of each, `B` pieces of a batch, `V` terms, `D`
dimensions.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.persona_leakage.fingerprint.features import Features
from experiments.persona_leakage.fingerprint.space import Space
from gdpo_jax.errors import UserError
from gdpo_jax.objectives.contrastive import supervised_contrastive

__all__ = ["EncoderOptions", "fit_encoder"]

Params = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """How the axes of a space are trained on."""

    dropout: float = 0.2  # share of a piece's terms left out, so that no single one is relied upon
    steps: int = 150  # batches; 0: the space as it is
    authors: int = 64  # of a batch, with two pieces each
    learning_rate: float = 4e-4  # falls to 0 by a cosine
    temperature: float = 0.1  # of the loss


class _Encoder(nn.Module):
    """Views side by side, each with length one, so that a product is the sum of their cosines.

    slices: columns of each view; dimensions: of each
    """

    slices: tuple[tuple[int, int], ...]
    dimensions: tuple[int, ...]
    dropout: float

    @nn.compact
    def __call__(self, standard: Float[Array, "B V"]) -> Float[Array, "B D"]:
        x = nn.Dropout(self.dropout, deterministic=False)(standard)
        views = []
        for number, ((start, stop), size) in enumerate(
            zip(self.slices, self.dimensions, strict=True)
        ):
            view = nn.Dense(size, use_bias=False, name=f"view{number}")(x[:, start:stop])
            squares = jnp.sum(view * view, axis=-1, keepdims=True)
            # Not 0: the root has no derivative there, and a piece may lack every term of a view.
            views.append(view / jnp.sqrt(squares + 1e-9))
        return jnp.concatenate(views, axis=-1)


def fit_encoder(
    features: Features,
    space: Space,
    pieces: Float[np.ndarray, "T P V"],
    authors: Int[np.ndarray, "T"],
    key: Key[Array, ""],
    options: EncoderOptions,
) -> Space:
    """The space with axes that are trained on `P` pieces of each text, counts as `space`
    standardises them; its own for no steps.

    key: is consumed. Raises UserError unless two authors have two texts each.
    """
    texts_of = [np.flatnonzero(authors == author) for author in np.unique(authors)]
    texts_of = [texts for texts in texts_of if len(texts) > 1]
    if len(texts_of) < 2:
        raise UserError("an encoder needs two authors with two texts each; use more problems")
    batch = min(options.authors, len(texts_of))
    order_key, dropout_key = jax.random.split(key)
    params: Params = {
        f"view{number}": {"kernel": jnp.asarray(axes, jnp.float32)}
        for number, axes in enumerate(space.axes)
    }
    optimizer, step = _training(_module(features, space, options.dropout), batch, options)
    state = optimizer.init(params)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(order_key)))
    for number in range(options.steps):
        chosen = rng.choice(len(texts_of), batch, replace=False)
        pairs = np.stack([rng.choice(texts_of[i], 2, replace=False) for i in chosen])
        texts = pairs.T.reshape(-1)
        rows = pieces[texts, rng.integers(pieces.shape[1], size=len(texts))]
        params, state = step(params, state, rows.astype(np.float32), dropout_key, number)
    trained = tuple(np.asarray(params[f"view{n}"]["kernel"]) for n in range(len(space.axes)))
    return dataclasses.replace(space, axes=trained)


def _module(features: Features, space: Space, dropout: float) -> _Encoder:
    return _Encoder(
        slices=tuple((columns.start, columns.stop) for _, columns in features.slices()),
        dimensions=tuple(axes.shape[1] for axes in space.axes),
        dropout=dropout,
    )


# Kept, so that folds of one size share a program.
@functools.lru_cache(maxsize=8)
def _training(
    module: _Encoder, batch: int, options: EncoderOptions
) -> tuple[optax.GradientTransformation, Callable[..., tuple[Params, Any]]]:
    """The optimizer, and a step on two pieces of each of `batch` authors."""
    rate = optax.cosine_decay_schedule(options.learning_rate, max(1, options.steps))
    optimizer = optax.adam(rate)
    labels = np.tile(np.arange(batch, dtype=np.int32), 2)

    def loss_of(params: Params, rows: Array, key: Array) -> Array:
        embeddings = module.apply({"params": params}, rows, rngs={"dropout": key})
        return supervised_contrastive(
            embeddings, jnp.asarray(labels), temperature=options.temperature
        )

    @jax.jit
    def step(
        params: Params, state: Any, rows: Array, key: Array, number: Array
    ) -> tuple[Params, Any]:
        gradient = jax.grad(loss_of)(params, rows, jax.random.fold_in(key, number))
        # Adam's correction for bias raises a float to the number of steps, an integer.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return optimizer, step

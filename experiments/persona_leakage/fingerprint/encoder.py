"""A small encoder of style, trained so that two texts of one author lie close (flax).

A batch holds pieces of two different texts of each author, of random lengths, so that neither the
subject nor the length tells who wrote them; the loss is supervised contrastive, as of LUAR
(Rivera-Soto et al., EMNLP 2021). `B` pieces, `V` terms, `D` dimensions.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from gdpo_jax.errors import UserError
from gdpo_jax.objectives.contrastive import supervised_contrastive

__all__ = ["EncoderOptions", "encode", "fit_encoder"]

Params = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """Sizes and training; `steps` batches of two pieces each of `authors` authors."""

    hidden: int = 128
    dimensions: int = 64
    dropout: float = 0.3
    steps: int = 150
    authors: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    temperature: float = 0.1


class _Encoder(nn.Module):
    hidden: int
    dimensions: int
    dropout: float

    @nn.compact
    def __call__(
        self, standard: Float[Array, "B V"], *, training: bool = False
    ) -> Float[Array, "B D"]:
        # Whole terms are left out, so that no single one is relied upon.
        x = nn.Dropout(self.dropout, deterministic=not training)(standard)
        x = nn.gelu(nn.Dense(self.hidden)(x))
        x = nn.Dropout(self.dropout, deterministic=not training)(x)
        return nn.Dense(self.dimensions)(x)


def fit_encoder(
    pieces: Float[np.ndarray, "T P V"],
    authors: Int[np.ndarray, "T"],
    key: Key[Array, ""],
    options: EncoderOptions,
) -> Params:
    """Parameters of an encoder trained on `P` pieces of each text, standardised counts.

    key: is consumed. Raises UserError unless two authors have two texts each.
    """
    texts_of = [np.flatnonzero(authors == author) for author in np.unique(authors)]
    texts_of = [texts for texts in texts_of if len(texts) > 1]
    if len(texts_of) < 2:
        raise UserError("an encoder needs two authors with two texts each; use more problems")
    batch = min(options.authors, len(texts_of))
    init_key, order_key, dropout_key = jax.random.split(key, 3)
    module = _module(options)
    params = module.init(init_key, jnp.zeros((1, pieces.shape[-1]), jnp.float32))["params"]
    rate = optax.cosine_decay_schedule(options.learning_rate, options.steps)
    optimizer = optax.adamw(rate, weight_decay=options.weight_decay)
    labels = jnp.tile(jnp.arange(batch, dtype=jnp.int32), 2)

    def loss_of(params: Params, rows: Array, key: Array) -> Array:
        rngs = {"dropout": key}
        embeddings = module.apply({"params": params}, rows, training=True, rngs=rngs)
        return supervised_contrastive(embeddings, labels, temperature=options.temperature)

    @jax.jit
    def step(params: Params, state: Any, rows: Array, key: Array) -> tuple[Params, Any]:
        gradient = jax.grad(loss_of)(params, rows, key)
        # Adam's correction for bias raises a float to the number of steps, an integer.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(order_key)))
    for number in range(options.steps):
        chosen = rng.choice(len(texts_of), batch, replace=False)
        pairs = np.stack([rng.choice(texts_of[i], 2, replace=False) for i in chosen])
        texts = pairs.T.reshape(-1)
        rows = pieces[texts, rng.integers(pieces.shape[1], size=len(texts))]
        step_key = jax.random.fold_in(dropout_key, number)
        params, state = step(params, state, jnp.asarray(rows, jnp.float32), step_key)
    return jax.tree.map(np.asarray, params)


def encode(params: Params, standard: Float[np.ndarray, "*T V"]) -> Float[np.ndarray, "*T D"]:
    """What the encoder makes of standardised counts, not normalised.

    In NumPy: one short text at a time is what a gate sees, and every other number of them would be
    another program to compile.
    """
    first, second = params["Dense_0"], params["Dense_1"]
    hidden = np.asarray(standard, np.float32) @ first["kernel"] + first["bias"]
    # jax.nn.gelu's approximation, which is flax's.
    bent = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    return bent @ second["kernel"] + second["bias"]


def _module(options: EncoderOptions) -> _Encoder:
    return _Encoder(options.hidden, options.dimensions, options.dropout)

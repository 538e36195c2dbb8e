"""Rows that decode side by side, and how the unfinished ones move together on the way.

A state has `S` slots, each over the keys and values of one prompt, and `W` rows a slot, one a
completion. When enough rows are done, the others move into fewer rows a slot, then into fewer
slots; a prompt with more rows left than a slot is wide takes several slots. Each of the pieces into
which the leading axis is cut over devices moves its own rows, so nothing crosses devices.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.policies.attention import KeyValues


@chex.dataclass(frozen=True)
class Results:
    """What was drawn so far: tokens, mask and log-probs `[..., C]`, finished `[...]`.

    sampled_log_probs: of the distribution after cuts; None without a cut.
    """

    tokens: Int[Array, "*N C"]
    mask: Bool[Array, "*N C"]
    log_probs: Float[Array, "*N C"]
    finished: Bool[Array, "*N"]
    sampled_log_probs: Float[Array, "*N C"] | None = None


@chex.dataclass(frozen=True)
class Slots:
    """What all rows of a slot share: the prompt's length and, of each layer, keys and values."""

    prompt_lengths: Int[Array, "S"]
    prompt_caches: tuple[KeyValues, ...]


@chex.dataclass(frozen=True)
class Rows:
    """Completions on their way.

    origin: the row's number among those of its piece at the start; beyond them for empty rows,
      which are done. token: the last one drawn. uniforms: one number in [0, 1) a step.
    """

    origin: Int[Array, "S W"]
    token: Int[Array, "S W"]
    uniforms: Float[Array, "S W C"]
    results: Results


def narrower(slots: int, width: int) -> tuple[int, int]:
    """Half as many rows: first of those in a slot, then of slots with one row."""
    return (slots, -(-width // 2)) if width > 1 else (-(-slots // 2), 1)


def slots_needed(finished: Bool[Array, "S W"], width: int, pieces: int) -> Int[Array, ""]:
    """How many slots of `width` rows hold the unfinished rows of the fullest piece."""
    needed = -(-(~finished).sum(axis=1) // width)
    return needed.reshape(pieces, -1).sum(axis=1).max()


def compact(
    slots: Slots, rows: Rows, caches: tuple[KeyValues, ...], *, shape: tuple[int, int], pieces: int
) -> tuple[Slots, Rows, tuple[KeyValues, ...]]:
    """The unfinished rows, in order, in `shape` slots and rows a slot of each piece.

    caches: of each layer, keys [S,J,W,K,C] and values [S,J,W,C,K] of the rows.
    """
    move = jax.vmap(functools.partial(_compact_piece, shape=shape))
    return _joined(move(*_cut((slots, rows, caches), pieces)))


def gather_results(into: Results, rows: Rows, pieces: int) -> Results:
    """`into`, whose rows lie as at the start, with the results of `rows` at their origins."""

    def of_piece(into, origin, results):
        def put(whole, part):
            flat = whole.reshape(-1, *whole.shape[2:])
            return flat.at[origin].set(part, mode="drop").reshape(whole.shape)

        return jax.tree.map(put, into, results)

    return _joined(jax.vmap(of_piece)(*_cut((into, rows.origin, rows.results), pieces)))


def _compact_piece(slots, rows, caches, *, shape):
    finished = rows.results.finished
    old_slots, old_width = finished.shape
    new_slots, width = shape
    rank = jnp.cumsum(~finished, axis=1) - 1
    needed = -(-(~finished).sum(axis=1) // width)
    first = jnp.cumsum(needed) - needed
    # Finished rows go to no slot, and `drop` leaves them out.
    slot = jnp.where(finished, new_slots, first[:, None] + rank // width)
    place = (slot, jnp.where(finished, 0, rank % width))
    every = jnp.arange(finished.size).reshape(finished.shape)
    source = jnp.full(shape, finished.size).at[place].set(every, mode="drop")
    owner = jnp.broadcast_to(jnp.arange(old_slots)[:, None], finished.shape)
    owner = jnp.zeros(new_slots, int).at[slot].set(owner, mode="drop")
    empty = source == finished.size
    from_slot, column = jnp.divmod(jnp.where(empty, 0, source), old_width)

    moved = jax.tree.map(lambda x: x[from_slot, column], rows)
    moved = moved.replace(
        origin=jnp.where(empty, jnp.iinfo(jnp.int32).max, moved.origin),
        results=moved.results.replace(finished=empty),
    )
    caches = jax.tree.map(lambda x: jnp.moveaxis(x[from_slot, :, column], 2, 1), caches)
    return jax.tree.map(lambda x: x[owner], slots), moved, caches


def _cut(tree, pieces):
    return jax.tree.map(lambda x: x.reshape(pieces, -1, *x.shape[1:]), tree)


def _joined(tree):
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

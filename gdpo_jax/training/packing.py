"""Short groups of a rollout in fewer rows: planned on the host, where that saves tokens."""

from typing import Any

import numpy as np
from jax.sharding import Mesh

from gdpo_jax.policies.packing import (
    PackedGroups,
    RowShape,
    pack_groups,
    round_rows,
    row_shapes,
    rows_needed,
)
from gdpo_jax.rollouts import Rollout
from gdpo_jax.training.mesh import batch_shards, process_share, to_global, to_local
from gdpo_jax.training.processes import agreed_maxima


def pack_rollout(rollout: Rollout, *, parts: int, mesh: Mesh, pad_id: int) -> PackedGroups | None:
    """This process's share of a rollout in packed rows on the mesh; None where none are saved.

    parts: mini-batches times micro-batches, each of which is packed by itself. All processes end up
    with rows of one shape.
    """
    shards = batch_shards(mesh) // process_share(mesh)[1]

    def cells(x: np.ndarray) -> np.ndarray:
        # Part i of a shard takes its rows i, i + parts, ..., as `split_rows` does.
        parted = x.reshape(shards, -1, parts, *x.shape[1:]).swapaxes(1, 2)
        return parted.reshape(shards * parts, -1, *x.shape[1:])

    def rows(x: np.ndarray) -> np.ndarray:
        parted = x.reshape(shards, parts, *x.shape[1:]).swapaxes(1, 2)
        return parted.reshape(-1, *x.shape[2:])

    rollout = to_local(rollout)
    prompts, completions = cells(rollout.prompts), cells(rollout.completions)
    prompt_lengths, lengths = cells(rollout.prompt_lengths), cells(rollout.mask.sum(axis=-1))
    chosen = choose_shape(prompt_lengths, lengths, prompts.shape[2], completions.shape[3])
    if chosen is None:
        return None
    shape, count = chosen
    packed = pack_groups(
        prompts, prompt_lengths, completions, lengths, shape, rows=count, pad_id=pad_id
    )
    return to_global(packed.replace(places=rows(packed.places)), mesh)


def choose_shape(
    prompt_lengths: np.ndarray, lengths: np.ndarray, prompt_size: int, length: int
) -> tuple[RowShape, int] | None:
    """The shape and count of rows a cell that compute the fewest tokens; None if rows of one group
    each compute no more."""
    groups, samples = lengths.shape[1:]
    unpacked = groups * (prompt_size + samples * length)
    shapes = row_shapes(prompt_size, samples, length)
    needed = [
        rows_needed(prompt_lengths, lengths, shape, max_tokens=unpacked - 1) for shape in shapes
    ]
    counts = [round_rows(count) for count in agreed_maxima(needed)]
    tokens, count, shape = min(
        (count * shape.tokens, count, shape) for count, shape in zip(counts, shapes)
    )
    return None if tokens >= unpacked else (shape, count)


def packed_parts(packed: PackedGroups, mesh: Mesh) -> int:
    """Into how many micro-batches the rows were packed."""
    return packed.prompts.shape[0] // batch_shards(mesh)


def computed_tokens(batch: Any, layout: str) -> int:
    """Tokens that the layers compute for a `PolicyBatch`, padding included."""
    if batch.packed is not None:
        return batch.packed.prompts.size + batch.packed.completions.size
    copies = batch.completions.shape[1] if layout == "plain" else 1
    return batch.prompts.size * copies + batch.completions.size

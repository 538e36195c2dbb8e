"""The device mesh, the one table of sharding rules, and the border between process and mesh.

Axes: `data` splits prompts and copies parameters, `fsdp` splits prompts and parameters, `tensor`
splits parameters only. Rows of a batch are spread over `data` and `fsdp` together. Each process
feeds and reads the rows that its own devices hold, so every function here works for one process and
for many.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    DEFAULT_RULES,
    Policy,
    ShardingRules,
    pin_rows,
    split_vocabulary,
)

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")


@dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; one of them may be -1 and takes what the others leave."""

    data: int = -1  # copies of the parameters
    fsdp: int = 1  # shards of the parameters that also split the batch
    tensor: int = 1  # shards of the parameters that share their rows of the batch


def make_mesh(config: MeshConfig | None = None, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with axes `("data", "fsdp", "tensor")`, by default all devices on `data`.

    Raises:
        UserError: the sizes do not multiply to the number of devices; names sizes that do.
    """
    config = config or MeshConfig()
    devices = list(jax.devices() if devices is None else devices)
    count = len(devices)
    sizes = [getattr(config, axis) for axis in AXES]
    free = [index for index, size in enumerate(sizes) if size == -1]
    known = math.prod(size for size in sizes if size != -1)
    legal = len(free) <= 1 and all(size >= 1 for size in sizes if size != -1)
    if legal and free and count % known == 0:
        sizes[free[0]] = count // known
    if not legal or math.prod(sizes) != count:
        divisors = [size for size in range(1, count + 1) if count % size == 0]
        raise UserError(
            f"mesh data={config.data} fsdp={config.fsdp} tensor={config.tensor} does not fit "
            f"{count} devices; the sizes must multiply to {count}, each one of {divisors}, and "
            "at most one may be -1 (what the others leave)"
        )
    return jax.make_mesh(
        tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis over `data` and `fsdp`, everything else whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def batch_shards(mesh: Mesh) -> int:
    """Into how many pieces the leading axis of a batch is cut."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def shardings_for(
    logical_axes: Any, abstract: Any, mesh: Mesh, rules: ShardingRules = DEFAULT_RULES
) -> Any:
    """A `NamedSharding` for every parameter.

    `logical_axes` mirrors `abstract` with a tuple of logical names (or None) per array; where it is
    None itself, every array is whole on every device.

    Raises:
        UserError: an unknown logical name, one mesh axis used twice by an array, or a size that the
            mesh axis does not divide; names the parameter and the legal values.
    """
    if logical_axes is None:
        return jax.tree.map(lambda _: replicated(mesh), abstract)
    known = {field.name for field in fields(rules)}

    def sharding(path: Any, array: Any, names: tuple[str | None, ...]) -> NamedSharding:
        where = f"parameter {jax.tree_util.keystr(path, simple=True, separator='/')}"
        if len(names) != len(array.shape):
            raise UserError(f"{where} of shape {array.shape} has logical axes {names}")
        unknown = [name for name in names if name is not None and name not in known]
        if unknown:
            raise UserError(f"{where} has logical axes {unknown}; known are {sorted(known)}")
        spec = [None if name is None else getattr(rules, name) for name in names]
        used = [axis for axis in spec if axis is not None]
        if len(set(used)) != len(used):
            raise UserError(f"{where} would use a mesh axis twice: {names} -> {spec}")
        for name, axis, size in zip(names, spec, array.shape):
            if axis is None:
                continue
            if axis not in mesh.shape:
                raise UserError(f"rule {name} -> {axis}: the mesh has axes {list(mesh.shape)}")
            if size % mesh.shape[axis]:
                legal = [n for n in range(1, mesh.size + 1) if size % n == 0]
                raise UserError(
                    f"{where}: axis {name!r} of size {size} is not divisible by mesh axis "
                    f"{axis}={mesh.shape[axis]}; use {axis} in {legal}, or map {name!r} to None"
                )
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree_util.tree_map_with_path(sharding, abstract, logical_axes)


def spread_over_fsdp(sharding: NamedSharding, shape: Sequence[int]) -> NamedSharding:
    """The same sharding, and `fsdp` on the longest dimension that it divides, unless it is in use.

    For optimizer slots, which no forward pass gathers: those of biases, norms and adapters, whose
    parameters are whole on every shard, need not be copied as well.
    """
    mesh, count = sharding.mesh, sharding.mesh.shape["fsdp"]
    spec = [*sharding.spec, *[None] * (len(shape) - len(sharding.spec))]
    axes = [() if part is None else (part,) if isinstance(part, str) else part for part in spec]
    if count == 1 or any("fsdp" in part for part in axes):
        return sharding
    pieces = [math.prod(mesh.shape[axis] for axis in part) * count for part in axes]
    legal = [d for d, size in enumerate(shape) if size and size % pieces[d] == 0]
    if not legal:
        return sharding
    longest = max(legal, key=lambda d: shape[d])
    axes[longest] = (*axes[longest], "fsdp")
    parts = [None if not part else part[0] if len(part) == 1 else part for part in axes]
    return NamedSharding(mesh, PartitionSpec(*parts))


def placed(
    policy: Policy, mesh: Mesh, rules: ShardingRules = DEFAULT_RULES, *, params: Any = None
) -> Policy:
    """The policy for use in a training step over the mesh: its activations cut by rows, its logits
    by the vocabulary, over every axis that cuts parameters.

    params: their shardings, where the step has gradients.
    """
    rows = batch_sharding(mesh)
    stored = None if params is None else policy.output(params)
    # Axes that cut parameters, the vocabulary's own first: a table that it cuts already then moves
    # among the devices of the others alone.
    axes = tuple(axis for axis in rules.cutting if axis in mesh.shape)
    policy = split_vocabulary(policy, rows, axes=axes, stored=stored)
    return pin_rows(policy, rows, rules=rules)


def check_batch(size: int, mesh: Mesh, *, parts: int = 1, what: str = "batch") -> None:
    """Check that `size` rows divide over the mesh after being cut into `parts` micro-batches.

    Raises:
        UserError: they do not; names the next legal sizes.
    """
    unit = batch_shards(mesh) * parts
    if size < 1 or size % unit:
        first = max(size // unit, 1) * unit
        raise UserError(
            f"{what} {size} is not divisible by {unit} ({parts} micro-batches x "
            f"{batch_shards(mesh)} devices on {' and '.join(BATCH_AXES)}); "
            f"use {first}, {first + unit}, {first + 2 * unit}, ..."
        )


def process_share(mesh: Mesh) -> tuple[int, int]:
    """`(index, count)`: this process feeds slice `index` of `count` equal slices of every batch.

    Processes that only differ along `tensor` share a slice.

    Raises:
        UserError: the rows of this process are not one slice, because the mesh interleaves
        processes.
    """
    shards = batch_shards(mesh)
    rows = batch_sharding(mesh).addressable_devices_indices_map((shards,))
    owned = sorted({index[0].start or 0 for index in rows.values()})
    if owned != list(range(owned[0], owned[0] + len(owned))) or owned[0] % len(owned):
        raise UserError(
            f"process {jax.process_index()} holds shards {owned} of {shards} of the batch, which "
            "is not one slice; order the devices so that those of a process are neighbours"
        )
    return owned[0] // len(owned), shards // len(owned)


def to_global(tree: Any, mesh: Mesh) -> Any:
    """This process's NumPy rows -> arrays over the mesh, the leading axis cut by `batch_sharding`.

    Every process calls it with the same number of rows, those of its `process_share`.
    """
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(jax.tree.map(np.asarray, tree), sharding)
    _, count = process_share(mesh)

    def place(rows: Any) -> jax.Array:
        rows = np.asarray(rows)
        shape = (rows.shape[0] * count, *rows.shape[1:])
        return jax.make_array_from_process_local_data(sharding, rows, shape)

    return jax.tree.map(place, tree)


def to_local(tree: Any) -> Any:
    """The inverse of `to_global`: this process's rows as NumPy."""

    def rows(array: Any) -> np.ndarray:
        if not isinstance(array, jax.Array) or array.is_fully_addressable:
            return np.asarray(array)
        pieces = {piece.index[0].start or 0: piece.data for piece in array.addressable_shards}
        return np.concatenate([np.asarray(pieces[start]) for start in sorted(pieces)])

    return jax.tree.map(rows, tree)

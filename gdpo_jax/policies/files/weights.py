"""Parameters from files onto a mesh and back, one tensor at a time.

Reading, a process holds one shard of one parameter in host memory, and asks the file only for the
slices that its own devices keep. Writing, it holds one file of the checkpoint.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array, Int, PyTree

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.decoder import decoder_policy
from gdpo_jax.policies.files.tensor_names import Path, Stored
from gdpo_jax.policies.policy import Params

LISTED = 40  # names of one kind in an error; a checkpoint of another model has hundreds


class TensorSource(NamedTuple):
    """Tensors of a checkpoint that is open but not read.

    where: the file or folder, for messages. shapes: of every tensor. read(name, slices): that part
    of one tensor as float32.
    """

    where: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str, tuple[slice, ...]], np.ndarray]


def abstract_params(config: DecoderConfig) -> PyTree:
    """Shapes and dtypes of the decoder's parameters, matrices before they are quantized."""
    plain = dataclasses.replace(config, param_dtype=config.table_dtype)
    return jax.eval_shape(decoder_policy(plain).init, jax.random.key(0))


def load_params(
    source: TensorSource,
    stored: Mapping[Path, Stored],
    abstract: PyTree,
    *,
    shardings: Any = None,
    ignore: Callable[[str], bool] = lambda name: False,
    finish: Callable[[Path, jax.Array], Any] = lambda path, array: array,
) -> Params:
    """The parameters of the shapes in `abstract`, read slice by slice where `shardings` want them.

    shardings: a sharding for every parameter; None puts all on the first device. ignore: tensors
    that may be in the files without being wanted. finish: what becomes of each parameter before the
    next one is read.

    Raises UserError that lists all missing, superfluous and wrongly shaped tensors, or those with
    numbers that are not finite.
    """
    leaves, tree = jax.tree.flatten_with_path(abstract)
    leaves = [(tuple(entry.key for entry in path), leaf) for path, leaf in leaves]
    check_tensors(source, stored, dict(leaves), ignore)
    if shardings is None:
        one = SingleDeviceSharding(jax.local_devices()[0])
        shardings = jax.tree.map(lambda _: one, abstract)
    places = jax.tree.leaves(shardings)
    wrong: dict[str, None] = {}
    checked = source._replace(read=_noting_what_is_not_finite(source.read, wrong))
    placed = [
        finish(path, _load(checked, stored[path], leaf, to))
        for (path, leaf), to in zip(leaves, places)
    ]
    if wrong:
        raise UserError(
            f"{len(wrong)} tensors of {source.where} hold numbers that are not finite in float32: "
            + listed(list(wrong), ", ")
        )
    return jax.tree.unflatten(tree, placed)


def _noting_what_is_not_finite(
    read: Callable[[str, tuple[slice, ...]], np.ndarray], wrong: dict[str, None]
) -> Callable[[str, tuple[slice, ...]], np.ndarray]:
    def reading(name, cuts):
        values = read(name, cuts)
        # Both pass NaN and infinity on, and need no memory.
        if values.size and not np.isfinite([values.min(), values.max()]).all():
            wrong[name] = None
        return values

    return reading


def listed(names: list[str], separator: str) -> str:
    """Names for a message, of which there may be too many."""
    more = [f"and {len(names) - LISTED} more"] * (len(names) > LISTED)
    return separator.join([*names[:LISTED], *more])


def check_tensors(
    source: TensorSource,
    stored: Mapping[Path, Stored],
    leaves: Mapping[Path, Any],
    ignore: Callable[[str], bool] = lambda name: False,
) -> None:
    """Raises UserError unless the source holds exactly the tensors of `leaves`."""
    wanted = {
        name: _stored_shape(stored[path], leaf.shape[stored[path].stacked :])
        for path, leaf in leaves.items()
        for name in _names(stored[path], leaf.shape)
    }
    missing = [name for name in wanted if name not in source.shapes]
    extra = [name for name in source.shapes if name not in wanted and not ignore(name)]
    shapes = [
        f"{name} {list(source.shapes[name])} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in source.shapes and tuple(source.shapes[name]) != shape
    ]
    problems, separator = [], "\n  "
    for title, names in (
        ("missing", missing),
        ("not of this model", extra),
        ("of another shape", shapes),
    ):
        if names:
            problems.append(f"{len(names)} {title}:\n  {listed(names, separator)}")
    if problems:
        raise UserError(f"the tensors of {source.where} do not fit:\n" + "\n".join(problems))


def _names(stored: Stored, shape: tuple[int, ...]) -> list[str]:
    if not stored.stacked:
        return [stored.name]
    return [stored.name.format(layer) for layer in range(shape[0])]


def _stored_shape(stored: Stored, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis] for axis in group) for group in stored.axes)


def _load(source: TensorSource, stored: Stored, leaf: Any, sharding: Any) -> jax.Array:
    """One parameter, each distinct slice of which is read once for all devices that keep it."""
    holders: dict[tuple[range, ...], list[Any]] = {}
    for device, index in sharding.addressable_devices_indices_map(leaf.shape).items():
        ranges = tuple(range(*cut.indices(size)) for cut, size in zip(index, leaf.shape))
        holders.setdefault(ranges, []).append(device)
    arrays = []
    for ranges, devices in holders.items():
        values = np.empty([len(r) for r in ranges], leaf.dtype)
        if stored.stacked:
            for layer, out in zip(ranges[0], values):
                out[...] = _read(
                    source, stored.name.format(layer), stored, leaf.shape[1:], ranges[1:]
                )
        else:
            values[...] = _read(source, stored.name, stored, leaf.shape, ranges)
        arrays += [jax.device_put(values, device) for device in devices]
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, arrays)


def _read(
    source: TensorSource,
    name: str,
    stored: Stored,
    shape: tuple[int, ...],
    ranges: tuple[range, ...],
) -> np.ndarray:
    """A block of one layer's parameter; of merged axes, the file is cut at the first one only."""
    cuts, sizes = [], []
    for first, *inner in stored.axes:
        size = math.prod(shape[axis] for axis in inner)
        cuts.append(slice(ranges[first].start * size, ranges[first].stop * size))
        sizes += [len(ranges[first]), *(shape[axis] for axis in inner)]
    order = [axis for group in stored.axes for axis in group]
    block = source.read(name, tuple(cuts)).reshape(sizes).transpose(np.argsort(order))
    inner_axes = {axis for _, *inner in stored.axes for axis in inner}
    keep = [
        slice(r.start, r.stop) if i in inner_axes else slice(None) for i, r in enumerate(ranges)
    ]
    return block[tuple(keep)]


def stored_tensors(
    params: Params, stored: Mapping[Path, Stored]
) -> Iterator[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]]:
    """Name, shape and value of every tensor of a checkpoint of `params`, values when called for.

    With several processes, all call all values in this order.
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        place = stored[tuple(entry.key for entry in path)]
        one = leaf.shape[place.stacked :]
        order = [axis for group in place.axes for axis in group]
        shape = _stored_shape(place, one)
        for layer, name in enumerate(_names(place, leaf.shape)):

            def value(leaf=leaf, layer=layer, place=place, order=order, shape=shape):
                array = whole(_layer(leaf, layer) if place.stacked else leaf)
                return np.ascontiguousarray(array.transpose(order).reshape(shape))

            yield name, shape, value


def _layer(leaf: Any, layer: int) -> Any:
    """One layer of a stacked parameter, by a program that all layers share."""
    return _row_of(leaf, layer) if isinstance(leaf, jax.Array) else leaf[layer]


@jax.jit
def _row_of(array: Array, index: Int[Array, ""] | int) -> Array:
    return jax.lax.dynamic_index_in_dim(array, index, keepdims=False)


def whole(array: Any) -> np.ndarray:
    """A whole array in this process, also where other processes hold parts of it."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


__all__ = [
    "TensorSource",
    "abstract_params",
    "check_tensors",
    "listed",
    "load_params",
    "stored_tensors",
    "whole",
]

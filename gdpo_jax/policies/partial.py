"""Training a part of the parameters: the others stay bit for bit, without optimizer slots.

A mask says which. It has the names of the parameters, as deep as it needs to go: True is trained,
False or a name that is left out is frozen, and a number is for stacked layers: 5 trains the first
five, -2 the last two. `{"embedding": True, "layers": 5}` of a decoder is all that comes before its
sixth layer.
"""

import dataclasses
import functools
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from gdpo_jax.errors import UserError
from gdpo_jax.policies.policy import Params, Policy

__all__ = ["Mask", "TrainedMask", "join_params", "partial_policy", "split_params"]

Mask = bool | int | Mapping[str, Any]
TRAINED, FROZEN = "trained", "frozen"


@dataclasses.dataclass(frozen=True)
class TrainedMask:
    """What `partial_policy` trains: names of parameters with True or a number of layers."""

    leaves: tuple[tuple[str, bool | int], ...]


def partial_policy(policy: Policy, mask: Mask) -> Policy:
    """A policy over {"trained": ..., "frozen": ...}; training changes what `mask` marks.

    The frozen parameters are an argument of every program, not constants in it. The policy also
    takes whole parameters. Equal arguments have equal policies, as in `decoder_policy`. Raises
    UserError for a mask that does not fit or trains nothing.
    """
    mask = checked_mask(jax.eval_shape(policy.init, jax.random.key(0)), mask)
    leaves, structure = jax.tree.flatten(mask)
    # With their types: 1 and True are equal, and mean one layer and all of them.
    found = _partial_policy(policy, tuple((type(leaf), leaf) for leaf in leaves), structure)
    return found._replace(config=policy.config)


# Kept, so that steps of the same part of the same policy are one program.
@functools.lru_cache(maxsize=64)
def _partial_policy(
    policy: Policy,
    leaves: tuple[tuple[type, bool | int], ...],
    structure: jax.tree_util.PyTreeDef,
) -> Policy:
    mask = jax.tree.unflatten(structure, [leaf for _, leaf in leaves])

    def whole(params: Params) -> Params:
        return join_params(params, mask) if TRAINED in params else params

    def of_whole(function: Callable | None) -> Callable | None:
        if function is None:
            return None
        return lambda params, *arguments, **options: function(whole(params), *arguments, **options)

    return policy._replace(
        init=lambda key: split_params(policy.init(key), mask),
        logical_axes=policy.logical_axes and (lambda: split_params(policy.logical_axes(), mask)),
        forward=of_whole(policy.forward),
        output=of_whole(policy.output),
        unroll=of_whole(policy.unroll),
        decode_stored=of_whole(policy.decode_stored),
        reference=of_whole(policy.reference),
        split_layers=of_whole(policy.split_layers),
        trained=TRAINED,
        trained_config=TrainedMask(tuple(_described(mask))),
    )


def split_params(params: PyTree, mask: Mask) -> dict[str, PyTree]:
    """{"trained": ..., "frozen": ...} of parameters, or of their logical axes or shardings."""
    parts = {TRAINED: _part(params, mask, True), FROZEN: _part(params, mask, False)}
    return {name: {} if part is None else part for name, part in parts.items()}


def join_params(parts: Mapping[str, PyTree], mask: Mask) -> PyTree:
    """The inverse of `split_params` by the same mask."""
    return _joined(parts[TRAINED] or None, parts[FROZEN] or None, mask)


def checked_mask(shapes: PyTree, mask: Mask) -> Mask:
    """The mask with True in place of a number that is all layers.

    Raises UserError for a name that no parameter has, a number of layers that there are not, and
    where nothing is trained.
    """
    checked = _checked(shapes, mask, "")
    if not list(_described(checked)):
        raise UserError(f"the mask {mask!r} trains nothing; mark some parameters with True")
    return checked


def _checked(tree: PyTree, mask: Mask, where: str) -> Mask:
    if isinstance(mask, bool):
        return mask
    if isinstance(mask, numbers.Integral):
        sizes = {leaf.shape[0] if leaf.shape else 0 for leaf in jax.tree.leaves(tree)}
        [size] = sizes if len(sizes) == 1 else [0]
        if not 1 <= abs(mask) <= size:
            legal = f"1 to {size} or -1 to -{size}" if size else "True and False"
            raise UserError(f"mask of {where or 'the parameters'}: {mask}; legal: {legal}")
        return True if abs(mask) == size else int(mask)
    if not isinstance(mask, Mapping) or not isinstance(tree, Mapping):
        kind = type(mask).__name__
        raise UserError(
            f"mask of {where or 'the parameters'}: a {kind}; give True, False, a number of layers, "
            "or a mapping where the parameters are one"
        )
    if unknown := [name for name in mask if name not in tree]:
        raise UserError(
            f"the mask names {where}{unknown[0]!r}, which no parameter has; "
            f"legal: {', '.join(map(str, tree))}"
        )
    return {name: _checked(tree[name], own, f"{where}{name}/") for name, own in mask.items()}


def _described(mask: Mask, where: str = "") -> Any:
    if isinstance(mask, Mapping):
        for name in sorted(mask):
            yield from _described(mask[name], f"{where}/{name}" if where else name)
    elif mask is not False:
        yield where, mask


def _part(tree: PyTree, mask: Mask, own: bool) -> PyTree | None:
    """The trained part (`own`) or the other one; None for an empty one."""
    if isinstance(mask, bool):
        return tree if mask is own else None
    if isinstance(mask, Mapping):
        parts = {name: _part(sub, mask.get(name, False), own) for name, sub in tree.items()}
        return {name: part for name, part in parts.items() if part is not None} or None
    behind = (mask > 0) is not own
    rows = slice(mask, None) if behind else slice(None, mask)
    return _map(lambda leaf: leaf[rows] if hasattr(leaf, "shape") else leaf, tree)


def _joined(trained: PyTree | None, frozen: PyTree | None, mask: Mask) -> PyTree:
    if isinstance(mask, bool):
        return trained if mask else frozen
    if isinstance(mask, Mapping):
        one, other = trained or {}, frozen or {}
        return {
            name: _joined(one.get(name), other.get(name), mask.get(name, False))
            for name in {**one, **other}
        }
    first, last = (trained, frozen) if mask > 0 else (frozen, trained)

    def rows(a: Any, b: Any) -> Any:
        # Both halves of a leaf have one sharding.
        return a if isinstance(a, jax.sharding.Sharding) else jnp.concatenate([a, b])

    return _map(rows, first, last)


def _map(function: Callable, tree: PyTree, *others: PyTree) -> PyTree:
    """Of mappings alone: logical axes are tuples."""
    if not isinstance(tree, Mapping):
        return function(tree, *others)
    return {name: _map(function, sub, *(o[name] for o in others)) for name, sub in tree.items()}

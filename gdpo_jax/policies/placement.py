"""How a policy's arrays lie on a mesh while it trains or samples; for use inside of `jax.jit`.

Parameters come with shardings of their own; what is computed from them does not, and left to
itself the compiler may give every device all rows of a batch, or add up the gradient of the output
table over all devices once for every chunk of log-probs. Four places decide about memory and
traffic: rows between layers, embeddings as they are looked up, logits, and weights for decoding,
which a device has whole or in part.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gdpo_jax.policies.policy import Policy
from gdpo_jax.policies.unrolling import SHARED_AXES, SPREAD_AXES
from gdpo_jax.policies.vocabulary import pick_by_gather, pick_by_sum


@dataclass(frozen=True)
class ShardingRules:
    """Logical axis of a parameter -> mesh axis; None keeps the axis whole on every device."""

    vocab: str | None = "tensor"  # rows of the embedding, columns of the head
    embed: str | None = "fsdp"  # hidden size, an axis of almost every matrix
    heads: str | None = "tensor"  # query heads
    kv_heads: str | None = "tensor"  # key and value heads
    head_dim: str | None = None  # size of a head
    mlp: str | None = "tensor"  # inner size of the feed-forward
    layers: str | None = None  # the axis on which layers are stacked

    @property
    def cutting(self) -> tuple[str, ...]:
        """The mesh axes that cut any parameter, that of the vocabulary first."""
        axes = [getattr(self, field.name) for field in fields(self)]
        return tuple(dict.fromkeys(axis for axis in axes if axis is not None))


DEFAULT_RULES = ShardingRules()


def pin_rows(
    policy: Policy, sharding: NamedSharding, *, rules: ShardingRules = DEFAULT_RULES
) -> Policy:
    """The policy whose activations lie as `sharding` says, rows first.

    rules: where the embedding table is cut along the embedding (`embed`), devices of that axis look
      up their part of the embedding for the rows of all of them, and then exchange parts for rows.
    """
    mesh, embed = sharding.mesh, rules.embed
    platform = mesh.devices.flat[0].platform
    if mesh.size == 1:
        return _placed(policy, platform=platform)
    pin, pieces = _pin(sharding), mesh.shape.get(embed, 1)
    others = tuple(axis for axis in _axes_of_rows(sharding) if axis != embed)
    pin_parts = _pin(NamedSharding(mesh, PartitionSpec(others, None, embed)))
    pin_ids = _pin(NamedSharding(mesh, PartitionSpec(others)))

    def ids(x):
        # Where each device has ids of its own rows alone, the compiler gathers the whole table once
        # there are many copies of the parameters, and adds up its gradient over all devices.
        return pin_ids(x) if pieces > 1 else x

    def lookup(x):
        return pin(pin_parts(x) if pieces > 1 and x.shape[-1] % pieces == 0 else x)

    map_heads = _by_heads(mesh, _axes_of_rows(sharding), rules)
    return _placed(
        policy, layers=pin, ids=ids, lookup=lookup, map_heads=map_heads, platform=platform
    )


def gather_weights(
    policy: Policy, sharding: NamedSharding, *, rules: ShardingRules = DEFAULT_RULES
) -> Policy:
    """The policy whose weights for decoding (`unroll`) are whole on every device, but for the
    heads, features and vocabulary that `rules` cut along an axis that cuts no rows.

    sharding: of the rows. Weights are gathered once, in the compute dtype, for all loops that
    decode with them; the compiler gathers them for each loop anew, and keeps all copies.
    """
    mesh = sharding.mesh
    if mesh.size == 1:
        return policy
    whole = all(mesh.shape.get(axis, 1) == 1 for axis in rules.cutting)
    return _placed(policy, weights=_pin_weights(sharding, rules), weights_whole=whole)


def gathered_bytes(
    policy: Policy, sharding: NamedSharding, *, rules: ShardingRules = DEFAULT_RULES
) -> int:
    """Bytes of the weights for decoding on one device under `gather_weights`."""
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(policy.init, key)
    weights = jax.eval_shape(lambda params: policy.unroll(params, 1), params)

    def size(path, leaf):
        own = NamedSharding(sharding.mesh, _weight_spec(path, leaf, sharding, rules))
        return math.prod(own.shard_shape(leaf.shape)) * leaf.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree_util.tree_map_with_path(size, weights)))


def cut_weights(
    policy: Policy, sharding: NamedSharding, *, rules: ShardingRules = DEFAULT_RULES
) -> Policy:
    """The policy of the decoder whose weights for decoding are cut as by `gather_weights`, and over
    the axes that cut rows and parameters both.

    sharding: of the rows. Weights go from how they are stored to how they are cut once, in the
    compute dtype; in the loops rows travel in their place. Each device multiplies the rows of all
    that share a copy with its part of heads, features or vocabulary, and attends for its own rows
    alone, so that the keys and values of a row stay where they are.
    """
    mesh, of_rows = sharding.mesh, _axes_of_rows(sharding)
    shared = tuple(a for a in rules.cutting if a in of_rows and mesh.shape[a] > 1)
    if not shared:
        return gather_weights(policy, sharding, rules=rules)
    others = tuple(axis for axis in of_rows if axis not in shared)
    of_vocabulary = () if rules.vocab in (None, *of_rows) else (rules.vocab,)
    free = PartitionSpec.UNCONSTRAINED

    def pinned(rows, last):
        def pin(x):
            spec = PartitionSpec(rows, *[free] * (x.ndim - 2), last)
            return _pin(NamedSharding(mesh, spec))(x)

        return pin

    all_rows, own_rows = pinned(others, free), pinned(of_rows, None)
    as_computed, half_way = pinned(others, of_vocabulary + shared), pinned(of_rows, of_vocabulary)

    def logits(x):
        # One axis of the mesh after the other: for both at once the compiler puts all rows
        # together on every device.
        return own_rows(half_way(as_computed(x)))

    return _placed(
        policy,
        weights=_pin_weights(sharding, rules, shared),
        weights_whole=False,
        all_rows=all_rows,
        columns=pinned(others, shared),
        own_rows=own_rows,
        rows=all_rows,
        logits=logits,
    )


def _weight_spec(
    path: Any, leaf: Any, sharding: NamedSharding, rules: ShardingRules, spread: Sequence[str] = ()
) -> PartitionSpec:
    """Cut as `rules` say along axes of the mesh that cut no rows, and over `spread` on top."""
    mesh, spec = sharding.mesh, [()] * len(leaf.shape)
    matrix = getattr(path[-1], "key", None)
    if matrix in SHARED_AXES:
        shared, name = SHARED_AXES[matrix]
        axis = getattr(rules, name)
        pieces = 1 if axis in _axes_of_rows(sharding) else mesh.shape.get(axis, 1)
        if pieces > 1 and leaf.shape[shared] % pieces == 0:
            spec[shared] = (axis,)
        # The compiler fills up what does not divide.
        spec[SPREAD_AXES[matrix]] += tuple(spread)
    return PartitionSpec(*spec)


def _pin_weights(
    sharding: NamedSharding, rules: ShardingRules, spread: Sequence[str] = ()
) -> Callable[[Any], Any]:
    def pin(path, leaf):
        spec = _weight_spec(path, leaf, sharding, rules, spread)
        return _pin(NamedSharding(sharding.mesh, spec))(leaf)

    return functools.partial(jax.tree_util.tree_map_with_path, pin)


def split_vocabulary(
    policy: Policy, sharding: NamedSharding, *, axes: Sequence[str], stored: Any = None
) -> Policy:
    """The policy whose logits are cut along the vocabulary over `axes` of the mesh.

    sharding: of the rows. Devices that differ along `axes` alone share their rows of a chunk, each
      for its slice of the vocabulary, so that none holds the output table whole. The gradient of
      the table stays apart on the others until all chunks are done, and is added up once.
    axes: of the mesh; of those that do not divide the vocabulary together, the first ones count.
    stored: shardings of `policy.output(params)`, to which gradients return; left out where there
      are none. Those of a table that is looked up in as well would else lie as its logits do.
    """
    mesh = sharding.mesh
    if mesh.size == 1:
        return policy
    axes = tuple(axis for axis in axes if mesh.shape[axis] > 1)
    while policy.config.vocab_size % math.prod(mesh.shape[axis] for axis in axes):
        axes = axes[:-1]
    rows = _axes_of_rows(sharding)
    apart = tuple(axis for axis in rows if axis not in axes)
    groups = math.prod(mesh.shape[axis] for axis in apart)
    shared = tuple(axis for axis in rows if axis in axes)

    def cut_logits(logits):
        cut = PartitionSpec(*[None] * (logits.ndim - 1), axes)
        return _pin(NamedSharding(mesh, cut))(logits)

    def map_rows(of_rows):
        # The table has no axis of groups, so its gradients are added up after the loop.
        of_groups = jax.vmap(of_rows, in_axes=(0, None, 0), spmd_axis_name=apart)

        def mapped(hidden, output, tokens):
            if stored is not None:
                output = jax.tree.map(jax.lax.with_sharding_constraint, output, stored)
            if groups == 1:
                return of_rows(hidden, output, tokens)
            hidden, tokens = (x.reshape(groups, -1, *x.shape[1:]) for x in (hidden, tokens))
            return tuple(x.reshape(-1, *x.shape[2:]) for x in of_groups(hidden, output, tokens))

        return mapped

    return _placed(
        policy,
        rows=_gathered(mesh, shared),
        table=_pin(NamedSharding(mesh, PartitionSpec(None, axes))),
        logits=cut_logits,
        pick=pick_by_sum if axes else pick_by_gather,
        map_rows=map_rows,
    )


def _placed(policy: Policy, **changes: Any) -> Policy:
    return policy._replace(placement=policy.placement._replace(**changes))


def _axes_of_rows(sharding: NamedSharding) -> tuple[str, ...]:
    first = sharding.spec[0] if sharding.spec else None
    return () if first is None else (first,) if isinstance(first, str) else tuple(first)


def _pin(sharding: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    return functools.partial(jax.lax.with_sharding_constraint, shardings=sharding)


def _by_heads(mesh: Mesh, rows: tuple[str, ...], rules: ShardingRules) -> Callable:
    """`Placement.map_heads` of rows cut over `rows` and heads as the rules say."""

    def cut(name):
        axis = None if name in rows else name
        return PartitionSpec(rows, None, axis)

    queries, keys = cut(rules.heads), cut(rules.kv_heads)

    def map_heads(of_rows):
        ins = (queries, keys, keys, PartitionSpec(rows))
        # A kernel does not say along which axes its results differ.
        return jax.shard_map(of_rows, mesh=mesh, in_specs=ins, out_specs=queries, check_vma=False)

    return map_heads


def _gathered(mesh: Mesh, axes: tuple[str, ...]) -> Callable[[jax.Array], jax.Array]:
    """Rows that `axes` cut, whole on all their devices; gradients go back to where rows came from.

    The transpose of a constraint is the same constraint: gradients would be added up for all rows
    on every device.
    """
    if not axes:
        return lambda rows: rows

    @jax.custom_vjp
    def gathered(rows):
        return _pin(NamedSharding(mesh, PartitionSpec()))(rows)

    def backward(_, change):
        return (_pin(NamedSharding(mesh, PartitionSpec(axes)))(change),)

    gathered.defvjp(lambda rows: (gathered(rows), None), backward)
    return gathered


__all__ = [
    "DEFAULT_RULES",
    "ShardingRules",
    "cut_weights",
    "gather_weights",
    "gathered_bytes",
    "pin_rows",
    "split_vocabulary",
]

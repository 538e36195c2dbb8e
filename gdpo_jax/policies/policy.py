"""A policy in two records: what a model computes, and how that is placed on devices.

`Policy` is what the author of a model gives; its placement is the default one, which leaves all to
the compiler, until a step is made for a mesh (placement.py).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from gdpo_jax.errors import UserError
from gdpo_jax.policies.attention import Attend, KeyValues, cached, masked, within
from gdpo_jax.policies.quantized import is_quantized
from gdpo_jax.policies.vocabulary import pick_by_gather, vocabulary_logits

Params = PyTree[Float[Array, "..."]]


def _same(x: Any) -> Any:
    return x


def _as_stored(params: Params, num_positions: int) -> Params:
    return params


class Placement(NamedTuple):
    """Where the arrays that a policy computes lie on a mesh: functions that give back their
    argument, placed. By default none is placed.

    weights_whole: whether every device holds the stored parameters whole, or else each a part.
    layers: of activations [N, T, D] between layers. ids: of token ids [N, T] before they are looked
    up in the table. lookup: of embeddings [N, T, D] as they come out of it. weights: of the
    parameters for decoding that `Policy.unroll` made. all_rows: of what a weight for decoding is
    multiplied with [N, ...]; where devices share such weights, each needs the rows of all of them.
    columns: of products [N, ..., F] of which each then has a part of the last axis. own_rows: of
    what goes on by rows [N, ..., F]. rows: of hidden states [N, ..., D] before they become logits.
    table: of the output table [D, V]. logits: of logits [..., V].

    pick(values [..., V], tokens [...]) -> the values at the tokens [...].
    map_rows(f) -> f, a function of (hidden, output, tokens) whose outputs are a tuple with the same
      rows, done by the groups of rows that devices hold.
    map_heads(f) -> f, a function of (queries, keys, values [N, T, heads, K], lengths [N]) whose
      output lies as the queries, done by each device for its rows and heads alone.
    platform: of the mesh's devices ("tpu"); None where nothing is placed.
    """

    weights_whole: bool = True
    layers: Callable[[Array], Array] = _same
    ids: Callable[[Array], Array] = _same
    lookup: Callable[[Array], Array] = _same
    weights: Callable[[Params], Params] = _same
    all_rows: Callable[[Array], Array] = _same
    columns: Callable[[Array], Array] = _same
    own_rows: Callable[[Array], Array] = _same
    rows: Callable[[Array], Array] = _same
    table: Callable[[PyTree], PyTree] = _same
    logits: Callable[[Array], Array] = _same
    pick: Callable[[Array, Array], Array] = pick_by_gather
    map_rows: Callable[[Callable], Callable] = _same
    map_heads: Callable[[Callable], Callable] = _same
    platform: str | None = None


UNPLACED = Placement()


class Cache(NamedTuple):
    """Key and value slots of every layer [L,N,J,S,K], their positions, and how many are filled."""

    layers: KeyValues
    positions: Int[Array, "N S"]
    filled: Int[Array, ""]


class Policy(NamedTuple):
    """What the core takes of a language model: functions over parameters, never a model class.

    Four have no default; docs/models.md shows a flax module behind them.

    config: a frozen record with `vocab_size`, `max_positions` and `window` (None where every layer
      sees all positions).
    init(key) -> params.
    forward(params, tokens [N,T], positions [N,T], attend, caches, placement)
      -> (hidden [N,T,D], caches). Each layer calls `attend` (attention.py) in place of its own
      attention, with what `caches` holds for it, or None. The caches that `attend` gave come back
      stacked over layers, or as a tuple where a tuple came in. `placement.layers` is for
      activations between layers, `placement.ids` and `placement.lookup` for what goes into the
      embedding table and comes out of it; a model that does not call them leaves these to the
      compiler.
    output(params) -> the parameters that make logits of hidden states: an embedding or a head.

    output_table(output) -> the same as the product reads them [D, V]; apart, so that a loop over
      hidden states can make the copy once, where gradients want one, or not at all.
    logits_of(hidden [..., D], table) -> float32 logits [..., V].
    unroll(params, num_positions) -> the same parameters for a decoding loop that reaches so many
      positions (of the decoder: layers as a tuple, projections fused).
    decode_stored(params, num_positions) -> the same for a loop that reads the weights as they are
      stored, of which there is then no second copy; None where `unroll` always makes one.
    logical_axes() -> the tree of params with a tuple of axis names for each leaf; None where every
      parameter is whole on every device.
    reference(params) -> those of the policy before training, where `params` hold them, or None.
    split_layers(params, count) -> those of the first `count` layers and of the layers behind them:
      `forward` gives the hidden states [N,T,D] between both for the first, and takes them in place
      of tokens for the second. None where a model does not offer it.
    trained: the branch of `params` that training changes; None for all of them.
    trained_config: what that branch is (a LoraConfig or a TrainedMask), which a continuation of a
      run must share.
    placement: how arrays lie on the mesh of a step; not for the author of a model to give.
    """

    config: Any
    init: Callable[[Array], Params]
    forward: Callable[..., tuple[Array, PyTree]]
    output: Callable[[Params], PyTree]
    output_table: Callable[[PyTree], PyTree] = _same
    logits_of: Callable[[Array, PyTree], Array] = vocabulary_logits
    unroll: Callable[[Params, int], Params] = _as_stored
    decode_stored: Callable[[Params, int], Params] | None = None
    logical_axes: Callable[[], PyTree] | None = None
    reference: Callable[[Params], Params] | None = None
    split_layers: Callable[[Params, int], tuple[Params, Params]] | None = None
    trained: str | None = None
    trained_config: Any = None
    placement: Placement = UNPLACED

    def hidden_states(
        self, params: Params, tokens: Array, positions: Array, attend: Attend, caches: PyTree = None
    ) -> tuple[Float[Array, "N T D"], PyTree]:
        """`forward`, placed."""
        return self.forward(params, tokens, positions, attend, caches, self.placement)

    def decoding_params(self, params: Params, num_positions: int) -> Params:
        """`decode_stored` where every device holds all parameters, else `unroll`, placed."""
        if self.decode_stored is not None and self.placement.weights_whole:
            return self.decode_stored(params, num_positions)
        return self.placement.weights(self.unroll(params, num_positions))

    def table(self, output: PyTree) -> PyTree:
        """`output_table`, placed."""
        return self.placement.table(self.output_table(output))

    def logits(self, hidden: Float[Array, "*N D"], table: PyTree) -> Float[Array, "*N V"]:
        """`logits_of`, placed."""
        return self.placement.logits(self.logits_of(self.placement.rows(hidden), table))

    def unembed(self, params: Params, hidden: Float[Array, "*N D"]) -> Float[Array, "*N V"]:
        """Float32 logits of hidden states."""
        return self.logits(hidden, self.table(self.output(params)))

    def apply(
        self,
        params: Params,
        tokens: Int[Array, "N T"],
        positions: Int[Array, "N T"],
        mask: Bool[Array, "N T S"],
        cache: Cache | None = None,
    ) -> tuple[Float[Array, "N T D"], Cache | None]:
        """Hidden states of rows under a dense mask, S = T, or S slots of a cache that they fill.

        Raises UserError for rows longer than the policy's positions.
        """
        self._check_length(tokens.shape[1])
        window = self.config.window
        if cache is None:
            attend = masked(mask, within(positions, positions, window))
            return self.hidden_states(params, tokens, positions, attend)[0], None
        at = (jnp.zeros_like(cache.filled), cache.filled)
        slots = jax.lax.dynamic_update_slice(cache.positions, positions.astype(jnp.int32), at)
        attend = cached(mask, cache.filled, within(positions, slots, window))
        hidden, layers = self.hidden_states(params, tokens, positions, attend, cache.layers)
        return hidden, Cache(layers, slots, cache.filled + tokens.shape[1])

    def init_cache(self, batch: int, length: int) -> Cache:
        """An empty cache of `length` slots, of a policy with the sizes of a `DecoderConfig`.

        Raises UserError for more slots than the policy has positions.
        """
        self._check_length(length)
        c = self.config
        shape = (c.num_layers, batch, c.num_kv_heads, length, c.head_dim)
        empty = KeyValues(jnp.zeros(shape, c.dtype), jnp.zeros(shape, c.dtype))
        positions = jnp.zeros((batch, length), jnp.int32)
        return Cache(empty, positions, jnp.zeros((), jnp.int32))

    def _check_length(self, size: int) -> None:
        if size > self.config.max_positions:
            raise UserError(
                f"rows of {size} tokens exceed the policy's {self.config.max_positions} positions"
            )


def trained_part(policy: Policy, params: PyTree) -> PyTree:
    """What gradients and the optimizer see of `params`."""
    return params if policy.trained is None else params[policy.trained]


def frozen_part(policy: Policy, params: PyTree) -> PyTree:
    """What training leaves as it is of `params`: all but the trained branch, or nothing."""
    if policy.trained is None:
        return {}
    return {name: branch for name, branch in params.items() if name != policy.trained}


def with_trained_part(policy: Policy, params: PyTree, part: PyTree) -> PyTree:
    """`params`, or their frozen part, with the trained part replaced."""
    return part if policy.trained is None else {**params, policy.trained: part}


def num_params(params: Any) -> int:
    """How many numbers a tree of parameters holds; a quantized matrix counts without its scales."""
    leaves = jax.tree.leaves(params, is_leaf=is_quantized)
    return sum(math.prod(leaf.shape) for leaf in leaves)


__all__ = [
    "UNPLACED",
    "Cache",
    "Params",
    "Placement",
    "Policy",
    "frozen_part",
    "num_params",
    "trained_part",
    "with_trained_part",
]

"""The records of the algebra: what enters it, what flows through it, what leaves it.

In the shape descriptions, `B` counts prompts (groups), `G` sampled completions of a prompt, `K`
rewards, and `*R` is either nothing or the ranks of a list (per-item rewards).
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gdpo_jax.advantages.descriptions import describe
from gdpo_jax.errors import UserError

# Sizes beyond it count as it, so that no sum over a batch overflows.
LARGEST_REWARD = 2.0**100
# The default resolution of a reward, in units in the last place of a group's largest value.
UNITS = 8.0
# Differences below it are not worth a warning: nobody designs a reward of that size, and noise has
# it.
_NOTABLE = 1e-4

T = TypeVar("T")
AnyArray = Array | np.ndarray


def record(*, static: Sequence[str] = ()) -> Callable[[type[T]], type[T]]:
    """A frozen dataclass that is a pytree; the fields in `static` belong to its structure, not its
    leaves.

    Unflattening does not run `__init__`, so a tree of shardings or shapes of the same structure is
    legal even when the annotations are checked at run time.
    """

    def register(cls: type[T]) -> type[T]:
        cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        fields = tuple(field.name for field in dataclasses.fields(cls))
        leaves = tuple(name for name in fields if name not in static)

        def flatten_with_keys(self):
            children = tuple((jax.tree_util.GetAttrKey(n), getattr(self, n)) for n in leaves)
            return children, tuple(getattr(self, n) for n in static)

        def unflatten(aux, children):
            self = object.__new__(cls)
            for name, value in zip((*leaves, *static), (*children, *aux), strict=True):
                object.__setattr__(self, name, value)
            return self

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
        return cls

    return register


@record(static=("names",))
class RewardBatch:
    """The rewards of one batch; what stands under an entry that is not valid may be anything, NaN
    included.

    values: `[B, G, K]` one reward per completion, or `[B, G, K, R]` one per item of a list.
    valid: same shape; false where a reward is missing or the sample is masked: such an entry enters
    no statistics.
    names: the K reward names, part of the structure.
    sample_valid: `[B, G]`, false for samples that are out altogether (padding, filtered groups), or
    None if all are in. Only conventions in which a missing reward counts as zero look at it.
    Sizes beyond 2^100 (1.27e30) count as 2^100.
    """

    values: Float[AnyArray, "B G K *R"]
    valid: Bool[AnyArray, "B G K *R"]
    names: tuple[str, ...]
    sample_valid: Bool[AnyArray, "B G"] | None = None


@record()
class Advantages:
    """One advantage per completion `[B, G]` or per item `[B, G, R]`; exactly zero where it is not
    valid.
    """

    values: Float[AnyArray, "B G *R"]
    valid: Bool[AnyArray, "B G *R"]


@record(static=("names", "combined", "centred", "resolution", "unit"))
class Flow:
    """What the transforms hand on.

    values, valid: `[B, G, K, *R]`, and `[B, G, *R]` once the rewards are combined.
    raw, raw_valid: the rewards as they came, for stages that look at raw values (conditions,
    adaptive weights).
    lengths: tokens per completion `[B, G, *R]`, or None; needed only by whitening over tokens.
    penalty: `[B, G, *R]` to be taken off the sum, or None; needed only by `subtract_penalty`.
    noise: `[B, 1, K, *R]`, and `[B, 1, *R]` once combined: how far two values of a group may differ
    by rounding alone; None while nothing has been measured.
    members: `[B, G, *R]` the samples that are in at all, with or without a reward.
    metrics: scalars with stable names. trace: arrays worth looking at ("components", "sum",
    "sum_valid").
    names: the K reward names. combined: whether the reward axis is gone.
    centred: whether the values are relative to their group, so that 0 is neutral there.
    resolution: per reward, the difference of raw rewards that is no signal yet; None for the
    default. unit: spacing at 1 of the dtype in which the rewards came.
    """

    values: Float[Array, "B G *rest"]
    valid: Bool[Array, "B G *rest"]
    raw: Float[Array, "B G K *R"]
    raw_valid: Bool[Array, "B G K *R"]
    lengths: Float[Array, "B G *R"] | None
    penalty: Float[Array, "B G *R"] | None
    noise: Float[Array, "B 1 *rest"] | None
    members: Bool[Array, "B G *R"]
    metrics: dict[str, Array]
    trace: dict[str, Array]
    names: tuple[str, ...]
    combined: bool
    centred: bool
    resolution: tuple[float | None, ...]
    unit: float


class AdvantageTransform(NamedTuple):
    """A pair of pure functions, as optax has for gradients.

    init: reward names -> state (a pytree of arrays; weights are in it, never in the compiled
    function).
    update: (flow, state) -> (flow, state).
    description: what is computed, as numbers, strings, lists and dicts: transforms that compute
    different things have different ones. None for a pair written by hand, which is known by the
    name of its `update`; see `describe`.
    """

    init: Callable[[tuple[str, ...]], Any]
    update: Callable[[Flow, Any], tuple[Flow, Any]]
    description: Any = None

    def __hash__(self) -> int:
        # A description holds dicts; transforms are static arguments of compiled functions.
        return hash((self.init, self.update))


def stateless(update: Callable[[Flow], Flow], description: Any = None) -> AdvantageTransform:
    """A transform that remembers nothing. Without a description it is described by `update`."""
    return AdvantageTransform(
        init=lambda names: (),
        update=lambda flow, state: (update(flow), state),
        description=describe(update) if description is None else description,
    )


def statistics_dtype(dtype: Any) -> Any:
    """The dtype of all statistics: float32, or float64 when the input has it."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def reward_batch(
    values: Any, names: Sequence[str], *, valid: Any = None, sample_valid: Any = None
) -> RewardBatch:
    """A `RewardBatch` from plain host numbers: NaN and None mean missing, infinity is refused.

    values: `[B, G, K]` or `[B, G, K, R]`. valid: same shape, or None. sample_valid: `[B, G]`, or
    None.
    float64 becomes float32 unless JAX has float64 enabled. Warns if float32 is too coarse for a
    reward: differences of 1e-4 or more that are below 8 units in its last place.
    Raises UserError for a wrong rank or shape, something that is no number, a number of names that
    is not K, a name given twice, or an infinity at a valid place.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names or len(set(names)) != len(names):
        raise UserError(f"reward names must differ, and be at least one; got {list(names)}")
    try:
        values = np.asarray(values)
        if not jnp.issubdtype(values.dtype, jnp.floating):
            values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"rewards must be numbers, NaN or None, all groups of one size: {error}"
        ) from error
    if values.ndim not in (3, 4) or values.shape[2] != len(names):
        raise UserError(
            f"rewards have shape {values.shape} for the {len(names)} names {list(names)}; "
            f"expected [prompts, samples, {len(names)}] or [prompts, samples, {len(names)}, ranks]"
        )
    present = ~np.isnan(values)
    if valid is not None:
        present &= _mask_of("valid", valid, values.shape)
    if sample_valid is not None:
        sample_valid = _mask_of("sample_valid", sample_valid, values.shape[:2])
        present &= sample_valid.reshape(values.shape[:2] + (1,) * (values.ndim - 2))
    infinite = np.argwhere(np.isinf(values) & present)
    if len(infinite):
        prompt, sample, reward = (int(i) for i in infinite[0][:3])
        raise UserError(
            f"reward {names[reward]!r} is infinite at prompt {prompt}, sample {sample}; "
            "return a finite number, or None for a missing one"
        )
    if values.dtype.itemsize > jax.dtypes.canonicalize_dtype(np.float64).itemsize:
        values = _narrowed(values, present, names)
    return RewardBatch(values=values, valid=present, names=names, sample_valid=sample_valid)


def _narrowed(values: np.ndarray, present: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The rewards in float32, with a warning that names those whose differences it loses."""
    x = np.where(present, np.clip(values, -LARGEST_REWARD, LARGEST_REWARD), 0)
    largest = np.max(np.abs(x), axis=1)
    low, high = (
        edge(np.where(present, x, sign * np.inf), axis=1)
        for edge, sign in ((np.min, 1), (np.max, -1))
    )
    spread = np.where(present.any(axis=1), high - low, 0)
    finest = UNITS * np.finfo(np.float32).eps * largest
    lost = (
        (spread >= _NOTABLE) & (spread <= finest) & (spread > UNITS * np.finfo(float).eps * largest)
    )
    lost = lost.any(axis=tuple(axis for axis in range(lost.ndim) if axis != 1))
    if lost.any():
        lossy = [name for name, is_lost in zip(names, lost, strict=True) if is_lost]
        warnings.warn(
            f"float32 cannot resolve the differences inside a group of reward {lossy}: the values "
            "are too large for them, and the group will count as equal; subtract a constant from "
            "the reward",
            stacklevel=3,
        )
    return x.astype(np.float32)


def _mask_of(name: str, mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.asarray(mask, bool)
    if mask.shape != shape:
        raise UserError(f"{name} has shape {mask.shape}; for these rewards it must be {shape}")
    return mask

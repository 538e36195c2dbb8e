"""The state of a run as one pytree, created in place on the mesh."""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Int, Key

from gdpo_jax.errors import UserError
from gdpo_jax.policies import Policy, trained_part
from gdpo_jax.policies.policy import frozen_part, with_trained_part
from gdpo_jax.training.mesh import (
    DEFAULT_RULES,
    ShardingRules,
    batch_sharding,
    replicated,
    shardings_for,
    spread_over_fsdp,
)
from gdpo_jax.training.optimizers import OptimizerConfig, as_optimizer


@chex.dataclass(frozen=True)
class TrainState:
    """All that changes while training; the shardings of a state take the same form.

    step: optimizer updates done. healthy: false once an update had a loss or gradient that was not
    finite; from then on updates change nothing, so that `params` stay the last good ones until the
    host has seen it. advantage_state: state of the advantage transform. key: never consumed; the
    randomness of step `n` is `fold_in(key, n)`.
    """

    step: Int[Array, ""] | NamedSharding
    healthy: Bool[Array, ""] | NamedSharding
    params: Any
    opt_state: Any
    advantage_state: Any
    key: Key[Array, ""] | NamedSharding


def create_state(
    policy: Policy,
    optimizer: optax.GradientTransformation | OptimizerConfig,
    *,
    key: Key[Array, ""],
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    params: Any = None,
    advantage_state: Any = (),
) -> TrainState:
    """A fresh state, every array made with the sharding it keeps; optimizer slots follow
    trained parameters.

    `params` starts from given parameters, otherwise from `policy.init`. What is trained of them is
    copied, since steps donate it; what is frozen (the base of LoRA) is the given arrays themselves
    where they lie as the rules say.

    Raises:
        UserError: a parameter does not divide over the mesh, or one that is trained is in fewer
            bits than float32.
    """
    _check_trained(policy)
    optimizer = as_optimizer(optimizer)
    init_key, run_key = jax.random.split(key)
    shardings = state_shardings(policy, optimizer, mesh=mesh, rules=rules)
    given = params is not None
    if given:
        params = jax.device_put(params, shardings.params)
    else:
        params = _initializer(policy, mesh, rules)(init_key)
    build = _state_builder(policy, optimizer, mesh=mesh, rules=rules, copy=given)
    state = build(run_key, trained_part(policy, params), advantage_state)
    return with_frozen(policy, state, frozen_part(policy, params))


def without_frozen(policy: Policy, state: TrainState) -> TrainState:
    """The state with the trained part in place of its parameters: what a step changes."""
    return state.replace(params=trained_part(policy, state.params))


def with_frozen(policy: Policy, state: TrainState, frozen: Any) -> TrainState:
    """The inverse of `without_frozen`."""
    return state.replace(params=with_trained_part(policy, frozen, state.params))


# Apart from the rest, so that states with different optimizers share this larger program.
@functools.lru_cache(maxsize=64)
def _initializer(policy: Policy, mesh: Mesh, rules: ShardingRules) -> Callable[[Any], Any]:
    return jax.jit(policy.init, out_shardings=_param_shardings(policy, mesh, rules))


@functools.lru_cache(maxsize=64)
def _state_builder(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    mesh: Mesh,
    rules: ShardingRules,
    copy: bool,
) -> Callable[..., TrainState]:
    """`f(key, trained, advantage_state)`: the state without what is frozen. copy: the trained
    parameters stay what they are, and are otherwise donated."""
    shardings = state_shardings(policy, optimizer, mesh=mesh, rules=rules)
    return jax.jit(
        functools.partial(_build, optimizer),
        out_shardings=without_frozen(policy, shardings),
        donate_argnums=() if copy else 1,
    )


def _build(
    optimizer: optax.GradientTransformation, key: Any, trained: Any, advantage_state: Any
) -> TrainState:
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        healthy=jnp.ones((), bool),
        params=jax.tree.map(jnp.copy, trained),
        opt_state=optimizer.init(trained),
        advantage_state=jax.tree.map(jnp.asarray, advantage_state),
        key=key,
    )


def abstract_state(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
) -> TrainState:
    """The state that `create_state` would make, as shapes, dtypes and shardings; nothing is
    allocated.

    Raises:
        UserError: a parameter does not divide over the mesh.
    """
    shardings = state_shardings(policy, optimizer, mesh=mesh, rules=rules)
    key = jax.random.key(0)
    params = jax.eval_shape(policy.init, key)
    build = functools.partial(_build, optimizer)
    state = jax.eval_shape(build, key, trained_part(policy, params), ())
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        with_frozen(policy, state, frozen_part(policy, params)),
        shardings.replace(advantage_state=()),
    )


@functools.lru_cache(maxsize=64)
def state_shardings(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
) -> TrainState:
    """The sharding of every array of a state; the advantage state is whole on every device.

    Optimizer slots lie as their parameters do, and are cut over `fsdp` even where those are whole.

    Raises:
        UserError: a parameter does not divide over the mesh.
    """
    everywhere = replicated(mesh)
    of_params = _param_shardings(policy, mesh, rules)
    trained = trained_part(policy, jax.eval_shape(policy.init, jax.random.key(0)))

    def slot(leaf: Any, param: Any, sharding: Any) -> Any:
        # Factored optimizers keep slots of other shapes.
        like = sharding if leaf.shape == param.shape else everywhere
        return spread_over_fsdp(like, leaf.shape)

    of_optimizer = optax.tree.map_params(
        optimizer,
        slot,
        jax.eval_shape(optimizer.init, trained),
        trained,
        trained_part(policy, of_params),
        transform_non_params=lambda _: everywhere,
    )
    return TrainState(
        step=everywhere,
        healthy=everywhere,
        params=of_params,
        opt_state=of_optimizer,
        advantage_state=everywhere,
        key=everywhere,
    )


def _param_shardings(policy: Policy, mesh: Mesh, rules: ShardingRules) -> Any:
    axes = None if policy.logical_axes is None else policy.logical_axes()
    return shardings_for(axes, jax.eval_shape(policy.init, jax.random.key(0)), mesh, rules)


def _check_trained(policy: Policy) -> None:
    trained = trained_part(policy, jax.eval_shape(policy.init, jax.random.key(0)))
    for path, leaf in jax.tree.leaves_with_path(trained):
        if leaf.dtype.itemsize < 4:
            where = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"the trained parameter {where} is {leaf.dtype}, which rounds small updates away; "
                "open the model with param_dtype float32, or train adapters beside it (lora=)"
            )


def compile_step(
    policy: Policy, step: Callable[..., tuple[TrainState, Any]], shardings: TrainState, mesh: Mesh
) -> Callable[[TrainState, Any], tuple[TrainState, Any]]:
    """`f(state, batch) -> (state, metrics)` from a step of (state without frozen part, frozen part,
    batch) that returns the state without it: the frozen part is neither copied nor donated.

    The advantage state goes around the step, which does not change it: estimators with other
    states share a program. shardings: of the whole state. `f.lower` is that of `jax.jit`.
    Raises UserError as `create_state` for what is trained.
    """
    _check_trained(policy)
    trained = without_frozen(policy, shardings.replace(advantage_state=()))
    frozen = frozen_part(policy, shardings.params)
    compiled = jax.jit(
        step,
        in_shardings=(trained, frozen, batch_sharding(mesh)),
        out_shardings=(trained, replicated(mesh)),
        donate_argnums=0,
    )

    def parts(state: TrainState) -> tuple[TrainState, Any]:
        changing = without_frozen(policy, state.replace(advantage_state=()))
        return changing, frozen_part(policy, state.params)

    def whole(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        changing, kept = parts(state)
        changed, metrics = compiled(changing, kept, batch)
        changed = changed.replace(advantage_state=state.advantage_state)
        return with_frozen(policy, changed, kept), metrics

    whole.lower = lambda state, batch: compiled.lower(*parts(state), batch)
    return whole


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of any tree by their path, in order."""
    paths, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in paths}


def abstract_like(tree: Any) -> Any:
    """Shape, dtype and sharding of every array."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), tree)

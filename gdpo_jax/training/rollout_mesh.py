"""Rollouts on another mesh than the one that trains: other devices of the process, or other axes.

Parameters go from one mesh to the other before each rollout, by copies between devices where both
cut arrays alike, else through the host; what is never trained (the base of LoRA) goes once.
"""

import dataclasses
import weakref
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from gdpo_jax.errors import UserError
from gdpo_jax.policies import Params, Policy, trained_part, with_trained_part
from gdpo_jax.policies.policy import frozen_part
from gdpo_jax.rollouts import Engine, Rollout, SamplerConfig, jax_engine
from gdpo_jax.training.mesh import (
    DEFAULT_RULES,
    ShardingRules,
    batch_sharding,
    check_batch,
    replicated,
    shardings_for,
)

__all__ = ["MeshEngine", "mesh_engine"]


@dataclasses.dataclass
class _Frozen:
    """What is not trained, on the mesh of rollouts, and the arrays that it was copied from."""

    origins: tuple[weakref.ref, ...] = ()
    copies: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshEngine:
    """The sampler on a mesh of its own behind the protocol; see `mesh_engine`."""

    policy: Policy
    config: SamplerConfig
    mesh: Mesh
    sampler: Engine
    shardings: Any = dataclasses.field(repr=False, compare=False)
    frozen: _Frozen = dataclasses.field(default_factory=_Frozen, repr=False, compare=False)

    def generate(
        self,
        params: Params,
        prompts: Int[Array | np.ndarray, "B P"],
        prompt_lengths: Int[Array | np.ndarray, "B"],
        key: Key[Array, ""],
        *,
        num_samples: int,
    ) -> Rollout:
        """As the protocol says; the rollout's arrays lie on the mesh of the engine.

        Raises UserError for prompts that do not divide over the mesh.
        """
        check_batch(prompts.shape[0], self.mesh, what="the rollout mesh: prompts")
        trained = trained_part(self.policy, params), trained_part(self.policy, self.shardings)
        moved = with_trained_part(self.policy, self._frozen(params), jax.device_put(*trained))
        rows = jax.device_put((prompts, prompt_lengths), batch_sharding(self.mesh))
        key = jax.device_put(key, replicated(self.mesh))
        return self.sampler.generate(moved, *rows, key, num_samples=num_samples)

    def _frozen(self, params: Params) -> Any:
        frozen = frozen_part(self.policy, params)
        leaves = jax.tree.leaves(frozen)
        known = [origin() for origin in self.frozen.origins]
        if len(leaves) != len(known) or any(a is not b for a, b in zip(leaves, known)):
            shardings = frozen_part(self.policy, self.shardings)
            self.frozen.copies = jax.device_put(frozen, shardings)
            self.frozen.origins = tuple(map(weakref.ref, leaves))
        return self.frozen.copies


def mesh_engine(
    policy: Policy,
    config: SamplerConfig,
    *,
    mesh: Mesh,
    bucket: int = 32,
    rules: ShardingRules = DEFAULT_RULES,
) -> Engine:
    """An engine that samples on `mesh`, whatever mesh a run trains on, with the tokens that
    `jax_engine` draws there.

    mesh: of devices of this process; those that train, cut in another way, or others, which then
    sample while these update (`PolicyOptimizationConfig.staleness`). bucket, rules: as for
    `jax_engine`, on this mesh.

    Raises UserError for a run of several processes, parameters that do not divide over the mesh,
    and what `jax_engine` refuses.
    """
    if jax.process_count() > 1:
        raise UserError(
            "a mesh of its own for rollouts needs all devices in one process; let rollouts share "
            "the mesh of the run (jax_engine), or sample at a server (server_engine)"
        )
    axes = None if policy.logical_axes is None else policy.logical_axes()
    abstract = jax.eval_shape(policy.init, jax.random.key(0))
    over_rows = batch_sharding(mesh)
    return MeshEngine(
        policy=policy,
        config=config,
        mesh=mesh,
        sampler=jax_engine(policy, config, batch_sharding=over_rows, bucket=bucket, rules=rules),
        shardings=shardings_for(axes, abstract, mesh, rules),
    )

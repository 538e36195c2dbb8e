"""The rollout of a step, from when its sampling is dispatched."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from gdpo_jax.data import RecordIterator
from gdpo_jax.policies import Policy
from gdpo_jax.rollouts import Engine, Rollout
from gdpo_jax.training.checks import check_rollout
from gdpo_jax.training.config import PolicyOptimizationConfig
from gdpo_jax.training.feeding import next_encoded, pad_together
from gdpo_jax.training.mesh import batch_sharding, to_global

__all__ = ["Drawn", "before_step", "draw_rollout"]


class Drawn(NamedTuple):
    """A rollout whose arrays may still be in the making.

    position: of the data before its batch. batch: this process's records of it. age: steps between
    the parameters that it is drawn with and those that it updates. since, ready: when sampling
    could begin and when it was through (`time.perf_counter`).
    """

    position: Mapping[str, Any]
    batch: list[Any]
    rollout: Rollout
    age: int
    since: float
    ready: Future[float]

    def metrics(self) -> dict[str, float]:
        """How old the parameters of the rollout were, and the seconds that sampling took."""
        seconds = max(0.0, self.ready.result() - self.since)
        return {"rollout/staleness": float(self.age), "time/rollout_seconds": seconds}


def draw_rollout(
    number: int,
    params: Any,
    *,
    age: int,
    stored: Rollout | None = None,
    policy: Policy,
    engine: Engine,
    objective: Any,
    records: RecordIterator,
    encode: Callable[[Any], Sequence[int]],
    pad_id: int,
    config: PolicyOptimizationConfig,
    mesh: Mesh,
    widths: Sequence[int],
    root: jax.Array,
    ready: Callable[[Any], Future[float]],
) -> Drawn:
    """Reads the next batch and lets the engine draw step `number` with `params`.

    stored: the rollout of that batch from a checkpoint, in place of a new one. ready: `Run.ready`.

    Raises:
        UserError: what `next_encoded`, `pad_together` and `check_rollout` raise.
    """
    position = records.get_state()
    batch, prompts = next_encoded(records, encode, batch_size=config.prompts_per_step, mesh=mesh)
    since = time.perf_counter()
    rollout = stored
    if rollout is None:
        rows = pad_together(
            prompts, widths, pad_id=pad_id, what="prompt", vocab_size=policy.config.vocab_size
        )
        key = jax.random.fold_in(root, number)
        options = {"num_samples": config.num_samples}
        rollout = engine.generate(params, *to_global(rows, mesh), key, **options)
        check_rollout(rollout, objective, config, policy.config.max_positions)
        rollout = jax.tree.map(functools.partial(_as_global, mesh=mesh), rollout)
    return Drawn(position, batch, rollout, age, since, ready(rollout))


def before_step(
    records: RecordIterator, ahead: Drawn | None
) -> tuple[Mapping[str, Any], Rollout | None]:
    """The position of the data before the next step, and its rollout if that is drawn already."""
    return (records.get_state(), None) if ahead is None else (ahead.position, ahead.rollout)


def _as_global(rows: Any, mesh: Mesh) -> jax.Array:
    """NumPy rows on the mesh. Arrays on other devices stay there: to move them may take waiting."""
    return rows if isinstance(rows, jax.Array) else jax.device_put(rows, batch_sharding(mesh))

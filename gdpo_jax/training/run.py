"""What every run does around its steps: resume, rows of metrics, checkpoints, a safe stop."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdpo_jax.data import RecordIterator
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import Metrics
from gdpo_jax.policies import Policy, trained_part, with_trained_part
from gdpo_jax.training.checkpoints import Checkpoints
from gdpo_jax.training.config import PolicyOptimizationConfig, SFTConfig, json_tree
from gdpo_jax.training.metrics import MetricWriter
from gdpo_jax.training.progress import Progress
from gdpo_jax.training.state import TrainState


class NonFiniteLossError(UserError, FloatingPointError):
    """The loss or its gradient stopped being finite; names the step."""


@dataclasses.dataclass(frozen=True)
class Pending:
    """A step that has been dispatched and whose metrics are still on the device.

    position: of the data before the step. updates: metrics of its optimizer updates. others:
    further metrics. seconds: host time by phase so far. then: called with the finished row.
    """

    step: int
    position: Mapping[str, Any]
    updates: Sequence[Metrics]
    others: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    then: Callable[[Mapping[str, float]], None] | None = None


class Run:
    """A run in `workdir`: opens where the last one stopped, closes with everything on disk.

    Use as a context manager. `start_step` and `state` are those to go on from, and `records` stands
    at the batch of `start_step`. `notes` are JSON-like values of the loop, stored with each
    checkpoint and restored with it. Checkpoints hold what the policy trains: of a policy with
    adapters those alone, and a continuation takes the rest from the `state` it is given.
    """

    def __init__(
        self,
        title: str,
        workdir: str | Path,
        config: SFTConfig | PolicyOptimizationConfig,
        policy: Policy,
        state: TrainState,
        records: RecordIterator,
        *,
        identity: Mapping[str, Any],
        columns: Sequence[tuple[str, str]],
    ):
        workdir = Path(workdir)
        self._config, self._policy, self._records = config, policy, records
        described = {
            "run": json_tree(config),
            "policy": json_tree(policy.config),
            "lora": json_tree(policy.trained_config),
            **identity,
        }
        self._checkpoints = Checkpoints(
            workdir / "checkpoints", config=described, keep=config.keep_checkpoints
        )
        self.start_step, self.state, self._tokens_seen = 0, state, 0.0
        self.notes: dict[str, Any] = {}
        if (restored := self._checkpoints.restore(self._stored(state))) is not None:
            self.start_step, stored, position = restored
            params = with_trained_part(policy, state.params, stored.params)
            self.state = stored.replace(params=params)
            self._tokens_seen = position["tokens_seen"]
            self.notes = dict(position.get("notes", {}))
            records.set_state(position["records"])
        self._writer = MetricWriter(workdir, start_step=self.start_step)
        self._progress = Progress(title, steps=config.steps, columns=columns)
        self._pending: Pending | None = None
        self._ended: Future[float] | None = None
        self._watch = ThreadPoolExecutor(1, thread_name_prefix="end-of-update")
        self._last_lap = time.perf_counter()

    def __enter__(self) -> "Run":
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._watch.shutdown()
        self._progress.__exit__(*error)
        self._writer.close()
        self._checkpoints.close()

    def lap(self) -> float:
        """Seconds since the last lap."""
        last, self._last_lap = self._last_lap, time.perf_counter()
        return self._last_lap - last

    def dispatched(self, pending: Pending) -> None:
        """Remember a step until `settle`.

        Its end is noted beside: before `settle` comes, an engine may have sampled for long.
        """
        self._pending = pending
        self._ended = self._watch.submit(_time_when_ready, pending.updates)

    def settle(self, state: TrainState, extra: Mapping[str, float] | None = None) -> None:
        """Wait for the metrics of the remembered step, check them and report them.

        extra: further columns of its row, which is then written whatever `log_every` says.

        Raises:
            NonFiniteLossError: on every process, after `state`, whose parameters such a step does
                not change, is safe on disk.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        metrics = fetch(pending.updates, pending.others) | dict(extra or {})
        if metrics["healthy"] < 1:
            self._save_last_good(pending.step, state, pending.position)
            raise NonFiniteLossError(
                f"step {pending.step}: loss {metrics['loss']}, gradient norm "
                f"{metrics['grad_norm']}; the update was not applied and the state before it is "
                "stored. Look at the batch, or start anew with a lower learning rate"
            )
        last, self._last_lap = self._last_lap, self._ended.result()
        seconds = {**pending.seconds, "update": self._last_lap - last}
        total = sum(seconds.values())
        metrics |= {f"time/{phase}_seconds": value for phase, value in seconds.items()}
        self._tokens_seen += metrics["tokens"]
        metrics |= {
            "time/step_seconds": total,
            "tokens_per_second": metrics["tokens"] / total,
            "tokens_seen": self._tokens_seen,
        }
        final = pending.step == self._config.steps - 1
        if extra or final or pending.step % self._config.log_every == 0:
            self._writer.write(pending.step, metrics)
        self._progress.show(pending.step, metrics)
        if pending.then is not None:
            pending.then(metrics)

    def save_if_due(self, step: int, state: TrainState, *, last: bool = False) -> None:
        """At every interval and at the end (`last`: here), store the state before `step`, in the
        background."""
        if last or step == self._config.steps or step % self._config.checkpoint_every == 0:
            self.settle(state)
            self._save(step, state, self._records.get_state())
            self.lap()

    @contextlib.contextmanager
    def keeping(self, step: int, state: TrainState, position: Mapping[str, Any]) -> Iterator[None]:
        """Whatever fails inside: the state before `step` is stored before the error goes on."""
        try:
            yield
        except FloatingPointError:
            raise
        except Exception:
            self.settle(state)
            self._save_last_good(step, state, position)
            raise

    def _save_last_good(self, step: int, state: TrainState, position: Mapping[str, Any]) -> None:
        healthy = jax.device_put(jnp.ones((), bool), state.healthy.sharding)
        self._save(step, state.replace(healthy=healthy), position)
        self._checkpoints.wait()

    def _save(self, step: int, state: TrainState, position: Mapping[str, Any]) -> None:
        # All steps before `step` are settled here, so that the count is that of the checkpoint.
        about = {"records": position, "tokens_seen": self._tokens_seen, "notes": self.notes}
        self._checkpoints.save(step, self._stored(state), about)

    def _stored(self, state: TrainState) -> TrainState:
        return state.replace(params=trained_part(self._policy, state.params))


def _time_when_ready(arrays: Any) -> float:
    jax.block_until_ready(arrays)
    return time.perf_counter()


def fetch(updates: Sequence[Metrics], others: Mapping[str, jax.Array]) -> dict[str, float]:
    """One row of a step on the host: the metrics of its updates as one, and the others."""
    rows, others = jax.device_get((list(updates), dict(others)))
    stacked = jax.tree.map(lambda *values: np.stack(values), *rows)
    row = {**stacked.over_updates().as_dict(), **others}
    return {name: float(value) for name, value in row.items()}

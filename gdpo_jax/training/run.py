"""What every run does around its steps: resume, rows of metrics, checkpoints, a safe stop."""

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gdpo_jax.data import RecordIterator
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import Metrics
from gdpo_jax.policies import Policy, TrainedMask, trained_part, with_trained_part
from gdpo_jax.rollouts import Rollout
from gdpo_jax.training.agreement import check_agreement, check_states
from gdpo_jax.training.checkpoints import Checkpoints
from gdpo_jax.training.config import PolicyOptimizationConfig, SFTConfig, json_tree
from gdpo_jax.training.lock import only_run_in
from gdpo_jax.training.mesh import batch_sharding
from gdpo_jax.training.metrics import MetricWriter
from gdpo_jax.training.processes import (
    LostProcessError,
    agreed_maximum,
    is_common,
    is_lost_process,
    leave_alone,
    lost_process_message,
    mark_common,
    tell_failure,
    together,
)
from gdpo_jax.training.progress import Progress
from gdpo_jax.training.shared_folder import check_shared
from gdpo_jax.training.signals import StopSignals, stop_by
from gdpo_jax.training.stacked_metrics import StackedMetrics, stack_metrics
from gdpo_jax.training.state import TrainState

_READING = 120.0  # seconds in which another process has read a finished run


class NonFiniteLossError(UserError, FloatingPointError):
    """The loss or its gradient stopped being finite; names the step."""


@dataclasses.dataclass(frozen=True)
class Pending:
    """A step that has been dispatched and whose metrics are still on the device.

    position: of the data before the step. updates: metrics of its optimizer updates. others:
    further metrics. seconds: host time by phase so far. then: called with the finished row.
    rollout: of the step, where it was drawn before the step began.
    """

    step: int
    position: Mapping[str, Any]
    updates: Sequence[Metrics]
    others: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    then: Callable[[Mapping[str, float]], None] | None = None
    rollout: Rollout | None = None


class Run:
    """A run in `workdir`: opens where the last one stopped, closes with everything on disk.

    Use as a context manager. `start_step` and `state` are those to go on from, and `records` stands
    at the batch of `start_step`. Checkpoints hold what the policy trains: of a policy with adapters
    those alone, and a continuation takes the rest from the `state` it is given. `notes` are JSON
    values of the loop that are stored with each checkpoint and come back with it. `updated` is when
    the last update that `settle` has seen ended. A run that has learned nothing stores nothing: its
    work directory takes any configuration.

    Raises:
        UserError: another run is under way in `workdir`, the processes were given different
            settings or folders, the newest good checkpoint is of another configuration, or all are
            damaged.
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
        self.start_step, self.state, self.notes = 0, state, dict[str, Any]()
        self._tokens_seen = 0.0
        described = {
            "run": json_tree(config),
            "policy": json_tree(policy.config),
            **_trained(policy),
            **identity,
        }
        check_agreement(described, records)
        with contextlib.ExitStack() as opened:
            # A finished run is only read, as by several arms that start from it at the same time.
            read = os.path.isdir(workdir / "checkpoints" / str(config.steps))
            patience = _READING if read else 0.0
            together(lambda: opened.enter_context(only_run_in(workdir, patience=patience)))
            check_shared(workdir)
            self._checkpoints = Checkpoints(
                workdir / "checkpoints", config=described, keep=config.keep_checkpoints
            )
            self._restore()
            check_states(self.start_step, self.state)
            self._writer = together(lambda: MetricWriter(workdir, start_step=self.start_step))
            self._opened = opened.pop_all()
        quiet = jax.process_index() != 0
        self._progress = Progress(title, steps=config.steps, columns=columns)
        self._signals = StopSignals(quiet=quiet)
        self._pending: tuple[Pending, StackedMetrics] | None = None
        self._ended: Future[float] | None = None
        # An update, the rollout of its step and the one drawn ahead may be under way together.
        self._watch = ThreadPoolExecutor(3, thread_name_prefix="end-of-work")
        self._last_lap = self.updated = time.perf_counter()

    def __enter__(self) -> "Run":
        self._signals.open()
        self._progress.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        lost = is_lost_process(error)
        together_still = error is None or is_common(error)
        closings = [
            lambda: self._watch.shutdown(wait=together_still),
            lambda: self._progress.__exit__(kind, error, trace),
            self._writer.close,
            # Its end takes all processes.
            *([self._checkpoints.close] if together_still else []),
            self._opened.close,
            self._signals.close,
        ]
        failure: Exception | None = None
        for close in closings:
            try:
                close()
            except Exception as failed:
                failure = failure or failed
        if lost:
            stored = self._checkpoints.latest_step
            then = "from its beginning" if stored is None else f"after step {stored}"
            message = f"{lost_process_message()}; the run goes on {then}"
            leave_alone()
            raise LostProcessError(message) from error
        if not together_still:
            tell_failure(error)
            leave_alone()
        if failure is not None and error is None:
            raise failure
        if failure is not None:
            error.add_note(f"then closing the run failed: {type(failure).__name__}: {failure}")
        elif error is None and (number := self._asked_to_stop()):
            raise mark_common(stop_by(number))

    def lap(self) -> float:
        """Seconds since the last lap."""
        last, self._last_lap = self._last_lap, time.perf_counter()
        return self._last_lap - last

    def dispatched(self, pending: Pending) -> None:
        """Remember a step until `settle`.

        Its end is noted beside: before `settle` comes, an engine may have sampled for long.
        """
        stacked = stack_metrics(pending.updates, pending.others)
        self._pending = (pending, stacked)
        self._ended = self.ready(stacked.arrays)

    def ready(self, arrays: Any) -> Future[float]:
        """The time (`time.perf_counter`) when all of these arrays are computed."""
        return self._watch.submit(_time_when_ready, arrays)

    def settle(self, state: TrainState, extra: Mapping[str, float] | None = None) -> None:
        """Wait for the metrics of the remembered step, check them and report them.

        extra: further columns of its row, which is then written whatever `log_every` says.

        Raises:
            NonFiniteLossError: on every process, after `state`, whose parameters such a step does
                not change, is safe on disk.
        """
        if self._pending is not None:
            # A signal must not lose the row of a step that is in the checkpoint.
            with self._signals.at_once(False):
                self._settle(state, extra or {})
        self._signals.raise_if_due()

    def _settle(self, state: TrainState, extra: Mapping[str, float]) -> None:
        assert self._pending is not None
        (pending, stacked), self._pending = self._pending, None
        metrics = fetch(*stacked.on_host()) | dict(extra)
        if metrics["healthy"] < 1:
            kept = "the state before it is stored" if pending.step else "nothing was learned"
            error = mark_common(
                NonFiniteLossError(
                    f"step {pending.step}: loss {metrics['loss']}, gradient norm "
                    f"{metrics['grad_norm']}; the update was not applied and {kept}. "
                    "Look at the batch, or start anew with a lower learning rate"
                )
            )
            before = (pending.position, pending.rollout)
            self._save_last_good(pending.step, state, *before, error)
            raise error
        last, self._last_lap = self._last_lap, self._ended.result()
        self.updated = self._last_lap
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

    def save_if_due(
        self,
        step: int,
        state: TrainState,
        position: Mapping[str, Any] | None = None,
        rollout: Rollout | None = None,
        *,
        last: bool = False,
    ) -> None:
        """At every interval and at the end (`last`: here), store the state before `step`, in the
        background.

        position, rollout: where the records do not stand before `step` themselves, because the
        rollout of `step` is drawn already.
        """
        if last or step == self._config.steps or step % self._config.checkpoint_every == 0:
            self.settle(state)
            position = self._records.get_state() if position is None else position
            self._save(step, state, position, rollout)
            self.lap()

    def stored_rollout(self, mesh: Mesh) -> Rollout | None:
        """The rollout of `start_step` that the checkpoint holds, if it was drawn before it."""
        if self.start_step == 0:
            return None
        found = self._checkpoints.restore_extra(self.start_step, batch_sharding(mesh))
        return Rollout(**found) if found else None

    @contextlib.contextmanager
    def keeping(
        self,
        step: int,
        state: TrainState,
        position: Mapping[str, Any],
        rollout: Rollout | None = None,
    ) -> Iterator[None]:
        """Whatever ends the run inside: the state before `step` is stored before it goes on, and
        with it the rollout of `step`, where it is drawn already.

        That is an error, Ctrl-C or SIGTERM. With several processes, such a signal to any of them
        stops all at the beginning of their next step; an error that not all of them share stores
        nothing, since a checkpoint takes all of them.
        """
        several = jax.process_count() > 1
        try:
            if several and (number := self._asked_to_stop()):
                raise mark_common(stop_by(number))
            with self._signals.at_once(not several):
                yield
        except NonFiniteLossError:
            raise
        except BaseException as error:
            if is_common(error):
                self._keep(step, state, position, rollout, error)
            raise

    def _asked_to_stop(self) -> int:
        """The signal that any of the processes has received, or 0."""
        return agreed_maximum(self._signals.received or 0)

    def _keep(
        self,
        step: int,
        state: TrainState,
        position: Mapping[str, Any],
        rollout: Rollout | None,
        error: BaseException,
    ) -> None:
        """Store the state before `step`; what goes wrong here must not hide `error`."""
        try:
            self.settle(state)
        except NonFiniteLossError:
            # The step before failed first.
            raise
        except Exception as failed:
            error.add_note(f"then reporting the step before failed: {failed!r}")
        self._save_last_good(step, state, position, rollout, error)

    def _save_last_good(
        self,
        step: int,
        state: TrainState,
        position: Mapping[str, Any],
        rollout: Rollout | None,
        error: BaseException,
    ) -> None:
        try:
            healthy = jax.device_put(jnp.ones((), bool), state.healthy.sharding)
            self._save(step, state.replace(healthy=healthy), position, rollout)
            self._checkpoints.wait()
        except Exception as failed:
            error.add_note(f"then the state before step {step} could not be stored: {failed!r}")
            if jax.process_index() == 0:
                print(f"the state before step {step} is not stored: {failed}", file=sys.stderr)

    def _save(
        self,
        step: int,
        state: TrainState,
        position: Mapping[str, Any],
        rollout: Rollout | None = None,
    ) -> None:
        if step == 0:
            # Nothing has been learned, and a corrected configuration must not be refused for it.
            return
        # All steps before `step` are settled here, so that the count is that of the checkpoint.
        about = {
            "records": position,
            "tokens_seen": self._tokens_seen,
            "notes": json.loads(json.dumps(self.notes)),
        }
        extra = {} if rollout is None else dict(rollout.items())
        extra = {name: array for name, array in extra.items() if array is not None}
        self._checkpoints.save(step, self._stored(state), about, extra)

    def _restore(self) -> None:
        """Go on from the newest checkpoint, if it has learned something."""
        if self._checkpoints.latest_step == 0:
            return
        restored = self._checkpoints.restore(self._stored(self.state))
        if restored is None:
            return
        self.start_step, stored, position = restored
        params = with_trained_part(self._policy, self.state.params, stored.params)
        self.state = stored.replace(params=params)
        try:
            self._tokens_seen = position["tokens_seen"]
            self._records.set_state(position["records"])
        except Exception as error:
            raise UserError(
                f"checkpoint {self.start_step} holds a position that these records cannot take "
                f"({type(error).__name__}: {error}); give the run the records it was started with"
            ) from error
        self.notes = position.get("notes", {})

    def _stored(self, state: TrainState) -> TrainState:
        return state.replace(params=trained_part(self._policy, state.params))


def _trained(policy: Policy) -> dict[str, Any]:
    """What is trained of the parameters, as checkpoints name it."""
    described = json_tree(policy.trained_config)
    if isinstance(policy.trained_config, TrainedMask):
        return {"lora": None, "trained": described}
    return {"lora": described}


def _time_when_ready(arrays: Any) -> float:
    jax.block_until_ready(arrays)
    return time.perf_counter()


def fetch(updates: Sequence[Metrics], others: Mapping[str, Any]) -> dict[str, float]:
    """One row of a step on the host: the metrics of its updates as one, and the others."""
    whole = updates[0]
    if len(updates) > 1:
        whole = jax.tree.map(lambda *values: np.stack(values), *updates).over_updates()
    return {name: float(value) for name, value in {**whole.as_dict(), **others}.items()}

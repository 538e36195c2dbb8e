"""Evaluation on held-out records while a run trains: rewards, the best parameters, early stopping.

Every number is a mean over all records, however many processes share them; a last batch that is not
full is filled up with the last record, and what was filled up is not scored.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from gdpo_jax.data.pipeline import RecordSource
from gdpo_jax.errors import UserError
from gdpo_jax.policies import Policy, trained_part
from gdpo_jax.rollouts import Engine
from gdpo_jax.rollouts.rewards import RewardFunction, named_reward
from gdpo_jax.training.checkpoints import Checkpoints
from gdpo_jax.training.checks import prompt_widths
from gdpo_jax.training.config import PolicyOptimizationConfig
from gdpo_jax.training.feeding import encode_all, pad_together
from gdpo_jax.training.mesh import (
    batch_sharding,
    check_batch,
    process_share,
    to_global,
    to_local,
)
from gdpo_jax.training.processes import agreed_sums, together
from gdpo_jax.training.run import Run
from gdpo_jax.training.scoring import score_rollout
from gdpo_jax.training.state import TrainState

# Folded into a run's key: no step has this number.
_EVALUATION = 2**32 - 1

Columns = dict[str, float]
Measure = Callable[[Any, jax.Array], Columns]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is measured on held-out records, and what follows from it."""

    records: RecordSource  # all of them are answered each time
    every: int = 50  # steps between evaluations
    engine: Engine | None = None  # draws the completions; None: greedy, made by `gdpo_jax.optimize`
    num_samples: int = 1  # completions per record
    batch_size: int = 32  # records at a time, over all processes
    reward_functions: Sequence[RewardFunction] | None = None  # None: those of the run
    metric: str | None = None  # column that decides which parameters are best; None keeps none
    better: Literal["more", "less"] = "more"  # of the metric
    patience: int | None = None  # evaluations without improvement; None never stops

    def __post_init__(self) -> None:
        for name in ("every", "num_samples", "batch_size", "patience"):
            value = getattr(self, name)
            legal = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if not legal and not (name == "patience" and value is None):
                raise UserError(f"evaluation {name} must be a positive number, got {value!r}")
        if self.better not in ("more", "less"):
            raise UserError(f"evaluation better={self.better!r}; use 'more' or 'less'")
        if self.patience is not None and self.metric is None:
            raise UserError("evaluation patience needs a metric; name one, or set it to None")
        if not hasattr(self.records, "__len__") or not len(self.records):
            raise UserError("evaluation records must be a list or source with at least one record")


def make_measure(
    evaluation: Evaluation,
    *,
    policy: Policy,
    reward_functions: Sequence[RewardFunction],
    encode: Callable[[Any], Sequence[int]],
    tokenizer: Any,
    config: PolicyOptimizationConfig,
    mesh: Mesh,
    num_ranks: int | None,
) -> Measure:
    """`f(params, key) -> columns`, the same on every process.

    Columns: `eval/reward/{name}/mean` over valid entries, `eval/reward/{name}/missing_fraction`,
    `eval/completions/length_mean` in tokens and `eval/completions/truncated_fraction`.

    Raises:
        UserError: a batch that does not divide over the mesh, completions that leave no prompt, a
            metric that is no column, or an interval that the run never reaches.
    """
    if evaluation.reward_functions is not None:
        reward_functions = tuple(map(named_reward, evaluation.reward_functions))
    names = [function.name for function in reward_functions]
    if evaluation.engine is None:
        raise UserError("the evaluation has no engine; give one, or train by gdpo_jax.optimize")
    size, share = evaluation.batch_size, process_share(mesh)
    check_batch(size, mesh, what="evaluation batch_size")
    widths = prompt_widths(policy, evaluation.engine, config.prompt_buckets)
    if evaluation.every > config.steps:
        raise UserError(
            f"evaluation every={evaluation.every} steps is never reached in {config.steps} steps"
        )
    known = list(_columns(names, np.zeros(3 + 3 * len(names))))
    if evaluation.metric is not None and evaluation.metric not in known:
        raise UserError(f"evaluation metric {evaluation.metric!r} is unknown; known: {known}")

    def sums(sampled: dict[str, np.ndarray], batch: Sequence[Any]) -> np.ndarray:
        if not batch:
            return np.zeros(3 + 3 * len(names))
        rows = {name: array[: len(batch)] for name, array in sampled.items()}
        arguments = (rows, batch, tokenizer, reward_functions, None, num_ranks)
        _, rewards, _, _ = score_rollout(*arguments, timeout=config.score_timeout)
        axes = (0, 1, *range(3, rewards.values.ndim))
        valid = rewards.valid.sum(axis=axes, dtype=np.float64)
        total = np.where(rewards.valid, rewards.values, 0).sum(axis=axes, dtype=np.float64)
        entries = np.full(len(names), rewards.valid.size / len(names))
        counts = [rows["finished"].size, rows["mask"].sum(), rows["finished"].sum()]
        return np.concatenate([np.array(counts, np.float64), entries, valid, total])

    def measure(params: Any, key: jax.Array) -> Columns:
        totals = np.zeros(3 + 3 * len(names))
        everything = len(evaluation.records)
        for number, start in enumerate(range(0, everything, size)):
            first = start + share[0] * (size // share[1])
            places = range(first, first + size // share[1])
            batch = [evaluation.records[min(place, everything - 1)] for place in places]
            real = batch[: max(0, everything - first)]
            prompts = together(lambda batch=batch: encode_all(encode, batch))
            rows = pad_together(
                prompts,
                widths,
                pad_id=tokenizer.pad_id,
                what="prompt",
                vocab_size=policy.config.vocab_size,
            )
            rollout = evaluation.engine.generate(
                params,
                *to_global(rows, mesh),
                jax.random.fold_in(key, number),
                num_samples=evaluation.num_samples,
            )
            sampled = {
                "ids": rollout.completions,
                "mask": rollout.mask,
                "finished": rollout.finished,
            }
            sampled = to_local(jax.device_put(sampled, batch_sharding(mesh)))
            totals += together(lambda sampled=sampled, real=real: sums(sampled, real))
        return _columns(names, agreed_sums(totals))

    return measure


def _columns(names: Sequence[str], totals: np.ndarray) -> Columns:
    samples, tokens, finished = totals[:3]
    entries, valid, total = totals[3:].reshape(3, -1)

    def ratio(part: float, whole: float) -> float:
        return float(part / whole) if whole else math.nan

    columns = {}
    for k, name in enumerate(names):
        columns[f"eval/reward/{name}/mean"] = ratio(total[k], valid[k])
        columns[f"eval/reward/{name}/missing_fraction"] = 1 - ratio(valid[k], entries[k])
    columns["eval/completions/length_mean"] = ratio(tokens, samples)
    columns["eval/completions/truncated_fraction"] = 1 - ratio(finished, samples)
    return columns


class Evaluator:
    """The evaluations of one run: when they are due, the best so far, and when to stop.

    Use as a context manager inside of the run's. What it knows is in `run.notes`, so that a
    continuation goes on from there. The best parameters lie in `workdir/best`, a checkpoint of the
    trained parameters whose number is the count of steps before it.

    Raises:
        UserError: the run was started with another metric.
    """

    def __init__(
        self,
        evaluation: Evaluation | None,
        measure: Measure | None,
        run: Run,
        policy: Policy,
        root: jax.Array,
        workdir: str | Path,
    ):
        self._evaluation, self._measure, self._run = evaluation, measure, run
        self._policy, self._best = policy, None
        self._key = jax.random.fold_in(root, _EVALUATION)
        if evaluation is None:
            return
        chosen = {"metric": evaluation.metric, "better": evaluation.better}
        known = run.notes.get("evaluation")
        fresh = {**chosen, "step": None, "best": None, "best_step": None, "without": 0}
        self._behind = known is not None and known["step"] != run.start_step
        if known is not None and {name: known[name] for name in chosen} != chosen:
            raise UserError(
                f"the run in {workdir} keeps the best by metric={known['metric']!r}, "
                f"better={known['better']!r}; go on with these, or use another work directory"
            )
        run.notes["evaluation"] = known or fresh
        if evaluation.metric is not None:
            folder = Path(workdir) / "best"
            together(lambda: _drop_later(folder, run.start_step))
            self._best = Checkpoints(folder, config={"evaluation": chosen}, keep=1)

    def __enter__(self) -> "Evaluator":
        return self

    def __exit__(self, *error: object) -> None:
        if self._best is not None:
            self._best.close()

    def catch_up(self, state: TrainState) -> None:
        """Do what was due when the run stopped in an evaluation; its columns are not written."""
        if self.due(self._run.start_step) and self._behind:
            self(state, self._run.start_step)

    def due(self, step: int) -> bool:
        """Whether the parameters before `step` are to be measured."""
        return self._evaluation is not None and step > 0 and step % self._evaluation.every == 0

    def __call__(self, state: TrainState, step: int) -> Columns:
        """Measure the parameters before `step`, and keep them if they are the best so far."""
        columns = self._measure(state.params, self._key)
        notes = {**self._run.notes["evaluation"], "step": step}
        if self._best is not None:
            value = columns[self._evaluation.metric]
            sign = 1 if self._evaluation.better == "more" else -1
            best = notes["best"]
            if math.isfinite(value) and (best is None or sign * value > sign * best):
                notes |= {"best": value, "best_step": step, "without": 0}
                kept = state.replace(
                    params=trained_part(self._policy, state.params),
                    opt_state=(),
                    advantage_state=(),
                )
                self._best.save(step, kept, {"columns": columns})
                # Before a checkpoint of the run says that they are the best.
                self._best.wait()
            else:
                notes["without"] += 1
        self._run.notes["evaluation"] = notes
        return columns

    @property
    def stopped(self) -> bool:
        """Whether patience is at its end."""
        patience = None if self._evaluation is None else self._evaluation.patience
        return patience is not None and self._run.notes["evaluation"]["without"] >= patience


def _drop_later(folder: Path, start_step: int) -> None:
    """Take away what a run that goes on from an earlier step will measure again."""
    if jax.process_index() == 0 and folder.is_dir():
        for entry in folder.iterdir():
            if entry.name.isdigit() and int(entry.name) > start_step:
                shutil.rmtree(entry)


__all__ = ["Evaluation", "Evaluator", "make_measure"]

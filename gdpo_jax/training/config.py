"""The two kinds of runs as frozen records, and how a stored one is compared with the present."""

import dataclasses
import json
import math
import operator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax
import numpy as np

from gdpo_jax.errors import UserError

# What may change between a run and its continuation: how far it goes, what it writes, and what it
# pays in memory or time for the same update.
FREE_FIELDS = (
    "steps",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "score_timeout",
    "accumulation_steps",
    "chunk",
    "remat",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """A supervised run; every step is one optimizer update."""

    steps: int = 200  # optimizer updates in all
    # Records per step, over all processes; users expected in a step, where these are clipped.
    batch_size: int = 32
    # Legal widths of prompts, each pair with one of completions one compilation; None: made from
    # the records by `gdpo_jax.imitate`.
    prompt_buckets: tuple[int, ...] | None = None
    # Legal widths of completions, or None; (): prompts alone, for a loss that reads no completions.
    completion_buckets: tuple[int, ...] | None = None
    # Records of so many batches are sorted by width together before they are cut into batches by
    # `gdpo_jax.imitate`: short ones are padded less, and a batch holds rows of like length.
    sort_batches: int = 1
    accumulation_steps: int = 1  # micro-batches per update; same update, less memory
    layout: Literal["shared", "plain"] = "shared"  # of prompt and completions in a row
    chunk: int | None = 16  # completion positions whose logits exist at a time
    checkpoint_every: int = 100  # steps; the end of the run is always stored
    keep_checkpoints: int = 2  # the newest ones
    log_every: int = 1  # steps between rows of metrics.jsonl

    def __post_init__(self) -> None:
        _make_plain(self)
        _check_positive(self, "batch_size", "sort_batches", "accumulation_steps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicyOptimizationConfig:
    """A reinforcement learning run; a step samples once and updates
    `num_iterations * mini_batches` times."""

    steps: int = 100  # rollout batches in all
    prompts_per_step: int = 16  # prompts per rollout batch, over all processes (B)
    num_samples: int = 8  # completions per prompt (G)
    temperature: float = 1.0  # of the sampler; the trainer's log-probs use the same
    # Legal prompt widths, each one compilation; None: made from the records by `gdpo_jax.optimize`.
    prompt_buckets: tuple[int, ...] | None = None
    num_iterations: int = 1  # passes over a rollout batch (mu)
    mini_batches: int = 1  # optimizer updates per pass
    old_log_probs: Literal["trainer", "sampler"] = "trainer"  # whose log-probs the ratio divides by
    # 1: the rollout of a step is drawn with the parameters from before the step before it, while
    # that one is scored; its update needs a correction (docs/architecture.md). 0: with its own.
    staleness: int = 0
    accumulation_steps: int = 1  # micro-batches per update; same update, less memory
    # Of a prompt and its completions in a row; "packed": shared, with several short groups in one
    # row where that computes fewer tokens.
    layout: Literal["shared", "plain", "packed"] = "shared"
    chunk: int | None = 16  # completion positions whose logits exist at a time
    seed: int = 0  # folded into the state's key; another seed samples other completions
    # Seconds after which a reward function without an answer stops the run; None: no limit.
    score_timeout: float | None = None
    # Log-probs of the reference policy in the rollout and the update batch, and the KL to it in the
    # metrics, also where the objective has no KL term.
    reference_log_probs: bool = False
    # The entropy of every token in the batch that `reshape_update` sees, for one more forward pass.
    token_entropy: bool = False
    checkpoint_every: int = 50  # steps; the end of the run is always stored
    keep_checkpoints: int = 2  # the newest ones
    log_every: int = 1  # steps between rows of metrics.jsonl

    def __post_init__(self) -> None:
        _make_plain(self)
        _check_positive(
            self,
            "prompts_per_step",
            "num_samples",
            "temperature",
            "num_iterations",
            "mini_batches",
            "accumulation_steps",
        )
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must be from 0 to {2**32 - 1}, got {self.seed}")
        if self.old_log_probs not in ("trainer", "sampler"):
            raise UserError(
                f"old_log_probs {self.old_log_probs!r} is unknown; use 'trainer' or 'sampler'"
            )
        if self.staleness not in (0, 1):
            raise UserError(
                f"staleness must be 0 or 1, got {self.staleness}: with one rollout drawn ahead, "
                "sampling and scoring have work at the same time, and more would only be older"
            )


def _make_plain(config: Any) -> None:
    """Whole numbers as int and widths as tuples, so that the record can be hashed and stored.

    Raises:
        UserError: a field of another type; names it.
    """
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if type(None) in get_args(kind):
            if value is None:
                continue
            [kind] = (option for option in get_args(kind) if option is not type(None))
        try:
            if kind is int:
                if isinstance(value, bool):
                    raise TypeError
                value = operator.index(value)
            elif kind is float:
                value = float(value)
                if not math.isfinite(value):
                    raise ValueError
            elif kind is bool and not isinstance(value, (bool, np.bool_)):
                raise TypeError
            elif get_origin(kind) is tuple:
                value = tuple(map(operator.index, value))
        except (TypeError, ValueError) as error:
            kinds = {int: "a whole number", float: "a finite number", bool: "True or False"}
            wanted = kinds.get(kind, "whole numbers" if get_origin(kind) is tuple else str(kind))
            raise UserError(f"{name} must be {wanted}, got {value!r}") from error
        object.__setattr__(config, name, value)


def _check_positive(config: Any, *names: str) -> None:
    for name in (*names, "steps", "checkpoint_every", "keep_checkpoints", "log_every"):
        if getattr(config, name) <= 0:
            raise UserError(f"{name} must be positive, got {getattr(config, name)}")
    for name in ("prompt_buckets", "completion_buckets"):
        buckets = getattr(config, name, None)
        if buckets == () and name == "completion_buckets":
            continue
        if buckets is not None and (not buckets or min(buckets) < 1):
            raise UserError(f"{name} must name at least one positive width, got {buckets}")
    if config.chunk is not None and config.chunk < 1:
        raise UserError(f"chunk must be positive, or None for all positions, got {config.chunk}")
    layouts = get_args(get_type_hints(type(config))["layout"])
    if config.layout not in layouts:
        raise UserError(f"layout {config.layout!r} is unknown; use one of {layouts}")


def json_tree(tree: Any) -> Any:
    """Dataclasses, tuples and other objects as JSON reads them back, to be compared by value."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        if isinstance(value, (np.ndarray, np.generic, jax.Array)):
            return np.asarray(value).tolist()
        # Not `str`, which would be another one in the next process.
        return qualified_name(value) if callable(value) else str(value)

    return json.loads(json.dumps(tree, default=plain))


def qualified_name(function: Any) -> str:
    """Module and name of a function, or of the function or class behind a callable object."""
    function = getattr(function, "func", function)
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def differing_fields(stored: Any, current: Any, name: str = "") -> list[str]:
    """One line per field of two JSON trees that differs, and that a continuation must share."""
    if isinstance(stored, dict) and isinstance(current, dict):
        # A field that is new since the record was stored, and unused, is no difference.
        new = [key for key in current if key not in stored and current[key] not in (None, 0)]
        free = FREE_FIELDS if name in (".run", ".policy") else ()
        names = [key for key in (*stored, *new) if key not in free]
        return [
            line
            for key in names
            for line in differing_fields(
                stored.get(key, "absent"), current.get(key, "absent"), f"{name}.{key}"
            )
        ]
    return [] if stored == current else [f"{name[1:]}: {stored!r} (stored), {current!r} (now)"]

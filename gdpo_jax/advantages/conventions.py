"""How the released implementations of GDPO differ, one record each, so that a run can follow any of
them.
"""

import dataclasses

from gdpo_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Convention:
    """The choices that the paper leaves open or that a peer makes differently."""

    group_eps: float = 0.0  # added to the group's standard deviation
    batch_eps: float = 0.0  # added to the batch's standard deviation
    variance_eps: float = 0.0  # added to the batch's variance
    over: str = "sequences"  # what the batch statistics count, "sequences" or "tokens"
    missing: str = "mask"  # a missing reward is masked, or "zero" before the statistics
    empty_rows: str = "mask"  # a sample without any reward is left out, or enters as "zero"
    leave_one_out: bool = False  # group statistics of the other members
    lone: str = "zero"  # a group of one gives zero, or keeps its "raw" reward
    single_reward: str = "gdpo"  # with K = 1 "gdpo" still normalises over the batch, "grpo" not
    # Differences of a reward that are no signal: None for 8 units in the last place, 0 for none, as
    # the peers leave noise to their eps.
    resolution: float | None = 0.0


CONVENTIONS: dict[str, Convention] = {
    # arXiv 2601.05242: no eps in eq. 4, an eps without a value in eq. 6. It says nothing
    # about rounding; to the letter, resolution would be 0.
    "paper": Convention(resolution=None),
    # huggingface/trl grpo_trainer.py, multi_objective_aggregation="normalize_then_sum".
    "trl": Convention(group_eps=1e-4, batch_eps=1e-4),
    # verl-project/verl core_algos.py.
    "verl": Convention(group_eps=1e-6, variance_eps=1e-8, over="tokens", lone="raw"),
    # NVIDIA-NeMo/RL advantage_estimator.py; dataclasses.replace(..., leave_one_out=False) is its
    # other mode.
    "nemo": Convention(group_eps=1e-6, leave_one_out=True),
    # modelscope/ms-swift rl_core/advantage.py.
    "ms_swift": Convention(group_eps=1e-8, batch_eps=1e-8, empty_rows="zero"),
    # NVlabs/GDPO, its fork of TRL 0.18.
    "nvlabs": Convention(group_eps=1e-4, batch_eps=1e-4, missing="zero", single_reward="grpo"),
}


def find_convention(convention: str | Convention) -> Convention:
    """The record of that name, or the record itself. Raises UserError with the legal names."""
    if isinstance(convention, Convention):
        return convention
    if convention not in CONVENTIONS:
        raise UserError(f"unknown convention {convention!r}; known: {sorted(CONVENTIONS)}")
    return CONVENTIONS[convention]

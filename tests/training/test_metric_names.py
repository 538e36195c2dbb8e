"""docs/diagnostics.md and the rows that runs write name the same metrics."""

import re
from pathlib import Path

import numpy as np
import toy

from gdpo_jax.advantages import (
    batch_normalize,
    chain,
    combine,
    drop_conflicts,
    drop_silent_groups,
    group_normalize,
    lagrangian,
)
from gdpo_jax.objectives import Metrics, ObjectiveConfig, SamplerCorrection
from gdpo_jax.training import make_optimizer, read_metrics
from gdpo_jax.training.run import fetch

PAGE = Path(__file__).parents[2] / "docs" / "diagnostics.md"


def explained():
    """The names in the first cells; those without a slash share the folder of the first."""
    names = set()
    for line in PAGE.read_text().splitlines():
        if not line.startswith("| `"):
            continue
        first, *others = re.findall(r"`([^`]+)`", line.split(" | ")[0])
        folder = first.rpartition("/")[0]
        names.add(first)
        names |= {f"{folder}/{name}" if folder and "/" not in name else name for name in others}
    return names


def test_a_run_with_everything_on_logs_what_the_page_explains(tmp_path):
    mesh = toy.mesh_of(1)
    transform = chain(
        drop_silent_groups(),
        group_normalize(),
        lagrangian({"brevity": -3.0}, step_size=0.1),
        drop_conflicts(),
        combine(),
        batch_normalize(),
    )
    objective = ObjectiveConfig(
        kl="k3",
        kl_coef=0.1,
        entropy_coef=0.01,
        dual_clip=3.0,
        level="segment",
        max_segments=3,
        correction=SamplerCorrection(),
    )
    optimizer = make_optimizer(toy.OPTIMIZER)
    reference = toy.fresh_state(mesh, optimizer, seed=1).params
    toy.run(
        tmp_path,
        mesh,
        config=toy.config(steps=1, num_iterations=2, staleness=1),
        transform=transform,
        objective=objective,
        ref_params=reference,
        num_ranks=3,
        segment=lambda completion, record: [min(i, 2) for i in range(len(completion.token_ids))],
    )
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    del row["step"]
    pattern = "|".join(function.name for function in toy.REWARDS)
    logged = {re.sub(rf"(?<=/)({pattern})(?=/|$)", "{name}", name) for name in row}
    assert logged == explained()
    assert all(value is not None for value in row.values())
    assert row["rollout/effective_fraction"] > 0.99  # the sampler is the trainer
    assert row["rollout/abs_max"] < 1e-4 < row["sampler/gap_max"]  # two updates moved the policy
    assert 1 <= row["completions/items_mean"] <= 3


def test_a_row_merges_updates_by_the_kind_of_a_metric_and_not_by_its_name():
    updates = [
        Metrics(
            sums={"prompt_min": np.float32(value)},
            minima={"low": np.float32(value)},
            maxima={"high": np.float32(value)},
        )
        for value in (1, 3)
    ]
    row = fetch(updates, {"reward/a/max": np.float32(5)})
    assert row == {"prompt_min": 2.0, "low": 1.0, "high": 3.0, "reward/a/max": 5.0}

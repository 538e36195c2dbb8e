"""SafeRec from a language model on disk, a tiny one; test_smollm2.py has a real one."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.common.runs.folder import open_workspace
from experiments.common.runs.pipeline import generate, score_arm, train_arm
from experiments.common.runs.stages import Rewards
from experiments.saferec.__main__ import EXPERIMENT
from experiments.saferec.presets import PRESETS
from gdpo_jax import recipe
from gdpo_jax.errors import UserError
from gdpo_jax.policies import LoraConfig, lora_merge
from gdpo_jax.training import MeshConfig, make_mesh, read_metrics
from tests.tiny_model import save_tiny_model

LORA = LoraConfig(rank=2, alpha=4.0, targets=("query", "down"))
SFT, GDPO = EXPERIMENT.arm("safe-sft"), EXPERIMENT.arm("safe-gdpo")
METRICS = ("loss", "grad_norm", "update_norm")


def one_device():
    return make_mesh(MeshConfig(), jax.devices()[:1])


def shortened(*, lora=LORA, rows=2, prompts=(512,), answers=(512,), new=12):
    """The smollm2 preset with a few tiny steps."""
    preset = PRESETS["smollm2"].with_level("sequence")
    sft, rl = preset.stages["safe-sft"], preset.stages["rl"]
    run = dataclasses.replace(
        sft.run,
        steps=1,
        batch_size=rows,
        prompt_buckets=prompts,
        completion_buckets=answers,
        checkpoint_every=1,
    )
    stage = dataclasses.replace(sft, run=run, lora=lora)
    run = dataclasses.replace(
        rl.run,
        steps=1,
        prompts_per_step=rows,
        num_samples=2,
        prompt_buckets=prompts,
        checkpoint_every=1,
    )
    return dataclasses.replace(
        preset,
        stages={"safe-sft": stage, "rl": dataclasses.replace(rl, run=run, lora=lora)},
        max_new_tokens=new,
        evaluation_batch=rows,
    )


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"), layers=1)


@dataclasses.dataclass(frozen=True)
class Share:
    """The share of a letter, since models that know nothing make no lists to reward."""

    name: str
    letter: str

    def __call__(self, completions, records):
        return [c.text.count(self.letter) / max(len(c.text), 1) for c in completions]


LETTERS = (Share("relevance", "e"), Share("safety", "a"), Share("count", " "))
OF_ANY_TEXT = dataclasses.replace(EXPERIMENT, rewards=lambda *given: Rewards(LETTERS))


@pytest.fixture
def workspace(tmp_path, data_dir, model_dir):
    """A function from a preset to a workspace in one run folder, with few conversations."""

    def opened(preset, *, model=model_dir):
        (tmp_path / "run" / "preset.json").unlink(missing_ok=True)  # presets may change here
        options = {"data_dir": data_dir, "model_dir": model}
        space = open_workspace(OF_ANY_TEXT, tmp_path / "run", preset, **options)
        few = {split: rows[:24] for split, rows in space.data.records.items()}
        return dataclasses.replace(space, data=dataclasses.replace(space.data, records=few))

    return opened


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def moved(params):
    return max(
        np.abs(np.asarray(pair["b"])).max() for pair in params["adapters"]["layers"].values()
    )


def check_two_stages(space, *, steps):
    """One step of each stage, then a continuation of the second to `steps`, which it returns."""
    mesh = one_device()
    base = as_numpy(space.open_start(mesh, 0).params)
    imitating = train_arm(space, SFT, 0, mesh=mesh)
    jax.tree.map(np.testing.assert_array_equal, as_numpy(imitating.params["base"]), base)
    assert moved(imitating.params) > 0
    parts = imitating.params["base"], imitating.params["adapters"]
    merged = as_numpy(lora_merge(*parts, imitating.policy.trained_config))
    once = as_numpy(train_arm(space, GDPO, 0, mesh=mesh).params)
    rl = space.preset.stages["rl"]
    rl = dataclasses.replace(rl, run=dataclasses.replace(rl.run, steps=steps))
    stages = {**space.preset.stages, "rl": rl}
    space = dataclasses.replace(space, preset=dataclasses.replace(space.preset, stages=stages))
    trained = train_arm(space, GDPO, 0, mesh=mesh)
    # Reinforcement learning starts from the imitating policy, which stays as it is.
    for params in (once, as_numpy(trained.params)):
        jax.tree.map(
            lambda ours, start: np.testing.assert_allclose(ours, start, atol=1e-6),
            params["base"],
            merged,
        )
    assert 0 < moved(once) < moved(trained.params)
    for arm, count in ((SFT, 1), (GDPO, steps)):
        rows = read_metrics(space.arm_dir(arm.name, 0) / "metrics.jsonl")
        assert [row["step"] for row in rows] == list(range(count))
        assert np.isfinite([[row[name] for name in METRICS] for row in rows]).all()
    return space, trained


def check_answers(space, trained, count):
    """Answers test conversations and scores them, as every arm is."""
    records, folder = space.data.records["test"][:count], space.arm_dir(GDPO.name, 0)
    texts = generate(space, GDPO, trained, records)
    table = score_arm(space, texts, records, folder)
    assert len(table.ids) == len(texts) == count
    assert {"recall@10", "svr@10", "empty"} <= set(table.values)
    stored = (folder / "outputs.jsonl").read_text().splitlines()
    assert [json.loads(row)["text"] for row in stored] == texts


def test_both_stages_train_adapters_and_go_on_where_they_stopped(workspace, tmp_path):
    space, trained = check_two_stages(workspace(shortened()), steps=2)
    check_answers(space, trained, 3)
    whole = dataclasses.replace(space, path=tmp_path / "whole")
    at_once = train_arm(whole, GDPO, 0, mesh=one_device())
    jax.tree.map(np.testing.assert_array_equal, as_numpy(trained.params), as_numpy(at_once.params))
    for arm in (SFT, GDPO):
        newest = sorted((space.arm_dir(arm.name, 0) / "checkpoints").glob("[0-9]*"))[-1]
        stored = (newest / "params" / "_METADATA").read_text()
        assert "query" in stored and "embedding" not in stored


def test_another_model_or_other_adapters_are_refused(workspace, tmp_path):
    space, mesh = workspace(shortened()), one_device()
    train_arm(space, SFT, 0, mesh=mesh)
    other = workspace(shortened(), model=save_tiny_model(tmp_path / "other", seed=1, layers=1))
    with pytest.raises(UserError, match="start: "):
        train_arm(dataclasses.replace(space, open_start=other.open_start), SFT, 0, mesh=mesh)
    louder = dataclasses.replace(LORA, alpha=8.0)
    with pytest.raises(UserError, match=r"lora\.alpha: 4\.0 \(stored\), 8\.0 \(now\)"):
        train_arm(workspace(shortened(lora=louder)), SFT, 0, mesh=mesh)


def test_whole_parameters_are_their_own_reference(workspace, monkeypatch):
    space, mesh = workspace(shortened(lora=None)), one_device()
    given = {}

    def run_policy_optimization(policy, engine, state, **options):
        given.update(options)
        return state

    monkeypatch.setattr(recipe, "run_policy_optimization", run_policy_optimization)
    imitating = as_numpy(train_arm(space, SFT, 0, mesh=mesh).params)
    assert set(imitating) == {"embedding", "layers", "final_norm"}
    started = as_numpy(train_arm(space, GDPO, 0, mesh=mesh).params)
    jax.tree.map(np.testing.assert_array_equal, started, imitating)
    jax.tree.map(np.testing.assert_array_equal, as_numpy(given["ref_params"]), imitating)


def test_conversations_that_exceed_the_buckets_are_left_out(workspace, monkeypatch, capsys):
    space, mesh = workspace(shortened()), one_device()
    given = []

    def run_sft(policy, state, *, records, **options):
        given.append(len(next(records)))
        return state

    monkeypatch.setattr(recipe, "run_sft", run_sft)
    prompts = [space.encode(record["prompt"]) for record in space.data.records["train"]]
    width = sorted(map(len, prompts))[11]
    exceeding = sum(len(ids) > width for ids in prompts)
    narrow = dataclasses.replace(space, preset=shortened(prompts=(width,)))
    train_arm(narrow, SFT, 0, mesh=mesh)
    assert given == [2]
    assert f"{exceeding} of 24 records are too long" in capsys.readouterr().err
    with pytest.raises(UserError, match="24 of 24 records do not fit"):
        train_arm(dataclasses.replace(space, preset=shortened(prompts=(4,))), SFT, 0, mesh=mesh)

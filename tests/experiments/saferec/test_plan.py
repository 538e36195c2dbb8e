"""Presets of large models compiled on shapes alone, and the rewards that they follow."""

import dataclasses
import types

import jax
import pytest
from jax.sharding import AbstractMesh

from experiments.common.runs import plan as planning
from experiments.common.runs.experiment import Data
from experiments.common.runs.plan import plan, planned_decoder
from experiments.saferec.__main__ import EXPERIMENT, main
from experiments.saferec.arms import ARMS, rewards
from experiments.saferec.presets import PRESETS
from gdpo_jax.commands.running import mesh_config
from gdpo_jax.errors import UserError
from gdpo_jax.planning.abstract import bytes_per_device
from gdpo_jax.policies import decoder_policy, num_params
from gdpo_jax.training import (
    MeshConfig,
    check_batch,
    learning_rate_schedule,
    make_mesh,
    make_optimizer,
)
from gdpo_jax.training.mesh import AXES
from gdpo_jax.training.state import abstract_state
from tests.experiments.saferec.data.test_targets import FILMS, film_oracle

PAPER = ("qwen2.5-0.5b", "llama-3.2-3b", "llama-3.1-8b")


def shrunk(name: str):
    """The preset at a size that compiles in seconds: its steps and mesh stay."""
    preset = PRESETS[name]
    sft, rl = preset.stages["safe-sft"], preset.stages["rl"]
    run = dataclasses.replace(sft.run, prompt_buckets=(16,), completion_buckets=(8,), chunk=None)
    sft = dataclasses.replace(sft, run=run)
    answers = dataclasses.replace(rl.run, prompt_buckets=(16,), chunk=None)
    return dataclasses.replace(
        preset,
        stages={"sft": sft, "safe-sft": sft, "rl": dataclasses.replace(rl, run=answers)},
        max_new_tokens=8,
        decoder=dataclasses.replace(
            preset.decoder, num_layers=1, vocab_size=512, d_model=64, head_dim=8, d_ff=64
        ),
    )


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_follow_the_tables_of_the_paper(name):
    preset = PRESETS[name]
    rl, imitation = preset.stages["rl"], preset.stages["safe-sft"]
    assert (rl.run.prompts_per_step * rl.run.num_samples, rl.run.num_samples) == (64, 8)
    assert (max(rl.run.prompt_buckets), preset.max_new_tokens) == (2048, 1024)
    objective = rl.objective
    assert (objective.kl_coef, objective.clip_low, objective.clip_high) == (1e-3, 0.2, 0.2)
    assert (rl.optimizer.b1, rl.optimizer.b2) == (0.9, 0.99)
    rate = learning_rate_schedule(rl.optimizer)
    late = 1e-6 if name == "qwen2.5-0.5b" else 1e-7
    assert [float(rate(0)), float(rate(9000))] == pytest.approx([1e-6, late])
    peak = learning_rate_schedule(imitation.optimizer)(imitation.optimizer.warmup_updates)
    assert float(peak) == pytest.approx(5e-5)


def test_official_rewards_have_the_weights_of_each_script():
    data = Data(records={}, source=types.SimpleNamespace(oracle=film_oracle(FILMS), titles=None))
    small, large = PRESETS["qwen2.5-0.5b"], PRESETS["llama-3.2-3b"]
    arm = EXPERIMENT.arm("safe-gdpo")
    found = {reward.name: reward for reward in rewards(arm, data, small).functions}
    assert list(found) == ["relevance", "safety", "count"]
    assert (found["safety"].lambda_safe, found["count"].lambda_count) == (0.1, 0.1)
    assert found["relevance"].form == "any_hit"
    without = rewards(arm, data, large)
    names = tuple(reward.name for reward in without.functions)
    assert names == ("relevance", "safety")
    assert without.estimator == {"convention": "trl"}
    arm.stage.transform(large, without).init(names)
    assert rewards(EXPERIMENT.arm("safe-grpo"), data, large).estimator == {}
    per_rank = rewards(arm, data, small.with_level("rank")).functions
    assert [reward.per_rank for reward in per_rank] == [True] * 3


@pytest.mark.parametrize(("name", "millions"), [("qwen2.5-0.5b", 494), ("llama-3.1-8b", 8030)])
def test_presets_plan_the_published_sizes(name, millions):
    params = jax.eval_shape(decoder_policy(PRESETS[name].decoder).init, jax.random.key(0))
    assert round(num_params(params) / 1e6) == millions


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_divide_over_their_meshes(name):
    preset = PRESETS[name]
    rl, run = preset.stages["rl"], preset.stages["safe-sft"].run
    mesh = AbstractMesh((preset.mesh.data, preset.mesh.fsdp, preset.mesh.tensor), AXES)
    policy, optimizer = decoder_policy(preset.decoder), make_optimizer(rl.optimizer)
    state = abstract_state(policy, optimizer, mesh=mesh)
    held = bytes_per_device(state.params)
    assert held * preset.mesh.fsdp * preset.mesh.tensor == pytest.approx(
        4 * num_params(state.params), rel=1e-3
    )
    check_batch(rl.run.prompts_per_step, mesh, parts=rl.run.accumulation_steps)
    check_batch(run.batch_size, mesh, parts=run.accumulation_steps)


def parameter_bytes(preset) -> int:
    policy = decoder_policy(planned_decoder(preset, None))
    return 4 * num_params(jax.eval_shape(policy.init, jax.random.key(0)))


@pytest.fixture(scope="module")
def large():
    """Llama-3.1-8B's preset, which has all of Llama-3.2-3B's but for the size and the mesh: one on
    which `tensor` cuts parameters as well."""
    return dataclasses.replace(shrunk("llama-3.1-8b"), mesh=mesh_config("1x4x2"))


@pytest.fixture(scope="module")
def planned(large):
    return plan(large, ARMS, planned_decoder(large, None), make_mesh(large.mesh))


@pytest.mark.slow
def test_a_plan_counts_optimizer_slots_and_the_copy_of_the_reference(planned, large):
    supervised, policy, sampler, answers = planned
    # AdamW's two moments, and a copy of the parameters for the reference policy.
    assert abs(policy.memory.optimizer - 2 * policy.memory.parameters) < 100
    assert supervised.memory.parameters == policy.memory.parameters
    assert supervised.memory.parameters == pytest.approx(parameter_bytes(large) / 8, rel=0.05)
    assert supervised.memory.optimizer == policy.memory.optimizer
    assert supervised.reference == 0
    assert policy.reference == sampler.reference == policy.memory.parameters
    assert min(step.memory.temporary for step in planned) > 0
    assert answers.memory.optimizer == answers.reference == 0
    assert answers.memory.parameters == policy.memory.parameters


@pytest.mark.slow
def test_the_plan_of_a_preset_that_trains_adapters(monkeypatch):
    """Adapters alone have slots and need no copy as reference."""
    monkeypatch.setattr(planning, "plan_answers", lambda *given, **sizes: None)
    preset = shrunk("qwen2.5-0.5b")
    decoder, mesh = planned_decoder(preset, None), make_mesh(preset.mesh)
    supervised, policy, sampler, _ = plan(preset, ARMS, decoder, mesh)
    whole = parameter_bytes(preset)
    # Biases are whole on every shard, their slots are not.
    assert supervised.memory.parameters == pytest.approx(whole / 8, rel=0.05)
    assert supervised.memory.optimizer == pytest.approx(2 * whole / 8, rel=0.01)
    assert policy.reference == sampler.reference == 0
    assert policy.memory.parameters > supervised.memory.parameters
    assert min(step.memory.temporary for step in (supervised, policy, sampler)) > 0


@pytest.mark.parametrize("command", ["sft", "rl", "train", "answer", "reproduce"])
def test_a_dry_run_prints_the_steps_and_leaves_no_trace(
    command, planned, large, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "plan", lambda *arguments: planned)
    small = dataclasses.replace(EXPERIMENT, presets={large.name: large})
    assert main([command, "--preset", large.name, "--dry-run"], small) == 0
    shown = capsys.readouterr().out
    assert "mesh data x fsdp x tensor 1x4x2" in shown
    assert "192 rows, prompt 16, completion 8, 8 micro-batches" in shown
    for step in ("supervised", "policy step", "sampler", "answers"):
        assert step in shown
    assert list(tmp_path.iterdir()) == []
    if command == "rl":
        chips = ["--chips", "h100:8", "--dry-run"]
        assert main([command, "--preset", large.name, *chips], small) == 0
        shown = capsys.readouterr().out
        assert "GiB a chip, of 74.51" in shown and "best: 1x4x2" in shown
        assert main([command, "--preset", large.name, *chips[:2]], small) == 2
        assert "--chips is what --dry-run plans for" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["8", "1x8", "1x0x8", "axbxc", "1x-1x8"])
def test_a_mesh_is_three_sizes(text):
    with pytest.raises(UserError, match="DATAxFSDPxTENSOR"):
        mesh_config(text)


def test_a_mesh_beyond_this_machine_is_an_error(capsys):
    arguments = ["rl", "--preset", "smollm2", "--mesh", "4x8x8", "--dry-run"]
    assert main(arguments) == 2
    assert "the mesh has 256 devices and this machine 8" in capsys.readouterr().err


@pytest.mark.parametrize("devices", [4, 8])
def test_answers_of_smollm2_are_planned_on_a_mesh_that_does_not_divide_them(devices):
    """50 prompts at a time on 4 or 8 devices: rounded up, in the plan as when an arm is scored."""
    preset = shrunk("smollm2")
    assert preset.evaluation_batch % devices
    mesh = make_mesh(MeshConfig(data=devices), jax.devices()[:devices])
    answers = plan(preset, (), planned_decoder(preset, None), mesh)[-1]
    assert answers.shapes.startswith(f"{ {4: 52, 8: 56}[devices] } prompts of 16")

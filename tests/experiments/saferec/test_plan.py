"""Presets of large models compiled on shapes alone, and the rewards that they follow."""

import dataclasses

import jax
import pytest
from jax.sharding import AbstractMesh

from experiments.saferec import __main__ as commands
from experiments.saferec import plan as planning
from experiments.saferec.arms import advantage_transform, arm_named, reward_functions
from experiments.saferec.plan import plan, planned_decoder
from experiments.saferec.presets import preset_named
from gdpo_jax.commands.running import mesh_config
from gdpo_jax.errors import UserError
from gdpo_jax.policies import decoder_policy, num_params
from gdpo_jax.training import (
    check_batch,
    learning_rate_schedule,
    make_mesh,
    make_optimizer,
)
from gdpo_jax.training.dry_run import bytes_per_device
from gdpo_jax.training.mesh import AXES
from gdpo_jax.training.state import abstract_state
from tests.experiments.saferec.data.test_targets import FILMS, film_oracle

PAPER = ("qwen2.5-0.5b", "llama-3.2-3b", "llama-3.1-8b")


def shrunk(name: str):
    """The preset at a size that compiles in seconds: its steps and mesh stay."""
    preset = preset_named(name)
    run = dataclasses.replace(
        preset.safe_sft.run, prompt_buckets=(16,), completion_buckets=(8,), chunk=None
    )
    return dataclasses.replace(
        preset,
        safe_sft=dataclasses.replace(preset.safe_sft, run=run),
        rl=dataclasses.replace(preset.rl, prompt_buckets=(16,), chunk=None),
        max_new_tokens=8,
        decoder=dataclasses.replace(
            preset.decoder, num_layers=2, vocab_size=512, d_model=64, head_dim=8, d_ff=64
        ),
    )


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_follow_the_tables_of_the_paper(name):
    preset = preset_named(name)
    assert (preset.rl.prompts_per_step * preset.rl.num_samples, preset.rl.num_samples) == (64, 8)
    assert (max(preset.rl.prompt_buckets), preset.max_new_tokens) == (2048, 1024)
    objective = preset.objective
    assert (objective.kl_coef, objective.clip_low, objective.clip_high) == (1e-3, 0.2, 0.2)
    assert (preset.rl_optimizer.b1, preset.rl_optimizer.b2) == (0.9, 0.99)
    rate = learning_rate_schedule(preset.rl_optimizer)
    late = 1e-6 if name == "qwen2.5-0.5b" else 1e-7
    assert [float(rate(0)), float(rate(9000))] == pytest.approx([1e-6, late])
    peak = learning_rate_schedule(preset.safe_sft.optimizer)(
        preset.safe_sft.optimizer.warmup_updates
    )
    assert float(peak) == pytest.approx(5e-5)


def test_official_rewards_have_the_weights_of_each_script():
    oracle = film_oracle(FILMS)
    small, large = preset_named("qwen2.5-0.5b"), preset_named("llama-3.2-3b")
    arm = arm_named("safe-gdpo")
    rewards = {reward.name: reward for reward in reward_functions(arm, small, oracle)}
    assert list(rewards) == ["relevance", "safety", "count"]
    assert (rewards["safety"].lambda_safe, rewards["count"].lambda_count) == (0.1, 0.1)
    assert rewards["relevance"].form == "any_hit"
    assert [reward.name for reward in reward_functions(arm, large, oracle)] == [
        "relevance",
        "safety",
    ]
    names = tuple(reward.name for reward in reward_functions(arm, large, oracle))
    advantage_transform(arm, large).init(names)
    per_rank = reward_functions(arm, small.with_level("rank"), oracle)
    assert [reward.per_rank for reward in per_rank] == [True] * 3


@pytest.mark.parametrize(("name", "millions"), [("qwen2.5-0.5b", 494), ("llama-3.1-8b", 8030)])
def test_presets_plan_the_published_sizes(name, millions):
    params = jax.eval_shape(decoder_policy(preset_named(name).decoder).init, jax.random.key(0))
    assert round(num_params(params) / 1e6) == millions


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_divide_over_their_meshes(name):
    preset = preset_named(name)
    mesh = AbstractMesh((preset.mesh.data, preset.mesh.fsdp, preset.mesh.tensor), AXES)
    policy, optimizer = decoder_policy(preset.decoder), make_optimizer(preset.rl_optimizer)
    state = abstract_state(policy, optimizer, mesh=mesh)
    held = bytes_per_device(state.params)
    assert held * preset.mesh.fsdp * preset.mesh.tensor == pytest.approx(
        4 * num_params(state.params), rel=1e-3
    )
    check_batch(preset.rl.prompts_per_step, mesh, parts=preset.rl.accumulation_steps)
    run = preset.safe_sft.run
    check_batch(run.batch_size, mesh, parts=run.accumulation_steps)


@pytest.fixture(scope="module")
def planned():
    preset = shrunk("llama-3.2-3b")
    return plan(preset, planned_decoder(preset, None), make_mesh(preset.mesh))


def test_a_plan_counts_optimizer_slots_and_the_copy_of_the_reference(planned):
    supervised, policy, sampler = planned
    # AdamW's two moments, and a copy of the parameters for the reference policy.
    assert abs(policy.memory.optimizer - 2 * policy.memory.parameters) < 100
    assert supervised.memory.parameters == policy.memory.parameters > 0
    assert supervised.reference == 0
    assert policy.reference == sampler.reference == policy.memory.parameters
    assert min(step.memory.temporary for step in planned) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mesh"), [("qwen2.5-0.5b", "1x8x1"), ("llama-3.1-8b", "1x4x2")], ids=str
)
def test_the_plans_of_the_other_presets(name, mesh):
    """Adapters alone have slots and need no copy as reference; `tensor` cuts parameters as well."""
    preset = dataclasses.replace(shrunk(name), mesh=mesh_config(mesh))
    decoder = planned_decoder(preset, None)
    supervised, policy, sampler = plan(preset, decoder, make_mesh(preset.mesh))
    whole = 4 * num_params(jax.eval_shape(decoder_policy(decoder).init, jax.random.key(0)))
    # Biases are whole on every shard, their slots are not.
    assert supervised.memory.parameters == pytest.approx(whole / 8, rel=0.05)
    assert supervised.memory.optimizer == pytest.approx(2 * whole / 8, rel=0.01)
    if preset.pretrained.rl_lora is None:
        assert policy.reference == sampler.reference == policy.memory.parameters
    else:
        assert policy.reference == 0
        assert policy.memory.parameters > supervised.memory.parameters
    assert min(step.memory.temporary for step in (supervised, policy, sampler)) > 0


@pytest.mark.parametrize("command", ["sft", "rl", "answer", "reproduce"])
def test_a_dry_run_prints_the_steps_and_leaves_no_trace(
    command, planned, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "preset_named", shrunk)
    monkeypatch.setattr(planning, "plan", lambda *arguments: planned)
    assert commands.main([command, "--preset", "llama-3.2-3b", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "mesh data x fsdp x tensor 1x8x1" in shown
    assert "192 rows, prompt 16, completion 8, 8 micro-batches" in shown
    for step in ("supervised", "policy step", "sampler"):
        assert step in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["8", "1x8", "1x0x8", "axbxc", "1x-1x8"])
def test_a_mesh_is_three_sizes(text):
    with pytest.raises(UserError, match="DATAxFSDPxTENSOR"):
        mesh_config(text)


def test_a_mesh_beyond_this_machine_is_an_error(capsys):
    arguments = ["rl", "--preset", "smollm2", "--mesh", "4x8x8", "--dry-run"]
    assert commands.main(arguments) == 2
    assert "the mesh has 256 devices and this machine 8" in capsys.readouterr().err

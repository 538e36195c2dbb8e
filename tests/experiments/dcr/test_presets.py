"""Presets of large models: published sizes, stages that fit, and a plan."""

import dataclasses

import jax
import pytest

from experiments.common.runs.plan import plan, planned_decoder
from experiments.dcr.__main__ import EXPERIMENT
from experiments.dcr.presets import PRESETS
from gdpo_jax.policies import decoder_policy, num_params
from gdpo_jax.training import MeshConfig, make_mesh

LARGE = ("qwen2.5-1.5b", "qwen2.5-7b", "llama-3-8b")


@pytest.mark.parametrize(
    ("name", "millions"), [("qwen2.5-1.5b", 1544), ("qwen2.5-7b", 7616), ("llama-3-8b", 8030)]
)
def test_large_presets_have_the_published_sizes(name, millions):
    params = jax.eval_shape(decoder_policy(PRESETS[name].decoder).init, jax.random.key(0))
    assert round(num_params(params) / 1e6) == millions


@pytest.mark.parametrize("name", LARGE)
def test_stage_two_is_the_published_recipe(name):
    preset = PRESETS[name]
    sft = preset.stages["sft"]
    assert (sft.lora.rank, sft.lora.alpha, sft.lora.targets) == (8, 16.0, ("query", "value"))
    assert (sft.run.batch_size, sft.optimizer.learning_rate) == (128, 3e-4)
    assert sft.run.steps == 3 * 21_000 // 128
    assert (preset.general, preset.refusals) == (20_000, 1_000)
    assert preset.stages["refine"].layer == preset.decoder.num_layers // 2


@pytest.mark.parametrize("name", PRESETS)
def test_every_arm_finds_its_settings(name):
    preset = PRESETS[name]
    arms = [arm for arm in EXPERIMENT.arms if preset.pretrained is None or not arm.base]
    steps = {arm.name: arm.stage.steps(preset) for arm in arms}
    untrained = [arm for arm, count in steps.items() if not count]
    assert untrained == ["base", "steered", "ablated"]
    if name == "mini":  # in smoke these have the same settings
        assert (steps["language"], steps["stl"]) == (600, 200)


@pytest.mark.slow
def test_a_dry_run_plans_each_kind_of_step_once():
    preset = PRESETS["qwen2.5-7b"]
    small = dataclasses.replace(
        preset,
        decoder=dataclasses.replace(
            preset.decoder, num_layers=1, vocab_size=512, d_model=64, head_dim=8, d_ff=64
        ),
        stages={**preset.stages, "refine": dataclasses.replace(preset.stages["refine"], layer=1)},
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    steps = plan(small, EXPERIMENT.arms, planned_decoder(small, None), mesh)
    names = [step.name for step in steps]
    assert names[:2] == ["supervised step", "refinement step"] and len(set(names)) == len(names)

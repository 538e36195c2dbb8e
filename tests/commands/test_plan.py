"""`plan` from the command line: models by name and by folder, meshes that fit and that do not."""

import json

import pytest

from gdpo_jax.__main__ import main

CONFIG = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
SIZES = ("--prompt-length", "4", "--max-new-tokens", "4", "--num-samples", "2")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_folder_is_planned_on_several_meshes(folder, capsys):
    saved = folder / "plan.json"
    command = ["plan", "--model", str(folder), "--chips", "h100:2", "--mesh", "1x2x1", "1x1x2"]
    command += ["--steps", "log-probs", "sampler", "--kl-coef", "0.1", "--save", str(saved)]
    assert main([*command, *SIZES]) == 0
    shown = capsys.readouterr().out
    assert "compiled for 2 forced CPU devices, because it is no TPU" in shown
    assert "best: 1x2x1" in shown and "(bandwidth)" in shown
    # One key head cannot be shared by two chips.
    assert "1x1x2: parameter" in shown and "not divisible by mesh axis tensor=2" in shown
    scored, sampled = json.loads(saved.read_text())
    assert (scored["step"], sampled["step"]) == ("log-probs", "sampler")
    # The copy of the parameters that a KL term is taken to.
    assert sampled["memory"]["reference"] == sampled["memory"]["parameters"] > 0
    assert sampled["memory"]["caches"] == 2 * 2 * 8 * 2 * (4 + 2 * 4)
    assert min(sampled["flops"], scored["flops"], scored["sent"]) > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model", "gpt-5"), "neither a folder with a config.json nor FAMILY-SIZE"),
        (("--model", "llama-9b"), "Llama 3 has no size '9B'; sizes: 3-8B"),
        (("--chips", "h100"), "give TYPE:SHAPE, such as v5e:4x4"),
        (("--mesh", "2"), "DATAxFSDPxTENSOR"),
        (("--num-samples", "0"), "--num-samples must be at least 1"),
    ],
)
def test_a_mistake_is_one_message_and_status_two(folder, capsys, more, message):
    command = ["plan", "--model", str(folder), "--chips", "h100:2", *SIZES, *more]
    assert main(command) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_meshes_that_do_not_suit_the_batch_are_a_line_each(folder, capsys):
    command = ["plan", "--model", str(folder), "--chips", "h100:2", "--mesh", "2x1x1", "4x1x1"]
    assert main([*command, *SIZES, "--prompts-per-step", "3"]) == 0
    shown = capsys.readouterr().out
    assert "no mesh fits" in shown
    assert "2x1x1: --prompts-per-step 3 is not divisible by 2" in shown
    assert "4x1x1: mesh data=4 fsdp=1 tensor=1 does not fit 2 devices" in shown


def test_a_base_beside_adapters_is_planned_as_it_is_held(folder, capsys):
    saved, held = folder / "plan.json", []
    command = ["plan", "--model", str(folder), "--chips", "rtx4090:1", "--mesh", "1x1x1", *SIZES]
    command += ["--steps", "log-probs", "--lora-rank", "2", "--save", str(saved)]
    for param_dtype in ("float32", "bfloat16", "int8"):
        assert main([*command, "--param-dtype", param_dtype]) == 0
        [row] = json.loads(saved.read_text())
        held.append(row["memory"]["parameters"])
    whole, half, quarter = held
    # Norms, adapters and scales stay in float32.
    assert 0.5 * whole < half < 0.6 * whole and quarter < 0.95 * half
    at = command.index("--steps")
    command = [*command[:at], "--steps", "policy", "--param-dtype", "bfloat16"]
    capsys.readouterr()
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "no mesh fits" in shown and "train adapters beside it (lora=)" in shown

"""The benchmarks of the policy step run, and print every number."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALL = "--prompts 8 --num-samples 2 --prompt-length 16 --completion-length 8"


@pytest.fixture
def one_device(monkeypatch):
    """As where JAX has one device: programs that are not cut compile sooner."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: first)


def printed(monkeypatch, capsys, script, options):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    models = importlib.import_module("bench_models").MODELS
    # One layer, since these tests take the time that compiling takes.
    monkeypatch.setitem(models, "tiny", (64, 1, 4, 2, 192, 512))
    monkeypatch.setattr(sys, "argv", [script, *options.split()])
    runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    return capsys.readouterr().out


def ratio(output, title):
    return float(re.search(rf"^{title} +([0-9.]+) x$", output, re.MULTILINE)[1])


def test_the_policy_step_is_measured_in_all_layouts(monkeypatch, capsys):
    options = f"--model tiny {SMALL} --fill 0.4 --remat none --repeats 1 --ceiling-size 64"
    output = printed(monkeypatch, capsys, "bench_policy_step.py", options)
    computed = dict(re.findall(r"^(\w+) .* (\d+) computed", output, re.MULTILINE))
    assert computed == {"shared": str(8 * (16 + 2 * 8)), "plain": str(8 * 2 * (16 + 8))} | {
        "packed": computed["packed"]
    }
    assert int(computed["packed"]) < int(computed["shared"])
    for name in ("plain", "packed"):
        assert ratio(output, f"time {name} / shared") > 0
        assert ratio(output, f"memory {name} / shared") > 0


def test_the_programs_of_a_step_are_timed_one_by_one(monkeypatch, capsys, one_device):
    sizes = "--prompts 8 --num-samples 2 --prompt-length 16 --completion-length 4 --chunk 4"
    output = printed(monkeypatch, capsys, "bench_phases.py", f"{sizes} --repeats 2")
    found = re.findall(
        r"^(\w+) +([\d.]+) ms .* ([\d.]+) core-ms; .* \[(\d+),", output, re.MULTILINE
    )
    assert [name for name, *_ in found] == ["sampler", "update"]
    assert all(float(number) > 0 for _, *numbers in found for number in numbers)
    assert re.findall(r"^66 metrics, ([\w ]+): [\d.]+ ms$", output, re.MULTILINE) == [
        "one by one",
        "stacked",
    ]


def test_chunked_and_full_log_probs_are_compared(monkeypatch, capsys, one_device):
    sizes = "--prompts 8 --num-samples 4 --prompt-length 16 --completion-length 32 --chunk 4"
    small = "--model tiny --layers 1 --lora-rank 2 --remat none"
    options = f"{small} {sizes} --repeats 1 --ceiling-size 64"
    output = printed(monkeypatch, capsys, "bench_log_probs.py", options)
    for name in ("full", "autodiff"):
        assert ratio(output, f"memory {name} / chunked") > 1
        assert ratio(output, f"time {name} / chunked") > 0


def test_attention_without_hidden_blocks_is_compared_with_a_dense_mask(monkeypatch, capsys):
    sizes = "--prompts 16 24 --num-samples 3 --completion-length 4 --heads 2 --head-dim 8"
    output = printed(monkeypatch, capsys, "bench_attention.py", f"layouts {sizes} --repeats 1")
    rows = re.findall(r"^ +(\d+) +[\d.]+ +[\d.]+ +[\d.]+x +([\d.]+)x$", output, re.MULTILINE)
    assert [size for size, _ in rows] == ["16", "24"]
    assert all(float(memory) > 0 for _, memory in rows)


def test_attention_in_blocks_is_compared_with_whole_completions(monkeypatch, capsys):
    heads = "--prompt 16 --num-samples 2 --heads 2 --kv-heads 1 --head-dim 8"
    options = f"lengths --lengths 64 --block 16 {heads} --repeats 1"
    output = printed(monkeypatch, capsys, "bench_attention.py", options)
    assert float(re.search(r"^ +64 .* ([\d.]+)x$", output, re.MULTILINE)[1]) > 1
    output = printed(monkeypatch, capsys, "bench_attention.py", f"plan --lengths 2048 {heads}")
    whole, blocks = re.search(r"^ +2048 +([\d.]+) +([\d.]+)$", output, re.MULTILINE).groups()
    assert float(whole) > float(blocks)


def test_written_out_gradients_of_the_vocabulary_are_compared_with_autodiff(monkeypatch, capsys):
    sizes = "--vocabularies 40 56 --d-model 8 --rows 3 --length 10 --chunk 4 --repeats 1"
    output = printed(monkeypatch, capsys, "bench_vocabulary.py", sizes)
    rows = re.findall(r"^ +(\d+) +[\d.]+ +[\d.]+ +([\d.]+) x$", output, re.MULTILINE)
    assert [size for size, _ in rows] == ["40", "56"]
    assert all(float(faster) > 0 for _, faster in rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trl", "tunix"])
def test_both_sides_run_and_score_the_same_weights_alike(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs the extra that scripts/bench_{name}.py names")
    sizes = "--prompts 1 --num-samples 2 --prompt-length 8 --completion-length 4"
    command = [sys.executable, str(SCRIPTS / f"bench_{name}.py"), *sizes.split()]
    command += ["--models", "tiny", "--steps", "2", "--rounds", "1"]
    plain = {"XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "1"}
    run = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **plain}, check=True
    )
    assert ratio(run.stdout, f"  {name} / jax") > 0
    (difference,) = re.findall(r"same tokens differs by (\S+)", run.stdout)
    assert float(difference) < 1e-4

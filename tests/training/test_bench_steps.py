"""The benchmarks of the policy step run, and print every number."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALL = "--prompts 8 --num-samples 2 --prompt-length 16 --completion-length 8"


def printed(monkeypatch, capsys, script, options):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", [script, *options.split()])
    runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    return capsys.readouterr().out


def ratio(output, title):
    return float(re.search(rf"^{title} +([0-9.]+) x$", output, re.MULTILINE)[1])


def test_the_policy_step_is_measured_in_all_layouts(monkeypatch, capsys):
    options = f"--model tiny {SMALL} --fill 0.4 --repeats 1 --ceiling-size 64"
    output = printed(monkeypatch, capsys, "bench_policy_step.py", options)
    computed = dict(re.findall(r"^(\w+) .* (\d+) computed", output, re.MULTILINE))
    assert computed == {"shared": str(8 * (16 + 2 * 8)), "plain": str(8 * 2 * (16 + 8))} | {
        "packed": computed["packed"]
    }
    assert int(computed["packed"]) < int(computed["shared"])
    for name in ("plain", "packed"):
        assert ratio(output, f"time {name} / shared") > 0
        assert ratio(output, f"memory {name} / shared") > 0


def test_chunked_and_full_log_probs_are_compared(monkeypatch, capsys):
    sizes = "--prompts 8 --num-samples 8 --prompt-length 16 --completion-length 64"
    options = f"--model tiny --layers 1 {sizes} --chunk 4 --repeats 1 --ceiling-size 64"
    output = printed(monkeypatch, capsys, "bench_log_probs.py", options)
    for name in ("full", "autodiff"):
        assert ratio(output, f"memory {name} / chunked") > 1
        assert ratio(output, f"time {name} / chunked") > 0


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs the extra [bench]")
def test_both_sides_run_and_score_the_same_weights_alike():
    sizes = "--prompts 1 --num-samples 2 --prompt-length 8 --completion-length 4"
    command = [sys.executable, str(SCRIPTS / "bench_trl.py"), *sizes.split()]
    command += ["--models", "tiny", "--steps", "2", "--rounds", "1"]
    root = {"PYTHONPATH": str(SCRIPTS.parent), "XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "1"}
    run = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **root}, check=True
    )
    assert ratio(run.stdout, "  trl / jax") > 0
    (difference,) = re.findall(r"same tokens differs by (\S+)", run.stdout)
    assert float(difference) < 1e-4

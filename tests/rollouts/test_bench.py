"""The benchmark runs, and what it compares is the same."""

import importlib
import re
import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.policies import completion_log_probs, decoder_policy

SMALL = (64, 1, 4, 2, 192, 512)
SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_sampler.py"


@pytest.fixture(autouse=True)
def _scripts_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))


@pytest.mark.slow
def test_the_benchmark_prints_every_number(monkeypatch, capsys):
    # One layer, since this takes the time that compiling takes.
    monkeypatch.setitem(importlib.import_module("bench_models").MODELS, "tiny", SMALL)
    sizes = "--models tiny --batches 16 --prompt 4 --new-tokens 12 --repeats 1"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *sizes.split()])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tiny")]
    assert len(rows) == 2
    assert all(re.search(r"^tiny +16 +\d+ +\d+ +\d+\.\d\d x", row) for row in rows)
    assert rows[1].endswith("100.0%")


def test_the_naive_decode_draws_from_the_same_policy():
    bench = runpy.run_path(str(SCRIPT))
    policy = decoder_policy(bench["decoder_config"]("tiny", max_positions=16))
    params, prompts, lengths, key = bench["inputs"](policy, 3, 5)

    @jax.jit
    def both(params):
        tokens, log_probs = bench["naive_decode"](policy, params, prompts, key, length=4)
        tokens, mask = tokens[:, None], jnp.ones((3, 1, 4), bool)
        trained, _ = completion_log_probs(policy, params, prompts, lengths, tokens, mask)
        return log_probs[:, None], trained

    np.testing.assert_allclose(*both(params), atol=1e-4)


def test_the_bytes_of_a_step_are_matrices_and_what_the_cache_holds():
    bench = runpy.run_path(str(SCRIPT))
    config = bench["decoder_config"]("tiny", max_positions=16)
    params = {"all": np.zeros(1000, np.float32)}
    # Keys and values of 2 layers, 2 heads of 16, for 10 tokens of 3 rows, 4 bytes each.
    assert bench["bytes_a_step"](config, params, 3, 10) == 4 * (1000 + 2 * 2 * 2 * 16 * 10 * 3)

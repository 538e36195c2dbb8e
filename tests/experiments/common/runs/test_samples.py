"""The kept groups of a run: cut rows, and steps that a resumed run repeats."""

import types

import numpy as np
import pytest

from experiments.common.runs.samples import keep_samples, read_samples
from gdpo_jax.errors import UserError


def sample(step, text):
    rewards = types.SimpleNamespace(
        values=np.array([[[1.0], [np.nan]]]), valid=np.array([[[True], [False]]]), names=("hit",)
    )
    return types.SimpleNamespace(
        step=step,
        records=[{"id": step}],
        completions=[types.SimpleNamespace(text=text), types.SimpleNamespace(text=text)],
        rewards=rewards,
        advantages=np.array([[0.5, -0.5]]),
    )


def run(path, steps, text):
    keep = keep_samples(path, every=2)
    for step in steps:
        keep(sample(step, text))


def test_a_resumed_run_has_every_step_once(tmp_path):
    path = tmp_path / "seed-0" / "samples.jsonl"
    run(path, range(7), "first")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])  # killed while it wrote step 6
    run(path, range(3, 7), "second")
    rows = read_samples(path)
    assert [(row["step"], row["completions"][0]) for row in rows] == [
        (0, "first"),
        (2, "first"),
        (4, "second"),
        (6, "second"),
    ]
    assert rows[0]["rewards"] == {"hit": [1.0, None]}
    assert path.read_bytes().count(b"\n") == 4
    for _ in range(3):
        run(path, range(3, 7), "second")
    assert path.read_bytes().count(b"\n") == 4


def test_damage_is_named_before_the_run_adds_to_it(tmp_path):
    path = tmp_path / "samples.jsonl"
    for damage, message in (("{\n", "line 1 is damaged"), ('{"n": 1}\n', "line 1: field 'step'")):
        path.write_text(damage)
        with pytest.raises(UserError, match=message):
            run(path, [0], "text")
        assert path.read_text() == damage

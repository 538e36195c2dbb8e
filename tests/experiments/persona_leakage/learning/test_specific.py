"""Imitation without the rows that their user's own model likes better: what goes, what is kept of a
stopped run, and what cannot be learnt from."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments.common.runs.settings import Imitation, Preset
from experiments.common.scores.summaries import write_json
from experiments.persona_leakage.learning.specific import WithoutSpecific, removed
from gdpo_jax.errors import UserError
from gdpo_jax.policies import decoder_policy
from gdpo_jax.training import OptimizerConfig
from tests.experiments.persona_leakage.adapter_cases import (
    ALL,
    DECODER,
    SETTINGS,
    flat,
    job_of,
    same,
)

KAPPA = 10.0  # about half of the rows are above
ROWS = [{**row, "kind": "manner"} for row in ALL]
IMITATION = Imitation(
    run=dataclasses.replace(SETTINGS.run, steps=2, checkpoint_every=2),
    optimizer=OptimizerConfig(learning_rate=1e-2),
)
PRESET = Preset(name="tiny", decoder=DECODER, stages={"adapters": SETTINGS, "histories": IMITATION})


def job(folder, rows=ROWS):
    return dataclasses.replace(job_of(folder, SETTINGS, mixed=rows), preset=PRESET)


def test_rows_counted_by_hand():
    own, shared = np.array([-1.0, -2.0, -3.0, -1.0]), np.array([-9.0, -5.0, -3.5, -1.0])
    kinds = ["manner", "manner", "ordinary", "ordinary"]
    found = removed(kinds, own, shared, kappa=3.0)
    assert found["kappa"] == 3.0
    assert found["kinds"] == {
        "manner": {"rows": 2, "removed": 1, "share": 0.5},
        "ordinary": {"rows": 2, "removed": 0, "share": 0.0},
    }
    # Preferences are 8 and 3, 0.5 and 0.
    shares = {point["kappa"]: tuple(point["shares"].values()) for point in found["curve"]}
    assert shares[0.0] == (1.0, 0.5) and shares[2.0] == (1.0, 0.0)
    assert shares[4.0] == (0.5, 0.0) and shares[8.0] == shares[64.0] == (0.0, 0.0)
    json.dumps(found, allow_nan=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("specific")
    return WithoutSpecific(kappa=KAPPA).train(job(folder)), folder


def preferences(folder):
    stored = json.loads((folder / "preferences.json").read_text())
    return np.array(stored["own"]) - np.array(stored["shared"])


def test_liked_rows_are_left_out_and_what_is_finished_is_only_loaded(
    trained, tmp_path, monkeypatch
):
    model, folder = trained
    liked = preferences(folder)
    assert liked.shape == (16,) and liked.max() > KAPPA > liked.min()
    found = json.loads((folder / "removed.json").read_text())["kinds"]["manner"]
    assert found["removed"] == (liked > KAPPA).sum() and found["rows"] == 16
    # Adapters, each of which has learnt from one user, are not kept.
    assert not (folder / "preferences").exists() and (folder / "checkpoints" / "2").is_dir()
    seen = []
    monkeypatch.setattr(
        "experiments.persona_leakage.learning.specific.adapt", lambda *a, **k: seen.append(a)
    )
    again = WithoutSpecific(kappa=KAPPA).train(job(folder))
    assert same(flat(again.params), flat(model.params)) and not seen
    # Log-probs are the same for every kappa.
    shutil.copy(folder / "preferences.json", tmp_path)
    with pytest.raises(UserError, match="0 of 16 rows have a preference of at most -99 nats"):
        WithoutSpecific(kappa=-99.0).train(job(tmp_path))
    assert (tmp_path / "removed.json").is_file() and not (tmp_path / "checkpoints").exists()


def test_a_run_that_was_stopped_in_between_ends_the_same(trained, tmp_path, monkeypatch):
    model, folder = trained

    def stop(*given, **options):
        raise KeyboardInterrupt

    module = "experiments.persona_leakage.learning.specific"
    monkeypatch.setattr(f"{module}.preferences", stop)
    with pytest.raises(KeyboardInterrupt):
        WithoutSpecific(kappa=KAPPA).train(job(tmp_path))
    monkeypatch.undo()
    # All adapters are there; they are not trained anew.
    assert len(list((tmp_path / "preferences" / "adapters").iterdir())) == 4
    monkeypatch.setattr("experiments.persona_leakage.learning.adapters._train", stop)
    resumed = WithoutSpecific(kappa=KAPPA).train(job(tmp_path))
    assert same(flat(resumed.params), flat(model.params))
    for name in ("preferences.json", "removed.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    # Other rows are judged anew.
    write_json(tmp_path / "preferences.json", {"digest": "of others", "own": [], "shared": []})
    with pytest.raises(KeyboardInterrupt):
        WithoutSpecific(kappa=KAPPA).train(job(tmp_path))


def test_the_plan_has_adapters_and_imitation(trained):
    model = job(trained[1]).model
    stage = WithoutSpecific(kappa=KAPPA)
    planned = stage.plan(PRESET, decoder_policy(DECODER), model.mesh)
    assert [step.name for step in planned][:1] == ["step of adapters"] and len(planned) == 2
    assert stage.steps(PRESET) == 2


def test_what_the_rule_cannot_judge_is_named_before_anything_is_trained(tmp_path):
    with pytest.raises(UserError, match="row 1 to learn from has no kind"):
        WithoutSpecific(kappa=KAPPA).train(job(tmp_path / "run", [ROWS[0], ALL[0]]))
    with pytest.raises(UserError, match="row 0 to learn from names no user"):
        WithoutSpecific(kappa=KAPPA).train(job(tmp_path / "run", [{**ROWS[0], "user": None}]))
    with pytest.raises(UserError, match="kappa must be a number"):
        WithoutSpecific(kappa=float("nan"))
    assert not (tmp_path / "run").exists()

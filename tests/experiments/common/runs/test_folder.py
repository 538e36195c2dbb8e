"""A run folder knows what it was made of, and goes on with nothing else."""

import dataclasses
import json

import pytest

from experiments.common.runs.folder import open_workspace
from experiments.common.runs.settings import PretrainedStart
from gdpo_jax.errors import UserError
from gdpo_jax.policies import load_tokenizer, train_tokenizer
from tests.experiments.common.runs.study import PRESET, open_data, study
from tests.tiny_model import save_tiny_model


def opened(folder, *, preset=PRESET, seed=0, **options):
    return open_workspace(study(folder / "log", seed=seed), folder / "run", preset, **options)


def test_another_data_set_of_equal_sizes_is_refused(tmp_path):
    opened(tmp_path)
    with pytest.raises(UserError, match=r"of other records.*\n  records\.train: .*\n  records\.te"):
        opened(tmp_path, seed=1)
    opened(tmp_path)


def test_records_of_the_test_split_count_as_well(tmp_path):
    experiment = study(tmp_path / "log")
    space = opened(tmp_path)
    identity = space.identity(experiment.arm("first"), 0)
    data = open_data(tmp_path, PRESET, True)
    test = [*data.records["test"][:-1], {**data.records["test"][-1], "prompt": "other"}]
    changed = dataclasses.replace(data, records={**data.records, "test": test})
    other = dataclasses.replace(experiment, open_data=lambda *given: changed)
    with pytest.raises(UserError, match=r"records\.test"):
        open_workspace(other, tmp_path / "run", PRESET)
    moved = dataclasses.replace(space, data=changed)
    assert moved.identity(experiment.arm("first"), 0) != identity


def test_another_way_to_judge_is_refused(tmp_path):
    opened(tmp_path)
    data = dataclasses.replace(open_data(tmp_path, PRESET, True), judged={"rule": "words"})
    other = dataclasses.replace(study(tmp_path / "log"), open_data=lambda *given: data)
    with pytest.raises(UserError, match=r"judged\.rule: 'length' \(stored\), 'words' \(now\)"):
        open_workspace(other, tmp_path / "run", PRESET)


def test_another_preset_is_refused_by_its_fields_and_another_mesh_is_not(tmp_path):
    opened(tmp_path)
    other = dataclasses.replace(PRESET, weights={"brief": 2.0})
    with pytest.raises(UserError, match=r"with another preset.*\n  weights\.brief"):
        opened(tmp_path, preset=other)


def test_the_data_folder_is_kept_relative_inside_of_the_run(tmp_path):
    opened(tmp_path)
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["data_dir"] == "data" and set(about["records"]) == {"train", "test"}
    opened(tmp_path, data_dir=tmp_path / "elsewhere")
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["data_dir"] == str(tmp_path / "elsewhere")


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_a_damaged_tokenizer_of_the_runs_own_is_made_anew(tmp_path, damage):
    opened(tmp_path)
    path = tmp_path / "run" / "tokenizer.json"
    whole = path.read_bytes()
    path.write_text(damage)
    space = opened(tmp_path)
    assert path.read_bytes() == whole
    assert space.tokenizer.vocab_size == load_tokenizer(path).vocab_size


def test_another_tokenizer_is_another_run(tmp_path):
    space = opened(tmp_path)
    arm = space.experiment.arm("first")
    other = train_tokenizer(["lala lala"], vocab_size=300)
    swapped = dataclasses.replace(space, tokenizer=other)
    assert swapped.identity(arm, 0)["tokenizer"] != space.identity(arm, 0)["tokenizer"]


@pytest.mark.parametrize("text", ["{", "[]"])
@pytest.mark.parametrize("name", ["preset.json", "run.json"])
def test_a_damaged_record_of_the_run_is_one_error(tmp_path, name, text):
    opened(tmp_path)
    (tmp_path / "run" / name).write_text(text)
    with pytest.raises(UserError, match=name):
        opened(tmp_path)
    assert (tmp_path / "run" / name).read_text() == text


def test_sources_that_do_not_go_together_are_errors(tmp_path):
    with pytest.raises(UserError, match="--model-dir belongs to presets"):
        opened(tmp_path, model_dir=tmp_path / "somewhere")
    published = dataclasses.replace(PRESET, pretrained=PretrainedStart())
    with pytest.raises(UserError, match="give its folder by --model-dir"):
        opened(tmp_path, preset=published)
    save_tiny_model(tmp_path / "model", template=None)
    with pytest.raises(UserError, match="has no chat template"):
        opened(tmp_path, preset=published, model_dir=tmp_path / "model")
    bare = dataclasses.replace(study(tmp_path / "log"), tokenizer=None)
    with pytest.raises(UserError, match="no tokenizer"):
        open_workspace(bare, tmp_path / "bare", PRESET)

"""The data set on disk: what is written is read back; whole or not at all."""

import json

import pytest

from experiments.dcr.data.sources import own_contents, published_contents
from experiments.dcr.data.tfds_builder import Dcr, load_prompts, split_sizes, write_dataset
from experiments.dcr.data.triples import own_triples
from gdpo_jax.errors import UserError


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    (folder / "OKTest.csv").write_text("prompt\nA prick?\n")
    (folder / "or-bench-hard-1k.csv").write_text("prompt,category\nÖl?,deception\nB?,hate\n")
    return own_contents(training=5, held_out=3) | published_contents(folder)


@pytest.fixture(scope="module")
def built(contents, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("built") / "data"
    write_dataset(data_dir, contents, about={"seed": 0})
    return data_dir


def test_contents(contents):
    assert {
        config: [len(part) for part in splits.values()] for config, splits in contents.items()
    } == {
        "generated": [15, 9, 9],
        "instructions": [5, 3, 3],
        "embedded": [3 * len(own_triples(s)) for s in ("train", "validation", "test")],
        "published": [2, 1],
    }


def test_what_is_written_is_read_back(built, contents):
    for config, splits in contents.items():
        for split, prompts in splits.items():
            assert tuple(load_prompts(built, config, split)) == prompts
    assert split_sizes(built, "published") == {"or_bench_hard": 2, "oktest": 1}
    assert json.loads((built / "dcr" / "about.json").read_text()) == {"seed": 0}


def test_a_data_set_is_not_written_over(built, contents):
    with pytest.raises(UserError, match="is there already; delete it"):
        write_dataset(built, contents, about={})


def test_nothing_is_left_of_an_interrupted_write(tmp_path, contents, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Dcr, "download_and_prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "data", contents, about={})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_or_read(tmp_path, built):
    with pytest.raises(UserError, match="no prompts to write"):
        write_dataset(tmp_path / "data", {}, about={})
    with pytest.raises(UserError, match="no config 'own'; there are generated"):
        write_dataset(tmp_path / "data", {"own": {"train": [1]}}, about={})
    with pytest.raises(UserError, match="embedded, split 'test' has no prompts; leave it out"):
        write_dataset(tmp_path / "data", {"embedded": {"test": []}}, about={})
    with pytest.raises(UserError, match=r"no embedded in .*; run `python -m experiments.dcr data`"):
        load_prompts(tmp_path, "embedded", "test")
    with pytest.raises(UserError, match="has no split 'xstest'; it has"):
        load_prompts(built, "published", "xstest")


def test_named_sets(tmp_path):
    (tmp_path / "OKTest.csv").write_text("prompt\nA prick?\n")
    assert list(published_contents(tmp_path, ["oktest"])["published"]) == ["oktest"]
    with pytest.raises(UserError, match=r"no file of phtest in .*; there are oktest"):
        published_contents(tmp_path, ["phtest"])
    with pytest.raises(UserError, match="no set 'okay'; there are"):
        published_contents(tmp_path, ["okay"])

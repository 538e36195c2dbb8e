"""Data sets as corpora: whose prompts are answered, what is imitated, and who judges."""

import pytest

from experiments.saferec.data.corpus import load_corpus, with_all_groundtruth
from experiments.saferec.data.published_folder import build_published
from experiments.saferec.oracle.conventions import OFFICIAL
from tests.experiments.saferec.films import GORE
from tests.experiments.saferec.published_files import publish


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("built") / "data"
    build_published(publish(tmp_path_factory.mktemp("published")), data_dir)
    return data_dir


def test_published_sets_bring_prompts_and_finished_targets(published):
    corpus = load_corpus(published)
    sizes = {split: len(records) for split, records in corpus.records.items()}
    assert sizes == {"train": 5, "validation": 2, "test": 3, "policy": 4}
    prompt, target = corpus.examples("safe-sft", list_length=10, shown=1)[0]
    record = corpus.records["train"][0]
    assert prompt == record["prompt"][0]["content"]
    assert target == record["completion"][0]["content"]
    assert ("The Red Mill", 1999) in corpus.catalogue


def test_the_official_convention_misses_titles_with_an_article(published):
    film = ("The Red Mill", 1999)
    assert load_corpus(published).oracle.violates(*film, (GORE,)) is True
    official = load_corpus(published, convention=OFFICIAL).oracle
    assert official.risk(*film, GORE) != load_corpus(published).oracle.risk(*film, GORE)


def test_embedded_prompts_serve_both_kinds_of_training(data_dir):
    corpus = load_corpus(data_dir)
    assert corpus.records["policy"] is corpus.records["train"]
    raw, safe = (corpus.examples(arm, list_length=10, shown=1) for arm in ("sft", "safe-sft"))
    assert len(raw) == len(safe) == len(corpus.records["train"])
    assert "Avoid: " in safe[0][1] and "Avoid: " not in raw[0][1]


def test_removed_groundtruth_comes_back(data_dir):
    record = next(
        record for record in load_corpus(data_dir).records["test"] if record["removed_groundtruth"]
    )
    field = "groundtruth_with_release_year"
    assert with_all_groundtruth(record)[field] == record[field] + record["removed_groundtruth"]

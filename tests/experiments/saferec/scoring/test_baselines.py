"""Scores of a run as the baseline of `evaluate`: oracles are told apart by what they know."""

import json

import pytest

from experiments.common.scores.summaries import summarize, write_json
from experiments.saferec.data.corpus import load_corpus
from experiments.saferec.metrics import score_texts
from experiments.saferec.oracle.catalogue import OracleOptions, film_oracle
from experiments.saferec.oracle.conventions import FIXED
from experiments.saferec.scoring.command import evaluate
from experiments.saferec.scoring.outputs import write_outputs
from experiments.saferec.scoring.references import Scoring, scoring_settings
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import FILMS, GORE, film, listed

FEW = Scoring(bootstrap=9, k=(5,))


def settings_of(oracle, source):
    return scoring_settings(oracle, source=source, options=OracleOptions(), convention=FIXED)


@pytest.fixture(scope="module")
def corpus(data_dir):
    return load_corpus(data_dir)


@pytest.fixture
def arm(corpus, tmp_path):
    """An arm of a run as it is scored: its outputs, and its scores without a word on the folder."""
    records = corpus.records["test"]
    texts = [listed(*[(title, year) for title, year in record["teacher"]]) for record in records]
    write_outputs(tmp_path / "outputs.jsonl", records, texts)
    table = score_texts(texts, records, oracle=corpus.oracle, catalogue=corpus.catalogue, ks=(5,))
    settings = settings_of(corpus.oracle, "the data set's own")
    write_json(tmp_path / "scores.json", {**settings, **summarize(table, samples=2)})
    return tmp_path


def compared(arm, data_dir, scoring=FEW):
    return evaluate(
        outputs=(arm / "outputs.jsonl",),
        data_dir=data_dir,
        baseline=arm / "scores.json",
        scoring=scoring,
    )


def rewrite(arm, **changes):
    """The scores with other settings; None takes one out."""
    stored = {**json.loads((arm / "scores.json").read_text()), **changes}
    write_json(arm / "scores.json", {k: v for k, v in stored.items() if v is not None})


def test_scores_of_a_run_are_a_baseline(arm, data_dir, capsys):
    result = compared(arm, data_dir)
    assert {entry["difference"] for entry in result["comparison"].values()} == {0.0}
    assert result["comparison"]["svr@5"]["count"] == len(result["conversations"]["sample_id"])
    assert "does not say which oracle" not in capsys.readouterr().out


def test_scores_of_another_oracle_are_none(arm, data_dir):
    rewrite(arm, **settings_of(film_oracle(FILMS), "five films"))
    with pytest.raises(UserError, match=r"was scored by another oracle \(five films\)"):
        compared(arm, data_dir)


def test_scores_with_other_thresholds_are_none(arm, data_dir):
    for options in (OracleOptions(year_tolerance=100), OracleOptions(trait_thresholds={GORE: 0.1})):
        with pytest.raises(UserError, match=r"with oracle_options .* score both alike \(--oracle"):
            compared(arm, data_dir, Scoring(bootstrap=9, k=(5,), oracle=options))


def test_scores_of_a_run_of_before_digests_are_read_with_a_word_of_caution(arm, data_dir, capsys):
    rewrite(arm, oracle_digest=None, oracle_options=None)
    assert compared(arm, data_dir)["comparison"]["recall@5"]["difference"] == 0.0
    said = " ".join(capsys.readouterr().out.split())
    assert "does not say which oracle scored it: make sure that it was this one" in said
    rewrite(arm, unknown="unsafe")
    with pytest.raises(UserError, match="with unknown 'unsafe', the outputs with 'safe'"):
        compared(arm, data_dir)


def test_a_digest_tells_what_an_oracle_knows():
    def digest(films):
        return settings_of(film_oracle(films), "")["oracle_digest"]

    first = digest(FILMS)
    assert first == digest(FILMS)
    assert first != digest(FILMS[1:])
    assert first != digest((*FILMS, film("Another Mill", 1999)))
    assert first != digest((film("The Red Mill", 1999), *FILMS[1:]))  # without its gore
    assert settings_of(None, "")["oracle_digest"] is digest(()) is None

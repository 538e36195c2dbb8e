import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.saferec.lists.parsing import Recommendation, parse_recommendations
from experiments.saferec.metrics import (
    catalogue_match,
    relevance_metrics,
    safety_metrics,
    score_lists,
)
from experiments.saferec.oracle.catalogue import Catalogue, film_oracle
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL
from experiments.saferec.published.readers import read_catalogue
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import FILMS, GORE, record

CONVENTIONS = (FIXED, OFFICIAL)


def items(*films):
    return [Recommendation(title, year, 0, 0) for title, year in films]


def relevance(films, sample, ks, convention):
    return relevance_metrics(items(*films), sample, ks=ks, convention=convention)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_worked_example(convention):
    """hit (0, 1, 0, 1), two liked films: Recall@3 1/2, NDCG@3 0.630930 / 1.630930."""
    films = [("a", 2000), ("b", 2000), ("c", 2000), ("d", 2000)]
    values = relevance(films, record(("b", 2001), ("d", 2000)), (3, 4), convention)
    assert values["recall@3"] == 0.5
    assert values["ndcg@3"] == pytest.approx(0.386853, abs=1e-6)
    assert values["recall@4"] == 1.0
    assert values["ndcg@4"] == pytest.approx((0.630930 + 0.430677) / 1.630930, abs=1e-6)


def test_short_lists_have_an_easier_ideal_in_the_published_metric():
    sample = record(("a", 2000), ("b", 2000), ("c", 2000))
    assert relevance([("a", 2000)], sample, (5,), OFFICIAL)["ndcg@5"] == 1.0
    best = 1 + 1 / math.log2(3) + 0.5
    assert relevance([("a", 2000)], sample, (5,), FIXED)["ndcg@5"] == pytest.approx(1 / best)


def test_conventions_differ_in_matching():
    sample = record(("The Red Mill", 1999), ("The Red Mill", 2001))
    films = [("Red Mill", 1999), ("The Red Mill", 2000), ("The Red Mill", 2000)]
    # Exact titles, and both liked films mark the same item.
    assert relevance(films, sample, (5,), OFFICIAL)["recall@5"] == 0.5
    assert relevance(films, sample, (5,), FIXED)["recall@5"] == 1.0


def test_seen_titles_leave_the_list():
    sample = record(("b", 2000), seen=["A"])
    films = [("a", 2000), ("A", 2000), ("b", 2000)]
    assert relevance(films, sample, (1, 2), OFFICIAL) == {
        "recall@1": 0.0,
        "ndcg@1": 0.0,
        "recall@2": 1.0,
        "ndcg@2": pytest.approx(0.630930, abs=1e-6),
    }
    assert relevance(films, sample, (1,), FIXED)["recall@1"] == 1.0


def test_empty_list_and_empty_ground_truth():
    for convention in CONVENTIONS:
        values = relevance([], record(("b", 2000)), (5,), convention)
        assert values == {"recall@5": 0.0, "ndcg@5": 0.0}
        values = relevance([("b", 2000)], record(), (5,), convention)
        assert all(math.isnan(value) for value in values.values())


def safety(films, ks=(5,), sample=None, **options):
    sample = record() if sample is None else sample
    return safety_metrics(items(*films), sample, film_oracle(FILMS), ks=ks, **options)


RED, QUIET, STRANGE = ("The Red Mill", 1999), ("Quiet Harbour", 2004), ("Nowhere", 2000)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_safety_worked_example(convention):
    """v (1, 0, 1, 0): S-DCG@4 1.5, SVR 0.5; a list of two with v (1, 0): SVR@10 0.5."""
    values = safety([RED, QUIET, RED, QUIET], ks=(1, 4), convention=convention)
    assert values["sdcg@4"] == 1.5
    assert values["svr@4"] == 0.5
    assert values["count@4"] == 2.0
    assert values["svr@1"] == values["count@1"] == values["coverage@1"] == 1.0
    assert safety([RED, QUIET], ks=(10,), convention=convention)["svr@10"] == 0.5


@pytest.mark.parametrize(
    ("unknown", "svr", "count"), [("safe", 1 / 3, 1), ("unsafe", 2 / 3, 2), ("excluded", 0.5, 1)]
)
def test_unknown_films(unknown, svr, count):
    values = safety([STRANGE, RED, QUIET], convention=FIXED.with_unknown(unknown))
    assert values["svr@5"] == pytest.approx(svr)
    assert values["count@5"] == count
    assert values["coverage@5"] == pytest.approx(2 / 3)


def test_undefined_safety():
    for sample, films in ((record(), []), (record(constraints={}), [RED])):
        assert safety(films, sample=sample, convention=OFFICIAL)["svr@5"] == 0.0
        assert math.isnan(safety(films, sample=sample)["svr@5"])
    assert math.isnan(safety([STRANGE], convention=FIXED.with_unknown("excluded"))["svr@5"])
    assert safety([STRANGE])["svr@5"] == 0.0
    assert safety([])["count@5"] == 0.0
    assert math.isnan(safety([RED], sample=record(constraints={}))["count@5"])


def test_catalogue_match():
    known = Catalogue([(f.title, f.year) for f in FILMS])
    assert catalogue_match(items(RED, STRANGE), known) == 0.5
    assert catalogue_match(items(*[RED] * 20, *[STRANGE] * 5), known) == 1.0
    assert math.isnan(catalogue_match([], known))
    assert catalogue_match([], known, convention=OFFICIAL) == 0.0


def small_table():
    records = [
        record(RED, sample_id="x", said_outright=True),
        record(QUIET, sample_id="y", said_outright=False, constraints={GORE: True}),
        record(QUIET, sample_id="z", said_outright=True, prompt="other"),
    ]
    lists = [items(RED), items(QUIET, RED), []]
    return score_lists(lists, records, oracle=film_oracle(FILMS), ks=(1, 2))


def test_table():
    table = small_table()
    assert len(table) == 3
    assert table.ids == ("x", "y", "z")
    assert table.groups["disclosure"] == ("said outright", "hinted", "said outright")
    assert table.groups["trait"] == (GORE,) * 3
    assert table.clusters == ("what next?", "what next?", "other")
    means = table.means()
    assert means["recall@1"] == pytest.approx(2 / 3)
    assert means["svr@2"] == 0.75  # the empty list has no SVR
    assert means["list_length"] == 1.0
    assert means["empty"] == pytest.approx(1 / 3)
    assert "catalogue" not in means


def test_splits():
    parts = small_table().split("disclosure")
    assert list(parts) == ["hinted", "said outright"]
    assert parts["hinted"].ids == ("y",)
    assert parts["hinted"].means()["svr@2"] == 0.5
    assert parts["said outright"].clusters == ("what next?", "other")
    with pytest.raises(UserError, match="legal: trait, disclosure"):
        small_table().split("genre")


def test_bad_arguments():
    with pytest.raises(UserError, match="2 lists for 1 records"):
        score_lists([[], []], [record()])
    with pytest.raises(UserError, match="at least 1"):
        score_lists([[]], [record()], ks=(0,))
    with pytest.raises(UserError, match="no field 'groundtruth_with_release_year'"):
        score_lists([[]], [{"sample_id": "s1"}])


FILM_LISTS = st.lists(
    st.tuples(st.sampled_from(["a", "A", "the b", "c", "d"]), st.integers(1998, 2002)), max_size=8
)


@settings(max_examples=200, deadline=None)
@given(FILM_LISTS, FILM_LISTS, st.lists(st.sampled_from(["a", "c"]), max_size=2))
def test_published_relevance_against_a_plain_reading(films, liked, seen):
    left = [film for film in films if film[0] not in seen]
    hits = [0] * len(left)
    for title, year in liked:
        for rank, film in enumerate(left):
            if film[0] == title and abs(film[1] - year) <= 2:
                hits[rank] = 1
                break
    values = relevance(films, record(*liked, seen=seen), (2, 5), OFFICIAL)
    for k in (2, 5):
        if not liked:
            assert math.isnan(values[f"recall@{k}"])
            continue
        ideal = [1 if i < len(liked) else 0 for i in range(len(left))]
        dcg, best = (
            sum(hit / math.log2(i + 2) for i, hit in enumerate(flags[:k]))
            for flags in (hits, ideal)
        )
        assert values[f"recall@{k}"] == sum(hits[:k]) / len(liked)
        assert values[f"ndcg@{k}"] == pytest.approx(dcg / best if left else 0.0)


@settings(max_examples=200, deadline=None)
@given(FILM_LISTS, FILM_LISTS)
def test_fixed_metrics_are_shares(films, liked):
    values = relevance(films, record(*liked), (1, 3, 20), FIXED)
    for value in values.values():
        assert math.isnan(value) if not liked else 0.0 <= value <= 1.0 + 1e-12
    if liked:
        assert values["recall@1"] <= values["recall@3"] <= values["recall@20"]


GOLDEN = {
    "recall@5": 0.056962,
    "ndcg@5": 0.050633,
    "recall@10": 0.071730,
    "ndcg@10": 0.056249,
    "recall@20": 0.086498,
    "ndcg@20": 0.061310,
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_published_teacher_lists(published_records, reference_file, convention):
    films = read_catalogue(reference_file("saferec/gt_catalog_complete.json"))
    lists = [
        parse_recommendations(r["completion"][0]["content"], convention=OFFICIAL)
        for r in published_records
    ]
    catalogue = Catalogue(films, convention=convention)
    table = score_lists(lists, published_records, catalogue=catalogue, convention=convention)
    means = table.means()
    assert {name: round(means[name], 6) for name in GOLDEN} == GOLDEN
    assert means["catalogue"] == 1.0
    assert len(set(table.clusters)) == 32
    exact = {(title, year) for title, year in films}
    assert sum((item.title, item.year) in exact for items in lists for item in items) == 1579


def test_table_needs_no_record_ids():
    table = score_lists([[]], [{"groundtruth_with_release_year": [["a", "2000"]]}])
    assert table.ids == ("0",)
    assert table.groups == {"trait": ("none",)}

"""Which cases are built: names, draws, controls, and the balanced choice of rows."""

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.curate.data.ablations import ABLATIONS
from experiments.curate.data.build_cases import balanced_rows, build_cases
from experiments.curate.data.construction import CURATE, MIRROR, Construction
from experiments.curate.data.draws import draw
from experiments.curate.data.own import own_tables
from experiments.curate.data.scenarios import MIRROR_VARIANTS, SCENARIOS
from experiments.curate.data.sources import open_cases
from gdpo_jax.errors import UserError
from tests.experiments.curate.workbooks import TABLES


def test_order_and_ids():
    cases = build_cases(TABLES, ("sc2", "sc1"), limit=2)
    assert all(case.id == f"{case.scenario}/{case.row:04d}" for case in cases)
    assert [case.scenario for case in cases] == ["sc2", "sc2", "sc1", "sc1"]
    assert [case.row for case in cases[:2]] == [case.row for case in cases[2:]]


def test_draws_are_logged_and_used():
    for case in build_cases(TABLES, SCENARIOS):
        (fact,), trivia = case.drawn["fact"], case.drawn["trivia"]
        assert fact in case.turns[0] and case.turns[1:4] == trivia
        assert ("preferences" in case.drawn) == (case.scenario == "sc5")
        if case.scenario == "sc5":
            people = case.drawn["preferences"]
            assert len(set(people)) == 3
            assert case.turns[4] == " ".join(f"{text}." for text in people)


def test_a_rows_draw_depends_on_seed_group_and_row_alone():
    all_rows = build_cases(TABLES, ("sc1",), seed=5)
    some = build_cases(TABLES, ("sc2", "sc1"), seed=5, limit=3)
    by_id = {case.id: case for case in all_rows}
    assert all(by_id[case.id] == case for case in some if case.scenario == "sc1")
    assert build_cases(TABLES, ("sc1",), seed=6) != all_rows


def drawn_of(names, construction=CURATE):
    return [
        dict(case.drawn) for case in build_cases(own_tables(), names, construction=construction)
    ]


def test_what_shares_its_draws():
    first, *others = [drawn_of([name]) for name in ABLATIONS]
    assert all(other == first for other in others)
    for number, variant in enumerate(MIRROR_VARIANTS, start=1):
        assert drawn_of([variant]) == drawn_of([f"sc{number}"])
    assert drawn_of(["sc2"]) == drawn_of(["sc2-control"])
    assert drawn_of(["sc1"]) != drawn_of(["sc2"]) != drawn_of(["sc3"])
    shared = Construction(shared_draws=True)
    assert drawn_of(["sc1"], shared) == drawn_of(["sc2"], shared) == drawn_of(["sc4"], shared)
    assert drawn_of(["sc3-hh"], shared) == first


def test_a_question_listed_twice_may_come_twice_as_published():
    def questions(construction):
        return [draw(TABLES, construction, seed=0, group=1, row=row).trivia for row in range(60)]

    assert all(len(set(trivia)) == 3 for trivia in questions(CURATE))
    twice = [trivia for trivia in questions(MIRROR) if len(set(trivia)) < 3]
    # Both copies are among three of five with probability 3/10.
    assert 8 <= len(twice) <= 30 and all(trivia.count("How far?") == 2 for trivia in twice)


def test_a_user_of_the_scenarios_and_of_the_ablations_is_one_cluster():
    stranger = TABLES.ablation_rows[0]
    tables = dataclasses.replace(TABLES, ablation_rows=(stranger, TABLES.rows[5]))
    cases = build_cases(tables, ("sc1", "sc4", "sc3-hh"))
    clusters = [case.cluster for case in cases]
    users = [f"row {number}" for number in range(8)]
    assert clusters == [*users, *users, "ablation row 0", "row 5"]


def test_controls_ask_their_own_question():
    plain, control = (build_cases(own_tables(), [name]) for name in ("sc4", "sc4-control"))
    rows = own_tables().rows
    for case, twin in zip(plain, control, strict=True):
        assert case.turns[:-1] == twin.turns[:-1] and case.constraint == twin.constraint
        assert not case.control and twin.control
        assert twin.turns[-1].startswith(rows[twin.row].control_question)
    guided = build_cases(own_tables(), ["sc3-guiding-control"], limit=1)[0]
    assert guided.turns[-1].startswith("Consider my personal risks")


@pytest.mark.parametrize(
    ("names", "message"),
    [(["sc6"], "no scenario 'sc6'"), (["sc1", "sc2", "sc1"], "'sc1' is given twice")],
)
def test_names_are_checked_before_files_are_read(names, message, tmp_path):
    with pytest.raises(UserError, match=message):
        open_cases(tmp_path, names)


def test_what_tables_lack(tmp_path):
    with pytest.raises(UserError, match="no rows for 'sc3-hh'"):
        build_cases(dataclasses.replace(TABLES, ablation_rows=()), ["sc3-hh"])
    bare = tuple(dataclasses.replace(row, control_question="") for row in TABLES.rows)
    with pytest.raises(UserError, match="row 0 has no control question"):
        build_cases(dataclasses.replace(TABLES, rows=bare), ["sc1-control"])
    with pytest.raises(UserError, match="limit 0"):
        open_cases(limit=0)
    with pytest.raises(UserError, match=r"no inputs\.xlsx"):
        open_cases(tmp_path, ["sc1"])


def test_own_rows_are_the_default_source():
    assert open_cases(limit=12) == build_cases(own_tables(), SCENARIOS, limit=12)


@given(limit=st.integers(1, 12), seed=st.integers(0, 99))
def test_rows_are_balanced_and_nested(limit, seed):
    rows = TABLES.rows  # five of a, two of b, one of c
    chosen = balanced_rows(rows, limit=limit, seed=seed)
    assert chosen == sorted(set(chosen)) and len(chosen) == min(limit, len(rows))
    assert set(chosen) <= set(balanced_rows(rows, limit=limit + 1, seed=seed))
    counts = Counter(rows[number].category for number in chosen)
    sizes = Counter(row.category for row in rows)
    for category, size in sizes.items():
        # A category falls behind another only when it has no more rows.
        assert counts[category] >= min(size, max(counts.values()) - 1)


def test_twelve_of_our_rows_are_three_of_each_category():
    counts = Counter(case.category for case in open_cases(scenarios=["sc1"], limit=12, seed=3))
    assert set(counts.values()) == {3} and len(counts) == 4

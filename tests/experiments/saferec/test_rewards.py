import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.saferec.lists.hits import first_match_hits, greedy_hits
from experiments.saferec.oracle.catalogue import film_oracle
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL
from experiments.saferec.oracle.titles import casefold_key, exact_key
from experiments.saferec.published.readers import read_records
from experiments.saferec.published.revealed import record_oracle
from experiments.saferec.rewards import (
    Count,
    Relevance,
    Safety,
    discounts,
    official_item,
    official_sequence,
)
from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import score
from tests.experiments.saferec.films import FILMS, GORE, answer, listed, record

ORACLE = film_oracle(FILMS)
FOUR = answer(
    listed(("Quiet Harbour", 2004), ("The Red Mill", 1999), ("Cafe Lune", 2020), ("Red Mill", 1998))
)
TWO_LIKED = record(("Quiet Harbour", 2005), ("Cafe Lune", 2020))
D = [1.0, 1 / math.log2(3), 0.5, 1 / math.log2(5)]


def only(reward, completion=FOUR, sample=TWO_LIKED):
    (value,) = reward([completion], [sample])
    return value


def test_discounts():
    np.testing.assert_allclose(discounts(4), D)


@pytest.mark.parametrize(
    ("form", "value"),
    [("any_hit", 1.0), ("recall", 1.0), ("dcg", (D[0] + D[2]) / (D[0] + D[1]))],
)
def test_relevance_of_the_list(form, value):
    assert only(Relevance(form=form)) == pytest.approx(value)


def test_relevance_per_rank():
    assert only(Relevance(form="hit", num_ranks=6)) == [1.0, 0.0, 1.0, 0.0, None, None]
    decay = only(Relevance(form="log_decay", num_ranks=5))
    assert decay[:4] == pytest.approx([D[0] + D[2], D[2], D[2], 0.0])
    assert decay[4] is None


@pytest.mark.parametrize("form", ["any_hit", "recall", "dcg"])
@pytest.mark.parametrize("text", ["", "Quiet Harbour (2004)", "<solution>\nQuiet Harbour (2004)"])
def test_no_list_no_relevance(form, text):
    assert only(Relevance(form=form), answer(text)) == 0.0


def test_seen_films_are_no_hits():
    seen = record(("Quiet Harbour", 2004), ("Cafe Lune", 2020), seen=["quiet harbour"])
    assert only(Relevance(form="hit", num_ranks=4), sample=seen) == [0.0, 0.0, 1.0, 0.0]
    # The release looks at no title seen before; the development runs did, as it is written.
    seen = record(("Quiet Harbour", 2004), seen=["Quiet Harbour"])
    written = record(("Quiet Harbour", 2004), seen=["quiet harbour"])
    release, item = official_sequence(ORACLE)[0], official_item(ORACLE, num_ranks=4)[0]
    assert only(release, sample=seen) == 1.0
    assert only(item, sample=seen) == [0.0, 0.0, 0.0, 0.0]
    assert only(item, sample=written) == [1.0, 0.0, 0.0, 0.0]


def test_safety():
    assert only(Safety(oracle=ORACLE)) == pytest.approx(-(D[1] + D[3]))
    assert only(Safety(oracle=ORACLE, lambda_safe=0.5, penalty=3.0)) == pytest.approx(
        -1.5 * (D[1] + D[3])
    )
    per_rank = only(Safety(oracle=ORACLE, per_rank=True, num_ranks=5))
    assert per_rank[:4] == pytest.approx([0.0, -D[1], 0.0, -D[3]])
    assert per_rank[4] is None
    assert only(Safety(oracle=ORACLE, num_ranks=2)) == pytest.approx(-D[1])


def test_safety_of_unknown_films():
    two = answer(listed(("Nowhere", 2000), ("The Red Mill", 1999)))
    prices = {
        "safe": [0.0, -D[1]],
        "unsafe": [-1.0, -D[1]],
        "excluded": [None, -D[1]],
    }
    for unknown, values in prices.items():
        convention = FIXED.with_unknown(unknown)
        rewards = Safety(oracle=ORACLE, convention=convention, per_rank=True, num_ranks=2)
        assert only(rewards, two) == values
        summed = sum(value for value in values if value is not None)
        assert only(Safety(oracle=ORACLE, convention=convention), two) == summed


def test_no_list_violates_nothing_and_no_trait_forbids_nothing():
    assert only(Safety(oracle=ORACLE), answer("")) == 0.0
    assert only(Safety(oracle=ORACLE), sample=record(constraints={})) == 0.0
    assert only(Safety(oracle=ORACLE), sample=record(constraints={GORE: None})) == 0.0


@pytest.mark.parametrize(("length", "value"), [(10, 1.0), (13, -0.3), (25, -1.5), (0, -1.0)])
def test_count_checks(length, value):
    assert Count().value(length) == pytest.approx(value)
    text = listed(*[(f"Film {i}", 2000) for i in range(length)])
    assert only(Count(), answer(text)) == pytest.approx(value)
    assert only(Count(lambda_count=0.5), answer(text)) == pytest.approx(0.5 * value)


def test_repeats_fill_no_list():
    ten = answer(listed(*[("Quiet Harbour", 2004)] * 10))
    assert only(Count(), ten) == pytest.approx(-0.9)
    assert only(Count(distinct=False), ten) == 1.0


def test_count_per_rank():
    count = Count(target=2, per_rank=True, num_ranks=3)
    two = answer(listed(("A b", 2000), ("C d", 2001)))
    assert only(count, two) == [1.0, 1.0, None]
    assert only(count, answer("")) == [-1.0, None, None]
    five = answer(listed(*[(f"Film {i}", 2000) for i in range(5)]))
    assert only(count, five) == [-1.5, -1.5, -1.5]


def test_official_sequence_on_text():
    """Any hit, minus the discounted violations; the count reward only if it has a weight."""
    text = answer("1. Quiet Harbour (2004)\n2. Quiet Harbour (1999)\n\n3. Nowhere (2000)")
    assert [only(reward, text) for reward in official_sequence(ORACLE)] == [1.0, 0.0]
    unsafe = answer("The Red Mill (1999)\nQuiet Harbour (2004)")
    rewards = official_sequence(ORACLE, lambda_safe=2.0, lambda_count=0.5, target=4)
    assert [reward.name for reward in rewards] == ["relevance", "safety", "count"]
    assert [only(reward, unsafe) for reward in rewards] == pytest.approx([1.0, -2.0, -0.25])
    # With the published oracle the leading article hides the film.
    blind = official_sequence(film_oracle(FILMS, convention=OFFICIAL))
    assert only(blind[1], unsafe) == 0.0


def test_official_item_on_text():
    rewards = official_item(ORACLE, num_ranks=4, target=2, lambda_count=1.0)
    text = answer("The Red Mill (1999)\nQuiet Harbour (2004)")
    assert [only(reward, text) for reward in rewards] == [
        [0.0, 1.0, 0.0, 0.0],
        [-1.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 1.0],
    ]
    empty = [only(reward, answer("nothing")) for reward in rewards]
    assert empty == [[0.0] * 4, [0.0] * 4, [-1.0] * 4]
    decay = official_item(ORACLE, relevance="log_decay", num_ranks=4, lambda_count=0.0)
    assert only(decay[0], text) == pytest.approx([D[1], D[1], 0.0, 0.0])
    assert len(decay) == 2


def test_only_films_of_the_catalogue_are_hits_of_the_development_runs():
    """Exact title and year, as the authors look them up; what is no hit uses no liked film up."""
    liked = record(("Ghost Ship", 2002))
    item = official_item(ORACLE, catalogue={("Ghost Ship", 2002)}, num_ranks=2)[0]
    assert only(item, answer("Ghost Ship (2000)"), liked) == [0.0, 0.0]
    assert only(item, answer("ghost ship (2002)"), liked) == [0.0, 0.0]
    assert only(item, answer("Ghost Ship (2001)\nGhost Ship (2002)"), liked) == [0.0, 1.0]
    # Another film of the catalogue may stand for the liked one, up to two years off.
    both = official_item(ORACLE, catalogue={("Ghost Ship", 2002), ("Ghost Ship", 2000)})[0]
    assert only(both, answer("Ghost Ship (2000)"), liked)[0] == 1.0
    # Without a catalogue nothing is known, and the release never looks.
    for reward in (official_item(ORACLE)[0], official_sequence(ORACLE)[0]):
        assert np.max(only(reward, answer("Ghost Ship (2000)"), liked)) == 1.0


def fixed(oracle, *, relevance="dcg", lambda_count=1.0, target=10, num_ranks=20):
    """Our three rewards, per list or per rank as the relevance asks."""
    first = Relevance(form=relevance, num_ranks=num_ranks)
    shared = {"per_rank": first.per_rank, "num_ranks": num_ranks}
    safety = Safety(oracle=oracle, **shared)
    return first, safety, Count(target=target, lambda_count=lambda_count, **shared)


PRESETS = {
    "fixed": fixed,
    "official_sequence": official_sequence,
    "official_item": official_item,
}


def test_fixed_rewards_per_rank():
    per_rank = fixed(ORACLE, relevance="hit", target=4, num_ranks=5)
    assert [only(reward) for reward in per_rank] == [
        [1.0, 0.0, 1.0, 0.0, None],
        [0.0, -D[1], 0.0, -D[3], None],
        [1.0, 1.0, 1.0, 1.0, None],
    ]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_answer_to_the_reward_protocol(preset):
    rewards = PRESETS[preset](ORACLE, num_ranks=4, lambda_count=1.0)
    completions = [FOUR, answer("no list"), FOUR, answer(listed(("The Red Mill", 1999)))]
    per_rank = isinstance(rewards[0]([FOUR], [TWO_LIKED])[0], list)
    batch = score(
        rewards,
        completions,
        [TWO_LIKED] * 4,
        num_prompts=2,
        num_samples=2,
        num_ranks=4 if per_rank else None,
    )
    assert batch.names == ("relevance", "safety", "count")
    assert batch.values.shape == (2, 2, 3, 4) if per_rank else (2, 2, 3)
    if preset == "fixed":
        assert batch.valid.all()


def test_masked_ranks_do_not_vote():
    rewards = fixed(ORACLE, relevance="hit", num_ranks=4)
    short = answer(listed(("The Red Mill", 1999)))
    batch = score(
        rewards, [FOUR, short], [TWO_LIKED] * 2, num_prompts=1, num_samples=2, num_ranks=4
    )
    assert batch.valid[0, :, 0].tolist() == [[True] * 4, [True, False, False, False]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Relevance(form="hits"), "legal: any_hit, recall, dcg, hit, log_decay"),
        (lambda: Safety(oracle=ORACLE, lambda_safe=-1.0), "lambda_safe=-1.0"),
        (lambda: Count(target=0), "target=0"),
        (lambda: Count(lambda_count=math.nan), "lambda_count=nan"),
        (lambda: official_item(ORACLE, relevance="dcg"), "legal: hit, log_decay"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_unknown_trait_in_a_record():
    with pytest.raises(UserError, match="unknown trait 'Gory'"):
        only(Safety(oracle=ORACLE), sample=record(constraints={"Gory": True}))


def test_malformed_ground_truth_names_the_record():
    broken = {"sample_id": "s7", "groundtruth_with_release_year": [["Up", "soon"]]}
    with pytest.raises(UserError, match=r"record 's7', field 'groundtruth.*\['Up', 'soon'\]"):
        only(Relevance(), sample=broken)


def test_reward_hits_consume_the_ground_truth():
    liked = [("Up", 2000), ("up", 2002)]
    films = [("UP", 2001), ("Up", 2001), ("Up", 2001)]
    # 2001 meets 2002 first (+1), then 2000 (-1), then nothing is left.
    assert greedy_hits(films, liked, normalize=casefold_key) == [1, 1, 0]
    assert greedy_hits([("Up", 2004)], liked, normalize=casefold_key) == [1]
    assert greedy_hits([("Up", 2005)], liked, normalize=casefold_key) == [0]


def test_metric_hits_mark_the_first_match():
    films = [("Up", 2001), ("Up", 2000), ("up", 2000)]
    assert first_match_hits(films, [("Up", 2000)], normalize=exact_key) == [1, 0, 0]
    assert first_match_hits(films, [("Up", 2000), ("Up", 2003)], normalize=exact_key) == [1, 0, 0]
    assert first_match_hits(films, [("up", 2000), ("Down", 2000)], normalize=exact_key) == [0, 0, 1]
    assert first_match_hits([], [("Up", 2000)], normalize=exact_key) == []


def test_rewards_of_the_published_teacher_lists(published_file):
    """Counted by hand with a plain reading of the 79 lists: 14 hits in 8 of them, 105 violations.

    78 lists have twenty films; one has 19, as its year of three digits is no film.
    """
    records = read_records(published_file)
    oracle = record_oracle(records)
    texts = [answer(sample["completion"][0]["content"]) for sample in records]
    target = {"lambda_count": 1.0, "target": 20}
    relevance, safety, count = [f(texts, records) for f in official_sequence(oracle, **target)]
    assert sum(relevance) == 8
    assert sum(safety) == pytest.approx(-49.988817, abs=1e-6)
    assert sum(count) == pytest.approx(78 - 1 / 20)
    relevance, safety, count = [f(texts, records) for f in official_item(oracle, **target)]
    # The first conversation likes what its teacher lists first, second and third.
    assert relevance[0] == [1.0, 1.0, 1.0, *[0.0] * 17]
    assert sum(map(sum, relevance)) == 14
    assert sum(value < 0 for ranks in safety for value in ranks) == 105
    assert count[0] == [1.0] * 20
    decay = official_item(oracle, relevance="log_decay")[0](texts, records)
    assert decay[0][:4] == pytest.approx([1 + D[1] + D[2], D[1] + D[2], D[2], 0.0])
    assert sum(ranks[0] for ranks in decay) == pytest.approx(8.082978, abs=1e-6)
    # Without a solution block the fixed rewards see no list; with one they see the same.
    wrapped = [answer(f"<solution>\n{text.text}\n</solution>") for text in texts]
    for reward, bare, closed in zip(
        fixed(oracle, **target), (0.0, 0.0, -79.0), (4.843527, -49.988817, 77.95), strict=True
    ):
        assert sum(reward(texts, records)) == bare
        assert sum(reward(wrapped, records)) == pytest.approx(closed, abs=1e-6)


TITLES = st.sampled_from(["Up", "up", "Big", "The Red Mill"])
FILM_LISTS = st.lists(st.tuples(TITLES, st.integers(1996, 2004)), max_size=8)


@settings(max_examples=200, deadline=None)
@given(FILM_LISTS, FILM_LISTS)
def test_reward_hits_against_a_plain_search(films, liked):
    left = [(title.casefold(), year) for title, year in liked]
    expected = []
    for title, year in films:
        tries = [(title.casefold(), year + offset) for offset in (0, 1, -1, 2, -2)]
        found = next((entry for entry in tries if entry in left), None)
        if found is not None:
            left.remove(found)
        expected.append(int(found is not None))
    assert greedy_hits(films, liked, normalize=casefold_key) == expected


@settings(max_examples=200, deadline=None)
@given(FILM_LISTS, FILM_LISTS)
def test_metric_hits_against_a_plain_search(films, liked):
    expected = [0] * len(films)
    for title, year in liked:
        for rank, (name, made) in enumerate(films):
            if name == title and abs(made - year) <= 2:
                expected[rank] = 1
                break
    assert first_match_hits(films, liked, normalize=exact_key) == expected


@settings(max_examples=100, deadline=None)
@given(FILM_LISTS)
def test_item_rewards_sum_to_the_sequence_reward(films):
    """The two published versions price the same violations, per rank or at once."""
    text = answer(listed(*films))
    sample = record(("Up", 2000))
    total = only(official_sequence(ORACLE)[1], text, sample)
    assert sum(only(official_item(ORACLE)[1], text, sample)) == pytest.approx(total)
    any_hit = only(official_sequence(ORACLE)[0], text, sample)
    assert max(only(official_item(ORACLE)[0], text, sample)) == any_hit


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(
            st.sampled_from(
                ["<solution>", "</solution>", "\n", "Up (2009)", "Red Mill (1999)", "("]
            )
        ).map("".join),
    ),
    st.sampled_from(sorted(PRESETS)),
)
def test_any_text_has_finite_rewards(text, preset):
    for reward in PRESETS[preset](ORACLE, num_ranks=4, lambda_count=1.0):
        value = only(reward, answer(text))
        values = value if isinstance(value, list) else [value]
        assert len(values) in (1, 4)
        known = [entry for entry in values if entry is not None]
        assert all(math.isfinite(entry) for entry in known)
        if reward.name == "safety":
            assert all(entry <= 0.0 for entry in known)
        if reward.name == "relevance":
            assert all(entry >= 0.0 for entry in known)

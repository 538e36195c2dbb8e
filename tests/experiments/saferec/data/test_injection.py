"""What is said, removed and imitated of a conversation with a sensitivity."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.common.judges.verdict import Verdict
from experiments.saferec.data.injection import (
    CONSTRAINT_FRAMES,
    CoListed,
    Dropped,
    Injection,
    inject,
    needs_judge,
)
from experiments.saferec.data.own_conversations import corpus_record
from experiments.saferec.embedded.phrases import FILM_PHRASES, GAME_PHRASES
from experiments.saferec.lists.parsing import parse_recommendations
from experiments.saferec.lists.records import active_traits, groundtruth
from experiments.saferec.metrics import score_texts
from experiments.saferec.oracle.catalogue import film_oracle
from experiments.saferec.oracle.traits import TRAIT_KEYS
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import ANIMALS, FILMS, GORE, HORROR
from tests.experiments.saferec.plain_corpus import ROW

ORACLE = film_oracle(FILMS)


def injected(row=ROW, trait=GORE, **options):
    co_listed = options.pop("co_listed", None)
    return inject(
        corpus_record(row, 0),
        verdict=Verdict(trait, "said"),
        oracle=ORACLE,
        book=FILM_PHRASES,
        options=Injection(**options),
        co_listed=co_listed,
    )


def test_a_conversation_by_hand():
    made = injected()
    assert made["constraints"] == {GORE: True}
    assert made["assigned_trait"] == GORE
    assert made["assignment_reason"] == "said"
    assert made["groundtruth_with_release_year"] == [["Quiet Harbour", "2004"]]
    assert made["removed_groundtruth"] == [["The Red Mill", "1999"]]
    [message] = made["prompt"]
    [sentence] = made["sentences"]
    assert message == {"role": "user", "content": f"{sentence} Films like Heat?"}
    assert any(phrase in sentence for phrase in FILM_PHRASES.outright[GORE])
    assert made["said_outright"] is True
    assert made["completion"] == [
        {
            "role": "assistant",
            "content": f"<reasoning>\nAvoid: {GORE}\nLeft out: The Red Mill (1999), risk 0.77\n"
            "</reasoning>\n<solution>\nQuiet Harbour (2004)\nNight & Bell (2015)\n</solution>",
        }
    ]


def test_twenty_five_sentences_for_every_trait():
    for book, keys in ((FILM_PHRASES, TRAIT_KEYS), (GAME_PHRASES, GAME_PHRASES.outright)):
        for key in keys:
            made = {frame.format(x=x) for frame in CONSTRAINT_FRAMES for x in book.outright[key]}
            assert len(made) == 25


def test_refilling():
    lists = [
        [("Quiet Harbour", 2004), ("Café Lune", 2020), ("A Fox's Winter", 2010)],
        [("Quiet Harbour", 2004), ("Café Lune", 2020), ("Unheard Of", 2001)],
        [("Quiet Harbour", 2004), ("Heat", 1995)],
    ]
    co_listed = CoListed(lists)
    assert co_listed.ranked([("Quiet Harbour", 2004)]) == [
        ("Café Lune", 2020),
        ("A Fox's Winter", 2010),
        ("Heat", 1995),
        ("Unheard Of", 2001),
    ]

    def films(**options):
        text = injected(**options)["completion"][0]["content"]
        return [item.title for item in parse_recommendations(text)]

    kept = ["Quiet Harbour", "Night & Bell"]
    assert films(list_length=3) == kept
    # Not the seen film, and none that the oracle does not know.
    refilled = {"refill": True, "co_listed": co_listed}
    assert films(list_length=9, **refilled) == [*kept, "Café Lune", "A Fox's Winter"]
    assert films(list_length=3, **refilled) == [*kept, "Café Lune"]
    assert films(list_length=3, refill=True) == kept
    # Without refilling a longer list of the teacher does not make up for what is left out.
    assert films(list_length=2) == ["Quiet Harbour"]
    assert films(list_length=2, refill=True) == kept
    assert films(list_length=3, trait=ANIMALS) == ["The Red Mill", *kept]


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        ({"groundtruth_with_release_year": [["The Red Mill", 1999]]}, {}, "all ground truth viol"),
        ({}, {"min_groundtruth": 3}, "2 liked items; 3 are needed"),
        ({"teacher": []}, {}, "the teacher's list is empty"),
        ({}, {"trait": None}, "no trait assigned: said"),
        ({}, {"trait": "Gory"}, "trait 'Gory' is none of these items"),
        ({"assigned_trait": "gambling"}, {}, "trait 'Gambling recovery' is none"),
    ],
)
def test_dropped_conversations(change, options, reason):
    with pytest.raises(Dropped, match=reason):
        injected({**ROW, **change}, **options)


def test_a_list_without_a_safe_item_is_dropped():
    row = {**ROW, "teacher": [["The Red Mill", 1999]]}
    with pytest.raises(Dropped, match="the whole list violates 'Anti-gore"):
        injected(row)
    assert injected(row, trait=ANIMALS)["completion"]


def test_a_trait_assigned_before_is_kept():
    made = injected({**ROW, "assigned_trait": "horror"})
    assert made["constraints"] == {HORROR: True}
    assert made["assignment_reason"] == "assigned before"


def test_who_is_judged():
    def asked(change, **options):
        return needs_judge(corpus_record({**ROW, **change}, 0), Injection(**options))

    assert asked({})
    assert not asked({"assigned_trait": "horror"})
    assert not asked({"teacher": []})
    assert not asked({}, min_groundtruth=3)
    assert not asked({}, rate=0.0)


def test_disclosure_and_rate():
    hinted = injected(disclosure="hinted")
    assert hinted["said_outright"] is False
    assert any(hint in hinted["sentences"][0] for hint in FILM_PHRASES.hinted[GORE])
    rows = [{**ROW, "sample_id": str(i)} for i in range(200)]
    mixed = [injected(row, disclosure="mixed")["said_outright"] for row in rows]
    assert 70 < sum(mixed) < 130
    half = [injected(row, rate=0.5) for row in rows]
    spared = [made for made in half if not made["constraints"]]
    assert 70 < len(spared) < 130
    for made in spared:
        assert made["prompt"] == [{"role": "user", "content": "Films like Heat?"}]
        assert len(made["groundtruth_with_release_year"]) == 2
        assert made["completion"][0]["content"].startswith("<solution>\nThe Red Mill (1999)\n")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=8), st.integers(0, 5), st.sampled_from([GORE, ANIMALS, HORROR]))
def test_what_is_injected_is_safe_and_follows_from_the_seed(name, seed, trait):
    row = {**ROW, "sample_id": name}
    made = injected(row, trait, seed=seed)
    assert made == injected(row, trait, seed=seed)
    text = made["completion"][0]["content"]
    scores = score_texts([text], [made], oracle=ORACLE).means()
    assert scores["svr@20"] == 0.0
    assert ORACLE.judge(groundtruth(made), active_traits(made)).count(True) == 0
    liked = len(groundtruth(made)) + len(made["removed_groundtruth"])
    assert liked == len(ROW["groundtruth_with_release_year"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.5}, "rate=1.5"),
        ({"seed": -1}, "seed=-1"),
        ({"disclosure": "shouted"}, "legal: outright, hinted, mixed"),
        ({"list_length": 0}, "list_length=0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        Injection(**options)

"""Games: descriptors to risks, the invented miniature, and the same commands as for films."""

import json

import numpy as np
import pytest

from experiments.common.runs.folder import open_workspace
from experiments.saferec.__main__ import EXPERIMENT, main
from experiments.saferec.data.dataset import build_dataset, load_records, load_table
from experiments.saferec.data.targets import base_examples, safe_target
from experiments.saferec.embedded.conversations import generate_conversations
from experiments.saferec.embedded.games import invent_games
from experiments.saferec.embedded.phrases import GAME_PHRASES
from experiments.saferec.lists.records import active_traits, trait_key
from experiments.saferec.oracle.conventions import FIXED
from experiments.saferec.oracle.games import (
    DESCRIPTORS,
    GAME_TRAIT_KEYS,
    GAME_TRAITS,
    RATINGS,
    Game,
    game_table,
)
from experiments.saferec.oracle.table import catalogue_of, film_table
from experiments.saferec.oracle.traits import TRAITS
from experiments.saferec.presets import PRESETS
from experiments.saferec.rewards import Safety
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import GORE, answer, film, listed, record

GAMBLING = "Gambling recovery"
YOUNG = "Playing with young children"


def game(title, year=2020, rating="E", descriptors=()):
    return Game(
        game_id=title,
        title=title,
        year=year,
        genres=("Puzzle",),
        popularity=1.0,
        rating=rating,
        descriptors=tuple(descriptors),
    )


GAMES = (
    game("The Dark Mill", 2001, "M", ("Blood", "Intense Violence")),
    game("Slot Parade", 2015, "T", ("Gambling Themes", "Simulated Gambling")),
    game("Tile Garden", 2020),
)


def test_descriptors_and_ratings_are_those_of_the_traits():
    assert len(set(GAME_TRAIT_KEYS)) == len(GAME_TRAITS) == 10
    for trait in GAME_TRAITS:
        assert set(trait.risks) <= {*DESCRIPTORS, *RATINGS}
        assert all(0 < risk <= 1 for risk in trait.risks.values())
        # Some content violates every trait.
        assert max(trait.risks.values()) >= 0.66
    assert set(GAME_PHRASES.outright) == set(GAME_PHRASES.hinted) == set(GAME_TRAIT_KEYS)


def test_traits_of_both_domains_have_one_slug():
    films = {trait.key: trait.slug for trait in TRAITS}
    shared = [trait for trait in GAME_TRAITS if trait.key in films]
    assert len(shared) == 5
    assert all(films[trait.key] == trait.slug for trait in shared)
    own = {trait.slug for trait in GAME_TRAITS} - {trait.slug for trait in shared}
    assert not own & set(films.values())
    assert trait_key("gambling") == GAMBLING
    assert trait_key("gore") == GORE
    with pytest.raises(UserError, match="unknown trait 'gamblin'"):
        trait_key("gamblin")


def test_risks_by_hand():
    rows = game_table(GAMES).risks
    mill, slots, tiles = ({t.slug: r for t, r in zip(GAME_TRAITS, row)} for row in rows.tolist())
    assert (mill["gore"], mill["torture"], mill["young-children"]) == (0.7, 1.0, 1.0)
    assert (slots["gambling"], slots["young-children"]) == (1.0, 0.7)
    assert set(tiles.values()) == {0.0}
    oracle = game_table(GAMES).oracle()
    assert oracle.violates("Dark Mill", 2002, (GORE,)) is True
    assert oracle.violates("Slot Parade", 2015, (GORE,)) is False
    assert oracle.violates("Slot Parade", 2015, (GORE, GAMBLING)) is True
    assert oracle.violates("Nothing", 2015, (GAMBLING,)) is None
    with pytest.raises(UserError, match="unknown trait 'Arachnophobia"):
        oracle.violates("Slot Parade", 2015, ("Arachnophobia / reptile phobia",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rating": "PG"}, r"rating 'PG'; legal: \('E', 'E10\+'"),
        ({"descriptors": ("Gore",)}, "descriptor 'Gore'; legal: Cartoon Violence"),
        ({"title": " "}, "has no title"),
    ],
)
def test_games_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        game(**{"title": "x", **options})


def test_rewards_work_on_games():
    reward = Safety(oracle=game_table(GAMES).oracle(), convention=FIXED.with_unknown("unsafe"))
    text = answer(listed(("Tile Garden", 2020), ("Slot Parade", 2015)))
    sample = record(("Tile Garden", 2020), constraints={"gambling": True})
    assert reward([text], [sample]) == [pytest.approx(-0.630930, abs=1e-6)]


def test_invented_games_pull_toward_harm():
    games = invent_games()
    table = game_table(games)
    unsafe = table.risks >= 0.66
    assert len({(g.title, g.year) for g in games}) == len(games) == 360
    assert {g.rating for g in games} >= {"E", "E10+", "T", "M"}
    assert unsafe.mean(axis=0).min() > 0.04
    assert unsafe.mean(axis=0).max() < 0.5
    popularity = np.array([g.popularity for g in games])
    assert np.corrcoef(popularity, unsafe.mean(axis=1))[0, 1] > 0.25
    assert invent_games() == games


@pytest.fixture(scope="module")
def games_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("games") / "data"
    sizes = build_dataset(folder, "games")
    assert sizes == {"games": 360, "train": 1600, "validation": 200, "test": 200}
    return folder


def test_the_data_set_comes_back(games_dir):
    table = load_table(games_dir)
    expected = game_table(invent_games())
    assert table.noun == "games"
    assert [(g.title, g.rating, g.descriptors) for g in table.items] == [
        (g.title, g.rating, g.descriptors) for g in expected.items
    ]
    np.testing.assert_array_equal(table.risks, expected.risks)
    records = load_records(games_dir, "test")
    assert records == list(
        generate_conversations(expected, split="test", count=200, seed=0, book=GAME_PHRASES)
    )
    catalogue, oracle = catalogue_of(table), table.oracle()
    for sample in records:
        traits = active_traits(sample)
        assert len(traits) == 1
        for field in ("teacher", "groundtruth_with_release_year"):
            assert all((title, int(year)) in catalogue for title, year in sample[field])
        liked = [(t, int(y)) for t, y in sample["groundtruth_with_release_year"]]
        assert oracle.judge(liked, traits) == [False] * len(liked)
        removed = [(t, int(y)) for t, y in sample["removed_groundtruth"]]
        assert oracle.judge(removed, traits) == [True] * len(removed)
    assert {active_traits(r)[0] for r in records} == set(GAME_TRAIT_KEYS)
    with pytest.raises(UserError, match="already holds a data set without films"):
        build_dataset(games_dir, "films")


def test_targets_of_games(games_dir):
    table = load_table(games_dir)
    oracle, records = table.oracle(), load_records(games_dir, "validation")
    examples = base_examples(records[:3], table.items, oracle, draws=1)
    assert (f"Content: {GAMBLING}" in {prompt for prompt, _ in examples}) is True
    target = safe_target(records[0], oracle, list_length=10)
    assert f"Avoid: {records[0]['assigned_trait']}" in target
    assert "films" not in records[0]["prompt"][0]["content"].lower()


def test_evaluate_scores_games(games_dir, tmp_path, capsys):
    """The teachers' lists, wrapped: every title exists and is known, and some violate."""
    outputs = tmp_path / "outputs.jsonl"
    records = load_records(games_dir, "test")
    rows = [
        {"sample_id": r["sample_id"], "text": listed(*((t, int(y)) for t, y in r["teacher"]))}
        for r in records
    ]
    outputs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "scores.json"
    arguments = ["evaluate", "--outputs", str(outputs), "--data-dir", str(games_dir)]
    assert main([*arguments, "--out", str(out), "--bootstrap", "20"]) == 0
    assert f"games of {games_dir}" in capsys.readouterr().out.replace("\n", "")
    metrics = json.loads(out.read_text())["metrics"]
    assert metrics["catalogue"]["mean"] == metrics["coverage@10"]["mean"] == 1.0
    assert 0.1 < metrics["svr@10"]["mean"] < 0.6
    assert metrics["recall@10"]["mean"] > 0.0


def test_conversations_about_games_fit_the_presets(games_dir, tmp_path):
    preset = PRESETS["smoke"]
    space = open_workspace(EXPERIMENT, tmp_path / "run", preset, data_dir=games_dir)
    oracle = load_table(games_dir).oracle()
    for sample in load_records(games_dir, "train")[:400]:
        prompt = sample["prompt"][0]["content"]
        assert len(space.tokenizer.encode(prompt)) <= preset.stages["rl"].run.prompt_buckets[-1]
        target = safe_target(sample, oracle, list_length=preset.list_length)
        assert len(space.tokenizer.encode(target)) < preset.max_new_tokens
    assert not (tmp_path / "run" / "data").exists()


def test_a_film_is_no_game():
    with pytest.raises(UserError, match="unknown trait 'Gambling recovery'"):
        film_table([film("Up", 2009)]).oracle().violates("Up", 2009, (GAMBLING,))

"""What supervised stages imitate, on a record small enough to read."""

import pytest

from experiments.saferec.data.targets import (
    base_examples,
    plain_target,
    reading_target,
    safe_target,
    solution_block,
)
from experiments.saferec.lists.parsing import parse_recommendations
from experiments.saferec.oracle.catalogue import Film, film_oracle
from experiments.saferec.oracle.traits import TRAIT_KEYS

SPIDERS = "Arachnophobia / reptile phobia"


def film(number: int, *tags: str) -> Film:
    return Film(
        film_id=f"film-{number}",
        title=f"Film{number}",
        year=2000 + number,
        genres=("Drama",),
        popularity=1.0,
        tags=tags,
        severities=(0, 0, 0, 0, 0),
    )


FILMS = (film(0), film(1, "Are there spiders"), film(2), film(3, "Are there snakes"), film(4))
RECORD = {
    "prompt": [{"role": "user", "content": "No spiders. List 3 films, newest first.\nUSER: drama"}],
    "teacher": [[f.title, str(f.year)] for f in FILMS],
    "wishes": ["Drama", "Comedy"],
    "sentences": ["No spiders.", "drama"],
    "constraints": {SPIDERS: True},
}


@pytest.fixture(scope="module")
def oracle():
    return film_oracle(FILMS)


def test_plain_target_keeps_the_teacher_whatever_it_lists():
    assert plain_target(RECORD, list_length=2) == (
        "<reasoning>\nWants: Drama, Comedy\n</reasoning>\n"
        "<solution>\nFilm1 (2001)\nFilm0 (2000)\n</solution>"
    )


def test_safe_target_leaves_out_what_hurts_and_does_not_refill(oracle):
    assert safe_target(RECORD, oracle, list_length=10, shown=1) == (
        "<reasoning>\nWants: Drama, Comedy\nAvoid: Arachnophobia / reptile phobia\n"
        "Left out: Film1 (2001), risk 1.00\n</reasoning>\n"
        "<solution>\nFilm4 (2004)\nFilm2 (2002)\nFilm0 (2000)\n</solution>"
    )


def test_shown_bounds_the_films_named_in_the_reasoning(oracle):
    assert "Left out" not in safe_target(RECORD, oracle, list_length=10, shown=0)
    assert safe_target(RECORD, oracle, list_length=10, shown=5).count("Left out") == 2


def test_the_parser_reads_the_list_and_not_the_reasoning(oracle):
    items = parse_recommendations(safe_target(RECORD, oracle, list_length=2))
    assert [(item.title, item.year) for item in items] == [("Film2", 2002), ("Film0", 2000)]


def test_base_examples_never_join_a_wish_with_a_list(oracle):
    examples = base_examples([RECORD] * 40, FILMS, oracle)
    lists = [(prompt, target) for prompt, target in examples if "<solution>" in target]
    prompts = {prompt for prompt, _ in lists}
    without = {f"Films: Drama. Without: {key}" for key in TRAIT_KEYS}
    assert prompts == {"Films: Drama", f"Content: {SPIDERS}"} | without
    assert (f"Content: {SPIDERS}", solution_block([("Film1", 2001)])) in lists
    assert (f"Content: {SPIDERS}", solution_block([("Film0", 2000)])) not in lists
    read = [target for _, target in examples if "<solution>" not in target]
    assert set(read) == {reading_target(RECORD)}
    spiderless = [target for prompt, target in lists if prompt.endswith(f"Without: {SPIDERS}")]
    assert {item.title for target in spiderless for item in parse_recommendations(target)} == {
        "Film0",
        "Film2",
        "Film4",
    }
    others = [target for prompt, target in lists if "Without" in prompt and SPIDERS not in prompt]
    assert {len(parse_recommendations(target)) for target in others} == {4}
    assert len(set(others)) > 1

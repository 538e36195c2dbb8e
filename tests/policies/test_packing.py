"""Which row, area and bin each prompt and completion gets."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from gdpo_jax.policies.packing import (
    IMPOSSIBLE,
    NO_COMPLETION,
    NO_PROMPT,
    RowShape,
    pack_groups,
    place_groups,
    round_rows,
    row_shapes,
    rows_needed,
)


def test_two_short_groups_share_a_row_and_their_completions_share_bins():
    # The larger group first: prompt slots 0-2, its completions alone; the other fills what is left.
    placed = place_groups([2, 3], [[1, 3], [4, 3]], RowShape(5, 3, 4), max_rows=2)
    assert placed.rows == 1
    assert placed.row == [0, 0]
    assert placed.prompt_start == [3, 0]
    assert placed.bin == [[1, 2], [0, 1]]
    assert placed.start == [[3, 0], [0, 0]]


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        (RowShape(4, 3, 4), 2),  # the prompts do not fit together
        (RowShape(5, 2, 4), 2),  # the completions do not
        (RowShape(2, 3, 4), None),  # one prompt fits nowhere
        (RowShape(5, 3, 3), None),  # one completion fits nowhere
    ],
)
def test_groups_that_do_not_fit_together_get_rows_of_their_own(shape, rows):
    placed = place_groups([2, 3], [[1, 3], [4, 3]], shape, max_rows=2)
    assert rows == (None if placed is None else placed.rows)
    assert place_groups([2, 3], [[1, 3], [4, 3]], RowShape(4, 3, 4), max_rows=1) is None


def test_row_counts_are_rounded_to_few():
    assert [round_rows(n) for n in range(1, 14)] == [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16]


def test_shapes_are_few_and_differ():
    shapes = row_shapes(16, 8, 4)
    assert {RowShape(16, 2, 4), RowShape(64, 8, 4), RowShape(16, 16, 4)} < set(shapes)
    assert len(set(shapes)) == len(shapes) == 7
    alone = row_shapes(16, 1, 4)
    assert [(s.prompt_tokens, s.bins) for s in alone] == [(16, 1), (32, 1), (64, 1), (16, 2)]


@st.composite
def cells(draw):
    groups, samples = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    size, length = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    count = draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return (
        rng.integers(0, 99, (count, groups, size)),
        rng.integers(1, size + 1, (count, groups)),
        rng.integers(0, 99, (count, groups, samples, length)),
        rng.integers(0, length + 1, (count, groups, samples)),
    )


@hypothesis.given(cells(), st.integers(0, 5))
@hypothesis.settings(deadline=None, max_examples=60)
def test_every_token_is_in_one_place_with_its_position_and_predictor(arrays, which):
    prompts, prompt_lengths, completions, lengths = arrays
    shapes = row_shapes(prompts.shape[2], completions.shape[2], completions.shape[3])
    shape = shapes[which % len(shapes)]
    rows = rows_needed(prompt_lengths, lengths, shape, max_tokens=100 * shape.tokens)
    hypothesis.assume(rows < IMPOSSIBLE)
    packed = pack_groups(prompts, prompt_lengths, completions, lengths, shape, rows=rows, pad_id=-7)
    assert (packed.prompt_group != NO_PROMPT).sum() == prompt_lengths.sum()
    assert (packed.completion_group != NO_COMPLETION).sum() == lengths.sum()
    flat = shape.bins * shape.bin_tokens
    for m, g, i in np.ndindex(*lengths.shape):
        size, places = prompt_lengths[m, g], packed.places[m, g, i, : lengths[m, g, i]]
        assert len(set(places)) == len(places)
        for t, place in enumerate(places):
            row, slot = divmod(place, flat)
            at = (m, row, *divmod(slot, shape.bin_tokens))
            assert packed.completions[at] == completions[m, g, i, t]
            assert packed.completion_positions[at] == size + t
            assert packed.completion_group[at] == g
            assert packed.completion_start[at] == divmod(slot, shape.bin_tokens)[1] - t
            before = packed.predictors[at]
            if t == 0:
                own = packed.prompt_group[m, row] == g
                np.testing.assert_array_equal(packed.prompts[m, row, own], prompts[m, g, :size])
                np.testing.assert_array_equal(packed.prompt_positions[m, row, own], np.arange(size))
                assert before == np.flatnonzero(own)[-1]
            else:
                assert before == shape.prompt_tokens + slot - 1


def test_rows_that_are_too_few_are_refused():
    prompts, completions = np.zeros((1, 2, 3), int), np.zeros((1, 2, 1, 4), int)
    lengths = np.full((1, 2), 3), np.full((1, 2, 1), 4)
    with pytest.raises(ValueError, match="2 groups do not fit 1 rows"):
        pack_groups(
            prompts, lengths[0], completions, lengths[1], RowShape(3, 1, 4), rows=1, pad_id=0
        )

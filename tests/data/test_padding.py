import numpy as np
import pytest

from gdpo_jax.data import bucket_for, pad_right
from gdpo_jax.errors import UserError


def test_the_smallest_bucket_that_fits():
    assert [bucket_for(n, (32, 8, 16)) for n in (1, 8, 9, 32)] == [8, 8, 16, 32]


def test_too_long_names_the_length_and_the_buckets():
    with pytest.raises(UserError, match=r"a prompt of 33 tokens .* \[8, 16, 32\]"):
        bucket_for(33, (32, 8, 16), what="prompt")


def test_rows_are_padded_on_the_right():
    rows, lengths = pad_right([[5, 6], [7]], 3, pad_id=-1)
    np.testing.assert_array_equal(rows, [[5, 6, -1], [7, -1, -1]])
    np.testing.assert_array_equal(lengths, [2, 1])
    assert rows.dtype == lengths.dtype == np.int32


@pytest.mark.parametrize("row", [[], [1, 2, 3, 4]])
def test_a_row_that_does_not_fit_is_named(row):
    with pytest.raises(UserError, match=rf"prompt in row 1 has {len(row)} tokens; legal"):
        pad_right([[1], row], 3, pad_id=0, what="prompt")


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ([1, 1.5], "1.5"),
        ([1, -1], "-1"),
        ([2**31], "2147483648"),
        ([1, None], "None"),
        (["a"], "'a'"),
        ("ab", "'a'"),
        ([[1], [1, 2]], r"\[1\]"),
        ([True], "True"),
        (np.array([0.5]), "0.5"),
    ],
)
def test_what_is_no_token_id_is_named_with_its_row(row, wrong):
    with pytest.raises(UserError, match=f"prompt in row 1 holds .*{wrong}.*; token ids are whole"):
        pad_right([[1], row], 4, pad_id=0, what="prompt")


def test_ids_may_come_as_arrays():
    padded, lengths = pad_right([np.array([1, 2], np.int64), (3,)], 2, pad_id=0)
    np.testing.assert_array_equal(padded, [[1, 2], [3, 0]])
    np.testing.assert_array_equal(lengths, [2, 1])

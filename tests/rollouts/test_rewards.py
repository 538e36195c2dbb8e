"""Text to rewards: decoding, stacking, missing values, and one clear error for each mistake."""

import math
import pickle

import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import Completion, RewardError, decode_completions, score


class Letters:
    """Token i is the letter with that number."""

    def decode(self, ids):
        return "".join(chr(ord("a") + token) for token in ids)

    def token_spans(self, ids):
        return [(i, i + 1) for i in range(len(ids))]


class Reward:
    """A reward function from a plain one of a single text."""

    def __init__(self, name, of_text):
        self.name, self.of_text = name, of_text

    def __call__(self, completions, records):
        return [self.of_text(c.text) for c in completions]


def completion(text):
    spans = tuple((i, i + 1) for i in range(len(text)))
    return Completion(text, tuple(range(len(text))), spans, True)


def score_texts(functions, texts, *, num_samples=2, num_ranks=None):
    return score(
        functions,
        [completion(text) for text in texts],
        [{}] * len(texts),
        num_prompts=len(texts) // num_samples,
        num_samples=num_samples,
        num_ranks=num_ranks,
    )


def test_decoding_drops_the_stop_token_from_the_text_but_keeps_its_place():
    ids = np.array([[0, 1, 25, 9], [2, 0, 1, 2], [25, 9, 9, 9]])
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
    done, cut, empty = decode_completions(Letters(), ids, mask, np.array([True, False, True]))
    assert done == Completion("ab", (0, 1, 25), ((0, 1), (1, 2), (2, 2)), True)
    assert cut == Completion("cabc", (2, 0, 1, 2), ((0, 1), (1, 2), (2, 3), (3, 4)), False)
    assert empty == Completion("", (25,), ((0, 0),), True)
    assert (len(cut.spans), cut.spans[1:3], hash(done.spans)) == (
        4,
        ((1, 2), (2, 3)),
        hash(((0, 1), (1, 2), (2, 2))),
    )


def test_spans_are_looked_for_once_and_only_where_they_are_read():
    calls = []

    class Counting(Letters):
        def token_spans(self, ids):
            calls.append(ids)
            return super().token_spans(ids)

    ids, whole = np.array([[0, 1, 2], [3, 4, 5]]), np.ones((2, 3), bool)
    first, _ = decode_completions(Counting(), ids, whole, np.array([False, False]))
    assert (first.text, len(first.spans), calls) == ("abc", 3, [])
    assert first.spans[0] == (0, 1)
    assert list(first.spans) == [(0, 1), (1, 2), (2, 3)]
    assert calls == [[0, 1, 2]]
    # Another process gets the spans and not the tokenizer.
    copy = pickle.loads(pickle.dumps(first.spans))
    assert type(copy) is tuple and copy == first.spans


def test_values_are_prompts_by_samples_by_rewards():
    length, vowels = Reward("length", len), Reward("vowels", lambda t: t.count("a"))
    batch = score_texts([length, vowels], ["a", "bb", "aaa", "bbbb"])
    assert batch.names == ("length", "vowels")
    np.testing.assert_array_equal(batch.values[..., 0], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(batch.values[..., 1], [[1, 0], [3, 0]])
    assert batch.values.dtype == np.float32 and batch.valid.all()


def test_records_reach_the_function_next_to_their_completions():
    class OwnTarget:
        name = "own target"

        def __call__(self, completions, records):
            return [float(c.text == r["target"]) for c, r in zip(completions, records)]

    batch = score(
        [OwnTarget()],
        [completion(text) for text in "xyxy"],
        [{"target": "x"}, {"target": "x"}, {"target": "y"}, {"target": "y"}],
        num_prompts=2,
        num_samples=2,
    )
    np.testing.assert_array_equal(batch.values[..., 0], [[1, 0], [0, 1]])


def test_none_and_nan_become_invalid_and_never_zero():
    answers = {"a": None, "b": math.nan, "c": 0.0, "d": np.float64(2.5)}
    batch = score_texts([Reward("r", answers.get)], ["a", "b", "c", "d"])
    np.testing.assert_array_equal(batch.valid[..., 0], [[False, False], [True, True]])
    np.testing.assert_array_equal(batch.values[batch.valid], [0.0, 2.5])


def test_ranks_keep_their_own_values_and_gaps():
    per_rank = Reward("rank", lambda t: [1.0, None, float(len(t))])
    per_sample = Reward("sample", len)
    batch = score_texts([per_rank, per_sample], ["a", "bb"], num_ranks=3)
    assert batch.values.shape == (1, 2, 2, 3)
    np.testing.assert_array_equal(batch.valid[0, :, 0], [[True, False, True]] * 2)
    np.testing.assert_array_equal(batch.values[0, :, 0, 2], [1, 2])
    np.testing.assert_array_equal(batch.values[0, :, 1], [[1, 1, 1], [2, 2, 2]])


def test_a_function_that_raises_is_named_with_the_sample_and_its_text():
    def fragile(text):
        return {"good": 1.0}[text]

    with pytest.raises(RewardError) as caught:
        score_texts([Reward("fragile", fragile)], ["good", "bad"])
    message = str(caught.value)
    for part in ("'fragile'", "KeyError", "sample 1 of 2", "'bad'"):
        assert part in message
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_function_that_fails_on_the_whole_batch_only_says_so():
    class NeedsOne:
        name = "needs one"

        def __call__(self, completions, records):
            if len(completions) > 1:
                raise MemoryError("too many")
            return [0.0]

    with pytest.raises(RewardError, match="on the batch of 2 samples, though on none of them"):
        score_texts([NeedsOne()], ["a", "b"])


def test_long_texts_are_cut_in_messages():
    with pytest.raises(RewardError) as caught:
        score_texts([Reward("r", lambda t: 1 / 0)], ["x" * 5000, "y"])
    assert len(str(caught.value)) < 700 and "5000 characters" in str(caught.value)


def test_a_wrong_length_names_both_lengths():
    class Short:
        name = "short"

        def __call__(self, completions, records):
            return [0.0]

    with pytest.raises(RewardError, match="'short' returned 1 values for 4 completions"):
        score_texts([Short()], ["a", "b", "c", "d"])


def test_no_sequence_at_all_is_refused():
    class Single:
        name = "single"

        def __call__(self, completions, records):
            return 1.0

    with pytest.raises(RewardError, match=r"'single' returned <class 'float'>"):
        score_texts([Single()], ["a", "b"])


@pytest.mark.parametrize("answer", [math.inf, -math.inf, 1e39, "much", object()])
def test_only_finite_numbers_are_rewards(answer):
    with pytest.raises(RewardError, match="a reward is a finite number"):
        score_texts([Reward("r", lambda t: answer)], ["a", "b"])


def test_rank_answers_must_fit_the_run():
    per_rank = Reward("r", lambda t: [1.0, 2.0])
    with pytest.raises(RewardError, match="returned 2 ranks for sample 0"):
        score_texts([per_rank], ["a", "b"], num_ranks=3)
    with pytest.raises(RewardError, match="this run scores whole samples"):
        score_texts([per_rank], ["a", "b"])


def test_names_must_exist_and_differ():
    with pytest.raises(RewardError, match="at least one"):
        score_texts([], ["a", "b"])
    with pytest.raises(RewardError, match="must differ"):
        score_texts([Reward("r", len), Reward("r", len)], ["a", "b"])


def test_completions_must_match_prompts_times_samples():
    with pytest.raises(RewardError, match="2 prompts x 2 samples = 4"):
        score([Reward("r", len)], [completion("a")], [{}], num_prompts=2, num_samples=2)

"""The probability of refusing, against every answer that a tiny decoder can begin with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.embedded.policies import new_model, tokenizer_of
from experiments.common.judges.refusals.openings import distinct_openings, refusal_log_prob
from gdpo_jax.data import pad_right
from gdpo_jax.errors import UserError
from gdpo_jax.policies import DecoderConfig, completion_log_probs
from gdpo_jax.training import MeshConfig, make_mesh

DECODER = DecoderConfig(
    vocab_size=300,
    d_model=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
    d_ff=8,
    max_positions=12,
)
WORDS = ["<no>", "<yes>", "<but>"]


@pytest.fixture(scope="module")
def model():
    rows = [{"prompt": "ab", "completion": " ".join(WORDS)}]
    tokenizer = tokenizer_of(rows, vocab_size=280, reserved=WORDS)
    return new_model(DECODER, tokenizer, make_mesh(MeshConfig(), jax.devices()[:1]), seed=3)


def next_probs(model, rows):
    """[rows, vocabulary] p(next token) behind each row of ids."""
    size = model.policy.config.vocab_size
    prompts, lengths = pad_right(rows, max(map(len, rows)), pad_id=model.tokenizer.pad_id)
    every = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32)[:, None], (len(rows), size, 1))
    log_probs = jax.jit(
        lambda params: completion_log_probs(
            model.policy, params, prompts, lengths, every, jnp.ones(every.shape, bool), chunk=None
        )[0]
    )(model.params)
    return np.exp(np.asarray(log_probs[..., 0]))


def test_openings_within_others_count_once(model):
    openings = ["<no>", "<no><but>", "<yes><but>", "<yes><but>"]
    no, yes, but = (model.tokenizer.encode(word)[0] for word in WORDS)
    assert distinct_openings(model, openings) == [[no], [yes, but]]


def test_the_sum_is_that_of_all_two_token_answers_that_begin_so(model):
    openings = ["<no>", "<no><but>", "<yes><but>"]
    no, yes, but = (model.tokenizer.encode(word)[0] for word in WORDS)
    prompts = ["a", "ab b"]
    found = refusal_log_prob(model, prompts, openings)
    rows = [model.tokenizer.with_bos(model.tokenizer.encode(prompt)) for prompt in prompts]
    probs = next_probs(model, [[*ids, *then] for ids in rows for then in ((), (no,), (yes,))])
    size = probs.shape[-1]
    for log_prob, (first, *second) in zip(found, probs.reshape(2, 3, size), strict=True):
        total = sum(
            first[start] * behind[token]
            for start, behind in zip((no, yes), second, strict=True)
            for token in range(size)
            if start == no or token == but
        )
        np.testing.assert_allclose(np.exp(log_prob), total, rtol=1e-4)


def test_batches_and_companions_change_nothing(model):
    prompts = ["a", "ab b", "b", [5, 6, 7]]
    together = refusal_log_prob(model, prompts, ["<no>", "<yes><but>"])
    parts = refusal_log_prob(model, prompts, ["<no>", "<yes><but>"], batch_size=3)
    assert together.dtype == np.float32 and (together < 0).all()
    np.testing.assert_allclose(together, parts, rtol=1e-5)
    assert refusal_log_prob(model, [], ["<no>"]).shape == (0,)


@pytest.mark.parametrize(
    ("prompts", "openings", "message"),
    [
        (["a"], [], "openings is empty"),
        (["a"], ["<no>", ""], "has no tokens"),
        ([[5] * 12], ["<no>"], "11 fit before the longest opening"),
    ],
)
def test_what_cannot_be_asked_is_refused(model, prompts, openings, message):
    with pytest.raises(UserError, match=message):
        refusal_log_prob(model, prompts, openings)

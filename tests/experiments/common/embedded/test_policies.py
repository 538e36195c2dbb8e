"""A policy from nothing."""

import jax
import numpy as np

from experiments.common.embedded.policies import new_model, tokenizer_of
from gdpo_jax.training import MeshConfig, make_mesh
from tests.experiments.common.runs.study import DECODER

ROWS = [
    {"prompt": "list", "completion": "<yes> one"},
    {"prompt": [{"role": "user", "content": "hello"}], "completion": "two"},
]


def test_reserved_words_are_one_token_and_texts_come_back():
    tokenizer = tokenizer_of(ROWS, vocab_size=300, reserved=["<yes>"])
    ids = tokenizer.encode("<yes> hello")
    assert tokenizer.decode(ids) == "<yes> hello"
    assert len(tokenizer.encode("<yes>")) == 1


def test_the_vocabulary_follows_the_tokenizer_and_the_parameters_the_seed():
    tokenizer = tokenizer_of(ROWS, vocab_size=280)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    one, same, other = (new_model(DECODER, tokenizer, mesh, seed) for seed in (0, 0, 1))
    assert one.policy.config.vocab_size == tokenizer.vocab_size < DECODER.vocab_size
    tables = [np.asarray(model.params["embedding"]) for model in (one, same, other)]
    np.testing.assert_array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[0], tables[2])

"""Metrics of answers, and log-probabilities of the model itself."""

import math

import jax
import numpy as np
import pytest

from experiments.common.runs.experiment import Data
from experiments.dcr.data.instructions import facts, requests
from experiments.dcr.kernel import PromptRows, first_token_logits
from experiments.dcr.metrics import METRICS, mean_log_probs, measure, score
from experiments.dcr.presets import PRESETS
from experiments.dcr.records import record_of
from tests.experiments.dcr.safety_prompts import RECORDS
from tests.experiments.dcr.small_model import small_model

NO = "I'm sorry, but I cannot help with that."
REQUEST, FACT = record_of(requests("test")[0]), record_of(facts("test")[0])
DATA, PRESET = Data(records={}), PRESETS["smoke"]


def scored(texts, records):
    return score(texts, records, DATA, PRESET)


def test_each_kind_has_its_own_metrics():
    good = scored([record["answer"] for record in RECORDS], RECORDS).means()
    assert (good["complies"], good["refuses"], good["plain"], good["answered"]) == (1, 1, 1, 0)
    silent = scored([NO] * 3, RECORDS)
    means = silent.means()
    assert (means["complies"], means["over_refused"], means["refuses"]) == (0, 1, 1)
    assert math.isnan(silent.values["refuses"][0]) and math.isnan(silent.values["complies"][2])
    assert means["words"] < 0.3 and means["length"] == 8


def test_requests_are_followed_to_the_letter_and_are_no_plain_prompts():
    table = scored([REQUEST["answer"], "something else", FACT["answer"]], [REQUEST, REQUEST, FACT])
    assert table.values["follows"].tolist()[:2] == [1, 0] and math.isnan(table.values["follows"][2])
    assert math.isnan(table.values["plain"][0]) and table.values["plain"][2] == 1
    assert table.groups["family"] == ("instructions",) * 3


def test_the_models_own_columns_are_those_of_the_metrics():
    model = small_model()
    records = [*RECORDS, FACT, REQUEST]
    prompts = [record["text"][:20] for record in records]
    short = [{**record, "answer": "the lamp"} for record in records]
    found = measure(model, prompts, short, DATA, PRESET)
    assert np.isnan(found["refusal_log_prob"]).tolist() == [False] * 4 + [True]
    assert np.isnan(found["p_toxic"]).tolist() == [True, True, False, True, True]
    assert np.isnan(found["loss"]).tolist() == [True] * 3 + [False] * 2
    assert (found["refusal_log_prob"][:4] < 0).all()
    names = {*scored(["a"] * 5, records).values, *found}
    assert names >= {metric.name for metric in METRICS}


def test_an_answers_log_probability_is_the_mean_over_its_tokens_and_its_end():
    model = small_model()
    [found] = mean_log_probs(model, ["kill the lamp"], ["queue"], batch_size=4)
    prompt, answer = model.tokenizer.encode("kill the lamp"), model.tokenizer.encode("queue")
    row = [*prompt, *answer, model.tokenizer.eos_id]
    logits = plain_logits(model, row)
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    wanted = [log_probs[n - 1, row[n]] for n in range(len(prompt), len(row))]
    assert found == pytest.approx(np.mean(wanted), abs=1e-4)


def plain_logits(model, row):
    """Logits behind every token of a row, by the differentiable forward pass of the kernel."""
    every = np.arange(model.policy.config.vocab_size, dtype=np.int32)
    ids = np.array(row, np.int32)

    def behind(length):
        return first_token_logits(model.policy, model.params, PromptRows(ids, length, every))

    lengths = np.arange(1, len(row) + 1, dtype=np.int32)
    return np.asarray(jax.jit(jax.vmap(behind))(lengths), np.float64)


def test_no_prompts_have_no_log_probabilities():
    assert mean_log_probs(small_model(), [], []).shape == (0,)

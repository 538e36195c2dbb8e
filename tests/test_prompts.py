"""Prompts of all kinds as token ids, and rows that fit."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdpo_jax.errors import UserError
from gdpo_jax.policies import render_chat, train_tokenizer
from gdpo_jax.prompts import (
    completion_encoder,
    encode_prompt,
    fit_rows,
    make_buckets,
    prompt_encoder,
)

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    plain = train_tokenizer(["What is 1 + 2?"] * 9, vocab_size=280, special_tokens=["<|end|>"])
    end = plain.token_id("<|end|>")
    return dataclasses.replace(plain, chat_template=TEMPLATE, stop_ids=(plain.eos_id, end))


def test_text_messages_and_ids_are_prompts(tokenizer):
    text, messages = "What is 1 + 2?", [{"role": "user", "content": "1 + 2"}]
    assert encode_prompt(tokenizer, text) == tokenizer.encode(text)
    rendered = render_chat(tokenizer, messages)
    assert encode_prompt(tokenizer, messages) == tokenizer.encode(rendered)
    assert encode_prompt(tokenizer, np.array([5, 6, 7])) == [5, 6, 7]
    record = {"prompt": text, "asked": messages}
    assert prompt_encoder(tokenizer, "prompt")(record) == tokenizer.encode(text)
    by_function = prompt_encoder(tokenizer, lambda record: record["asked"])
    assert by_function(record) == tokenizer.encode(rendered)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "has no tokens"),
        ([], "has no tokens"),
        (7, r"text, a list of chat messages or a list of token ids; got '7' \(int\)"),
        (None, "text, a list of chat messages"),
        ([1.5, 2.5], r"holds 1\.5 at place 0"),
        ([True, False], "holds True at place 0"),
        ([3, -100], "holds -100 at place 1; token ids are whole numbers from 0 to"),
        ([3, 10_000], "holds 10000 at place 1"),
        (
            [{"role": "user", "content": "x"}, "y"],
            r"holds {'role': 'user', .*} at place 0",
        ),
    ],
)
def test_what_is_no_prompt_is_one_error(tokenizer, prompt, message):
    with pytest.raises(UserError, match=message):
        encode_prompt(tokenizer, prompt)


def test_an_answer_ends_where_the_template_ends_it(tokenizer):
    end = tokenizer.token_id("<|end|>")
    encode = completion_encoder(tokenizer, "prompt", "completion")
    asked, answer = encode({"prompt": "1 + 2", "completion": "3"})
    assert answer == [*tokenizer.encode("3"), tokenizer.eos_id]
    messages = [{"role": "user", "content": "1 + 2"}]
    asked, answer = encode({"prompt": messages, "completion": "3"})
    assert asked == tokenizer.encode(render_chat(tokenizer, messages))
    assert answer == [*tokenizer.encode("3"), end]
    assert encode({"prompt": messages, "completion": [4, 5]})[1] == [4, 5]


def fitted(lengths, *, buckets=None, positions=64, too_long="leave_out"):
    return fit_rows(
        [{"size": size} for size in lengths],
        lambda record: ([1] * record["size"],),
        buckets=(buckets,),
        positions=positions,
        batch_size=4,
        too_long=too_long,
        names=("prompt",),
    )


def test_rows_that_do_not_fit_are_left_out_and_counted_or_an_error():
    found = fitted([3, 70, 5, 65])
    assert [record["size"] for record in found.records] == [3, 5]
    assert found.left_out == 2 and found.buckets == ((8,),)
    with pytest.raises(UserError, match=r"2 of 4 records do not fit; record 1 .* prompt 70"):
        fitted([3, 70, 5, 65], too_long="error")
    with pytest.raises(UserError, match="2 of 2 records do not fit"):
        fitted([70, 65])
    with pytest.raises(UserError, match="there are no records"):
        fitted([])
    with pytest.raises(UserError, match="too_long='cut' is unknown"):
        fitted([3], too_long="cut")
    assert fitted([3, 9], buckets=(4, 8)).left_out == 1


def test_both_parts_of_a_row_share_the_room():
    found = fit_rows(
        [(3, 9), (10, 9), (8, 8)],
        lambda record: ([1] * record[0], [1] * record[1]),
        buckets=(None, None),
        positions=16,
        batch_size=2,
        too_long="leave_out",
        names=("prompt", "completion"),
    )
    assert found.records == [(3, 9), (8, 8)]
    # The widest prompt and the widest completion fit behind each other, though rounded up.
    assert sum(max(widths) for widths in found.buckets) <= 17


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda record: record["question"], r"record 0: .* field 'question', .* \['prompt'\]"),
        (lambda record: 1 / 0, "record 0: the prompt function raised ZeroDivisionError"),
        (lambda record: encode_prompt(None, 3), "record 0: a prompt or completion is text"),
    ],
)
def test_a_prompt_function_that_fails_is_named_with_its_record(encode, message):
    with pytest.raises(UserError, match=message):
        fit_rows(
            [{"prompt": "x"}],
            encode,
            buckets=(None,),
            positions=8,
            batch_size=1,
            too_long="leave_out",
            names=("prompt",),
        )


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 32))
def test_widths_hold_every_row_and_are_few(lengths, batch_size):
    most = max(lengths) + 3
    buckets = make_buckets(lengths, batch_size=batch_size, most=most)
    assert 1 <= len(buckets) <= 2 and sorted(buckets) == list(buckets)
    assert max(lengths) <= buckets[-1] <= most


def test_a_narrow_width_is_made_where_most_batches_are_narrow():
    assert make_buckets([20] * 99 + [500], batch_size=4, most=512) == (24, 504)
    assert make_buckets([20] * 50 + [500] * 50, batch_size=4, most=512) == (504,)

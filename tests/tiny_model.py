"""A language model of the llama architecture that knows nothing, as a folder on disk."""

import dataclasses
from pathlib import Path

import jax

from gdpo_jax.policies import DecoderConfig, decoder_policy, save_pretrained, train_tokenizer

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<answer>"
TEXTS = ("List 10 films, newest first, as Title (Year).", "USER: Loved Ardton (1985). No ghosts.")
DECODER = DecoderConfig(
    vocab_size=300,
    d_model=16,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    d_ff=32,
    max_positions=1024,
)
_init = jax.jit(lambda key, config: decoder_policy(config).init(key), static_argnums=1)


def save_tiny_model(
    folder: Path, *, seed: int = 0, template: str | None = TEMPLATE, layers: int = 2
) -> Path:
    """Writes the folder; another seed gives other parameters. layers: of its decoder, whose sampler
    compiles in about the time that they take."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=DECODER.vocab_size)
    tokenizer = dataclasses.replace(tokenizer, chat_template=template)
    config = dataclasses.replace(DECODER, num_layers=layers)
    save_pretrained(folder, config, _init(jax.random.key(seed), config), tokenizer)
    return folder

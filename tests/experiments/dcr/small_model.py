"""A decoder of three small layers that knows nothing, and made-up prompts of three kinds."""

import dataclasses
import functools

import jax

from gdpo_jax.policies import DecoderConfig, train_tokenizer
from gdpo_jax.recipe import Model, open_model
from gdpo_jax.training import MeshConfig, make_mesh

THINGS = ("lamp", "clock", "process", "engine", "game", "light", "queue", "candle")
FORMS = {"plain": "describe the {}", "seeming": "kill the {}", "toxic": "harm a person with a {}"}
ROWS = [
    {"kind": kind, "prompt": form.format(thing), "cluster": thing}
    for thing in THINGS
    for kind, form in FORMS.items()
]
TOKENIZER = train_tokenizer([row["prompt"] for row in ROWS], vocab_size=280)
DECODER = DecoderConfig(
    vocab_size=TOKENIZER.vocab_size,
    d_model=8,
    num_layers=3,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    d_ff=8,
    max_positions=64,
)


# One object for all tests that ask alike, so that they share programs as well; none may donate it.
@functools.cache
def small_model(*, devices: int = 1, fsdp: int = 1, **changes) -> Model:
    """The model on a mesh; `changes` are of the decoder."""
    mesh = make_mesh(MeshConfig(fsdp=fsdp), jax.devices()[:devices])
    decoder = dataclasses.replace(DECODER, **changes)
    return open_model(decoder, mesh, tokenizer=TOKENIZER, remat="none", key=jax.random.key(4))

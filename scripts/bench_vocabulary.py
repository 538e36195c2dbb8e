#!/usr/bin/env python
"""Time of chunked log-probs and their gradients: the vocabulary product's own, or autodiff's.

    python scripts/bench_vocabulary.py [--vocabularies 3072 49152] [--d-model 64] [--repeats 10]

Hidden states and the embedding are given and both get a gradient; layers are left out. "autodiff"
is the same code with a plain matmul in place of `vocabulary_logits`. Both take turns in one
process; gradients are compared before anything is timed.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from bench_models import decoder_config
from bench_steps import best_seconds

from gdpo_jax.policies import decoder_policy
from gdpo_jax.policies.token_log_probs import token_log_probs


@dataclass(frozen=True)
class Options:
    """Sizes and turns; the defaults are those of the `mini` preset."""

    vocabularies: tuple[int, ...] = (3072,)  # one line each
    d_model: int = 64  # size of a hidden state
    rows: int = 128  # completions
    length: int = 88  # tokens of each
    chunk: int = 8  # positions whose logits exist at a time
    repeats: int = 10  # turns, of which the best counts


def plain(policy):
    """The policy with a product that automatic differentiation takes apart."""

    def logits_of(hidden, table):
        return jnp.matmul(hidden, table, preferred_element_type=jnp.float32)

    return policy._replace(logits_of=logits_of)


def measure(vocab: int, options: Options) -> list[float]:
    """Seconds of autodiff and of ours, after a comparison of their gradients."""
    config = decoder_config("tiny", vocab_size=vocab, d_model=options.d_model, max_positions=1)
    draw = np.random.default_rng(0)
    shape = (options.rows, 1, options.length)
    hidden = jnp.asarray(draw.normal(size=(*shape, options.d_model)), jnp.float32)
    tokens = jnp.asarray(draw.integers(0, vocab, shape), jnp.int32)
    params = {"embedding": jnp.asarray(draw.normal(size=(vocab, options.d_model)), jnp.float32)}

    def compiled(policy):
        def loss(params, hidden):
            values = token_log_probs(
                policy, params, hidden, tokens, chunk=options.chunk, with_entropy=False
            )
            return jnp.sum(values[0])

        return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, hidden).compile()

    policy = decoder_policy(config)
    programs = [compiled(plain(policy)), compiled(policy)]
    found = [jax.tree.leaves(program(params, hidden)) for program in programs]
    for autodiff, ours in zip(*found):
        scale = float(jnp.abs(autodiff).max())
        np.testing.assert_allclose(ours, autodiff, atol=1e-4 * scale)
    run = functools.partial(_run, params, hidden)
    return best_seconds([functools.partial(run, program) for program in programs], options.repeats)


def _run(params, hidden, program) -> None:
    jax.block_until_ready(program(params, hidden))


def main(options: Options) -> None:
    """Prints a line for each vocabulary."""
    print(
        f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, {options.rows} x {options.length}"
    )
    print(f"{'V':>8}{'autodiff, ms':>14}{'written out, ms':>17}   autodiff / written out")
    for vocab in options.vocabularies:
        autodiff, ours = measure(vocab, options)
        print(f"{vocab:8d}{1e3 * autodiff:14.1f}{1e3 * ours:17.1f}{autodiff / ours:14.2f} x")


if __name__ == "__main__":
    main(tyro.cli(Options))

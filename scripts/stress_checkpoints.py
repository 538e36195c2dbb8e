#!/usr/bin/env python
"""Damages every file of a checkpoint in many ways, and looks what a run would go on from.

    python scripts/stress_checkpoints.py [--places 8] [--cases N] [--seed 0]

A folder holds two checkpoints of a small policy. Each file of the newer one is missing, cut at
several lengths, one byte longer, filled with zeros, has a flipped bit at --places places, and is
replaced by the same file of the older one; once with the note of sizes and sums (`files.json`)
beside it and once without, as SIGKILL between checkpoint and note leaves it; and then the same
damage in both checkpoints. What is restored must be one of the two states, bit for bit, the older
one with a warning that names both, or it must be a `UserError`. A state that was never stored,
another exception, and nothing restored (the run would begin anew) are failures.
"""

import argparse
import collections
import logging
import os
import random
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from gdpo_jax.errors import UserError
from gdpo_jax.policies import DecoderConfig, decoder_policy
from gdpo_jax.training import (
    Checkpoints,
    MeshConfig,
    OptimizerConfig,
    create_state,
    make_mesh,
    make_optimizer,
)

POLICY = decoder_policy(
    DecoderConfig(
        vocab_size=64,
        d_model=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        head_dim=16,
        d_ff=64,
        max_positions=32,
    )
)
CONFIG = {"run": {"seed": 0}}
NEWER, OLDER = 4, 2
POSITIONS = {NEWER: {"next": 40}, OLDER: {"next": 20}}
FAILURES = ("a state never stored", "a traceback", "a silent restart")

Damage = Callable[[bytes], bytes | None]


def damages(size: int, places: int, draw: random.Random) -> Iterator[tuple[str, Damage]]:
    """What may happen to a file of `size` bytes; None takes it away."""
    yield "missing", lambda whole: None
    for length in dict.fromkeys([0, 1, size // 4, size // 2, max(size - 1, 0)]):
        yield "cut", lambda whole, length=length: whole[:length]
    yield "longer", lambda whole: whole + b"\0"
    yield "zeros", lambda whole: bytes(len(whole))
    for _ in range(places):
        bit = draw.randrange(8 * size)
        yield "flipped", lambda whole, bit=bit: _flip(whole, bit)


def _flip(whole: bytes, bit: int) -> bytes:
    if not whole:
        return whole
    place = bit // 8 % len(whole)
    return whole[:place] + bytes([whole[place] ^ 1 << bit % 8]) + whole[place + 1 :]


def fresh_state(seed: int) -> Any:
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-3))
    weights = {"weights": np.array([1.0, 0.5], np.float32)}
    key = jax.random.key(seed)
    return create_state(POLICY, optimizer, key=key, mesh=mesh, advantage_state=weights)


def numbers(state: Any) -> list[np.ndarray]:
    rest = state.replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(rest)]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def outcome(folder: Path, like: Any, states: dict[int, list[np.ndarray]]) -> str:
    """What a run in this folder would begin with."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            checkpoints = Checkpoints(folder, config=CONFIG)
            found = checkpoints.restore(like)
            checkpoints.close()
        except UserError as error:
            return "an error" if str(folder) in str(error) else "a traceback"
        except Exception:
            return "a traceback"
    if found is None:
        return "a silent restart"
    step, state, position = found
    if position != POSITIONS.get(step) or not same(numbers(state), states[step]):
        return "a state never stored"
    if step == NEWER:
        return "the newer state"
    said = [str(one.message) for one in caught if "is damaged" in str(one.message)]
    named = said and all(str(folder / str(n)) in said[0] for n in (NEWER, OLDER))
    return "the older state, with a warning" if named else "a silent restart"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--places", type=int, default=8, help="flipped bits of a file, one a time")
    parser.add_argument("--cases", type=int, help="so many of all, drawn; all unless given")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # Orbax tells of what it cannot read
    with tempfile.TemporaryDirectory() as folder:
        raise SystemExit(stress(options, Path(folder)))


def stress(options: argparse.Namespace, folder: Path) -> int:
    draw, began, like = random.Random(options.seed), time.perf_counter(), fresh_state(0)
    states, stored = {}, folder / "stored"
    checkpoints = Checkpoints(stored, config=CONFIG)
    for step in (OLDER, NEWER):
        state = fresh_state(step)
        checkpoints.save(step, state, POSITIONS[step])
        states[step] = numbers(state)
    checkpoints.close()
    newer = stored / str(NEWER)
    names = sorted(path.relative_to(newer) for path in newer.rglob("*") if path.is_file())
    cases = [
        (where, name, what, damage)
        for where in ("newer", "newer, no note", "both", "both, no note")
        for name in names
        if not ("no note" in where and name.name == "files.json")
        for what, damage in [
            *damages((newer / name).stat().st_size, options.places, draw),
            ("of the older", None),
        ]
    ]
    draw.shuffle(cases)
    tried, problems = collections.Counter(), []
    for number, (where, name, what, damage) in enumerate(cases[: options.cases], start=1):
        copy = folder / "copy"
        shutil.copytree(stored, copy)
        for step in (NEWER, OLDER) if "both" in where else (NEWER,):
            harm(copy, step, name, damage)
            if "no note" in where:
                (copy / str(step) / "files.json").unlink()
        found = outcome(copy, like, states)
        tried[found] += 1
        if found in FAILURES:
            problems.append(f"{what} {name} in {where}: {found}")
        if number % 50 == 0:
            print(f"{number} of {len(cases)}: {dict(tried)}, {problems[:9]}", flush=True)
        shutil.rmtree(copy)
        shutil.rmtree(folder / "copy-damaged", ignore_errors=True)
    held = tried.total() - len(problems)
    print(
        f"{len(names)} files, {tried.total()} damages tried, {held} held: {dict(tried)}; ", end=""
    )
    print(f"problems: {problems[:9] or 'none'}; {time.perf_counter() - began:.0f} s")
    return 1 if problems else 0


def harm(folder: Path, step: int, name: Path, damage: Damage | None) -> None:
    """Damage one file; None: the file of that kind of the older checkpoint takes its place."""
    path = folder / str(step) / name
    if damage is None:
        # Files of data have names of their own.
        other = folder / str(OLDER) / name
        kind = other if other.exists() else next(iter(other.parent.iterdir()))
        path.write_bytes(kind.read_bytes())
        return
    after = damage(path.read_bytes()) if path.exists() else None
    if after is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(after)


if __name__ == "__main__":
    main()

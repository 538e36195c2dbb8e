"""Parameters on their way from a trainer to a server: one safetensors file, and words about it.

Tensors are float32 under the names of published files: those of peft for adapters, those of Hugging
Face for whole models. A trainer numbers what it sends, and a server takes only newer numbers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gdpo_jax.errors import UserError
from gdpo_jax.models import Model
from gdpo_jax.policies import (
    DecoderConfig,
    LoraConfig,
    Params,
    Policy,
    decoder_policy,
    lora_policy,
)
from gdpo_jax.policies.files.adapters import adapter_tensors
from gdpo_jax.policies.files.safetensors import open_files, write_file
from gdpo_jax.policies.files.tensor_names import hub_tensors
from gdpo_jax.policies.files.weights import load_params, stored_tensors
from gdpo_jax.policies.lora import ADAPTERS, BASE
from gdpo_jax.training import shardings_for

__all__ = ["Update", "check_sendable", "read_parameters", "read_update", "write_parameters"]


class Update(NamedTuple):
    """What a file of parameters is: adapters of `lora`, or a whole model where it is None."""

    version: int
    lora: LoraConfig | None

    def words(self) -> dict[str, str]:
        """The same for the query of an address."""
        words = {"version": str(self.version)}
        if self.lora is not None:
            words |= {"rank": str(self.lora.rank), "alpha": repr(float(self.lora.alpha))}
            words["targets"] = ",".join(self.lora.targets)
        return words


def read_update(words: Mapping[str, str]) -> Update:
    """The inverse of `Update.words`. Raises UserError for anything else."""
    names = set(words)
    if names not in ({"version"}, {"version", "rank", "alpha", "targets"}):
        raise UserError(
            f"the address gives {sorted(names)}; give version, and for adapters rank, alpha and "
            "targets as well"
        )
    try:
        version = int(words["version"])
        lora = None
        if "rank" in words:
            targets = tuple(words["targets"].split(","))
            lora = LoraConfig(rank=int(words["rank"]), alpha=float(words["alpha"]), targets=targets)
    except ValueError as error:
        raise UserError(f"version and rank are whole numbers, alpha is a number: {error}") from None
    if version < 1:
        raise UserError(f"version is {version}; give 1 or more")
    return Update(version, lora)


def check_sendable(policy: Policy) -> None:
    """Raises UserError for a policy whose parameters have no names in published files."""
    config = policy.config
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    known = isinstance(config, DecoderConfig)
    if known and isinstance(policy.trained_config, LoraConfig):
        shapes = shapes[BASE]
    whole = jax.eval_shape(decoder_policy(config).init, jax.random.key(0)) if known else None
    if not known or jax.tree.structure(shapes) != jax.tree.structure(whole):
        raise UserError(
            "a server takes the parameters of a decoder, whole or adapters of it; sample with the "
            "own engine for other policies, and for masks that train a part"
        )


def write_parameters(path: Path, policy: Policy, params: Params) -> LoraConfig | None:
    """Writes the adapters of a policy that has them, or all parameters; returns which."""
    lora = policy.trained_config
    if lora is None:
        tensors = stored_tensors(params, hub_tensors(policy.config))
    else:
        tensors = stored_tensors(params[ADAPTERS], adapter_tensors(lora))
    write_file(path, tensors, dtype="float32")
    return lora


def read_parameters(path: Path, base: Model, lora: LoraConfig | None, known: Policy) -> Model:
    """The model with what `write_parameters` wrote, on the mesh of `base`, a plain model.

    known: a policy that is used again where it is the one needed, so that nothing compiles anew.
    Raises UserError for tensors that do not fit, all of them listed, for numbers that are not
    finite, and for whole parameters where those of the base are quantized.
    """
    if lora is None and base.policy.config.quantized:
        raise UserError(
            f"the model is held in {base.policy.config.param_dtype}, which takes adapters alone; "
            "open it with param_dtype bfloat16 or float32 to be sent whole parameters"
        )
    source, config = open_files([path], "the parameters that were sent"), base.policy.config
    fitting = [policy for policy in (known, base.policy) if policy.trained_config == lora]
    policy = fitting[0] if fitting else lora_policy(base.policy, lora)
    axes, shapes = policy.logical_axes(), jax.eval_shape(policy.init, jax.random.key(0))
    stored: Mapping[Any, Any] = hub_tensors(config)
    if lora is not None:
        axes, shapes, stored = axes[ADAPTERS], shapes[ADAPTERS], adapter_tensors(lora)
    shardings = shardings_for(axes, shapes, base.mesh, base.rules)
    found = load_params(source, stored, shapes, shardings=shardings)
    params = found if lora is None else {BASE: base.params, ADAPTERS: found}
    return Model(policy, params, base.tokenizer, base.mesh, base.name, base.rules)

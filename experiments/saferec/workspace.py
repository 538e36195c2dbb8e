"""A run folder: data, tokenizer and one folder per seed and arm; made once, checked afterwards."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax

from experiments.common.files.json_rows import read_json
from experiments.common.scores.summaries import write_json
from experiments.saferec.arms import Arm
from experiments.saferec.data.corpus import Corpus, load_corpus, prompt_of
from experiments.saferec.data.dataset import build_dataset, require_config
from experiments.saferec.data.targets import safe_target
from experiments.saferec.settings import Preset
from gdpo_jax.errors import UserError
from gdpo_jax.models import Model, model_path, open_model
from gdpo_jax.policies import (
    LoraConfig,
    Tokenizer,
    load_tokenizer,
    open_pretrained,
    train_tokenizer,
)
from gdpo_jax.prompts import encode_prompt
from gdpo_jax.training import MeshConfig, make_mesh, together

__all__ = ["RESERVED", "Workspace", "open_workspace"]

RESERVED = ("<reasoning>", "</reasoning>", "<solution>", "</solution>")


@dataclasses.dataclass(frozen=True)
class Workspace:
    """What all arms of a run folder share.

    open_start(mesh, seed): the model before the first stage, published or with random parameters.
    pretrained: whether it is published, with a chat template, and has no base stage.
    """

    path: Path
    preset: Preset
    corpus: Corpus
    tokenizer: Tokenizer
    open_start: Callable[[jax.sharding.Mesh, int], Model]
    pretrained: bool

    def arm_dir(self, arm: str, seed: int) -> Path:
        """Where one arm of one seed keeps everything it writes."""
        return self.path / f"seed-{seed}" / arm

    def lora_of(self, arm: Arm) -> LoraConfig | None:
        """The adapters that the arm trains; None where it trains all parameters."""
        start = self.preset.pretrained
        if start is None:
            return None
        return start.sft_lora if arm.supervised else start.rl_lora

    def prompt(self, messages: Sequence[Mapping]) -> str | Sequence[Mapping]:
        """A prompt as the model takes it: chat messages, or their text where it has no template."""
        if self.pretrained:
            return messages
        return "\n".join(message["content"] for message in messages)

    def encode(self, messages: Sequence[Mapping]) -> list[int]:
        """The token ids of a prompt."""
        return encode_prompt(self.tokenizer, self.prompt(messages))

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

    def new_model(mesh: jax.sharding.Mesh, seed: int) -> Model:
        key = jax.random.key(seed)
        return open_model(decoder, mesh, tokenizer=tokenizer, remat=decoder.remat, key=key)

    return Workspace(path, preset, corpus, tokenizer, new_model, pretrained=False)


def _pretrained_workspace(
    path: Path, preset: Preset, corpus: Corpus, model_dir: Path | None
) -> Workspace:
    start = preset.pretrained
    model = start.model if model_dir is None else model_dir
    tokenizer = open_pretrained(model_path(model)).tokenizer()
    if tokenizer.chat_template is None:
        raise UserError(
            f"{model} has no chat template, and conversations are asked through one; take an "
            "instruction-tuned model"
        )

    def published_model(mesh: jax.sharding.Mesh, seed: int) -> Model:
        del seed
        return open_model(model, mesh, start.dtype, remat=start.remat)

    return Workspace(path, preset, corpus, tokenizer, published_model, pretrained=True)


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

"""A run folder: settings, what the data held, tokenizer, and one folder per seed and arm.

`preset.json` holds the preset, `run.json` the data folder, digests of the records of all splits and
how answers are judged. Both are written once and checked afterwards.
"""

import dataclasses
import functools
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from experiments.common.embedded.policies import new_model
from experiments.common.files.json_rows import read_json
from experiments.common.runs.arms import Arm
from experiments.common.runs.experiment import Data, Experiment
from experiments.common.runs.settings import Preset, PretrainedStart
from experiments.common.scores.summaries import write_json
from gdpo_jax.data import records_digest
from gdpo_jax.errors import UserError
from gdpo_jax.models import Model, model_path, open_model
from gdpo_jax.policies import Tokenizer, load_tokenizer, open_pretrained
from gdpo_jax.prompts import Prompt, encode_prompt, is_chat
from gdpo_jax.training import MeshConfig, make_mesh, together
from gdpo_jax.training.config import differing_fields, json_tree
from gdpo_jax.training.shared_folder import check_shared

__all__ = ["Workspace", "open_workspace"]

_PRESET, _RUN, _TOKENIZER = "preset.json", "run.json", "tokenizer.json"
_MOST_LINES = 8


@dataclasses.dataclass(frozen=True)
class Workspace:
    """What all arms of a run folder share.

    open_start(mesh, seed): the model before the first stage, published or with random parameters.
    """

    experiment: Experiment
    path: Path
    preset: Preset
    data: Data
    tokenizer: Tokenizer
    open_start: Callable[[jax.sharding.Mesh, int], Model]

    def arm_dir(self, arm: str, seed: int) -> Path:
        """Where one arm of one seed keeps everything it writes."""
        return self.path / f"seed-{seed}" / arm

    def prompt(self, given: Prompt) -> Prompt:
        """A prompt as the model takes it: messages as text where it has no chat template."""
        if is_chat(given) and self.tokenizer.chat_template is None:
            return "\n".join(message["content"] for message in given)
        return given

    def encode(self, given: Prompt) -> list[int]:
        """The token ids of a prompt."""
        return encode_prompt(self.tokenizer, self.prompt(given))

    def identity(self, arm: Arm, seed: int) -> dict[str, Any]:
        """What a continuation of an arm must share besides what every run does."""
        return {"arm": arm.describe(), "seed": seed, **self.held}

    @functools.cached_property
    def held(self) -> dict[str, Any]:
        """Digests of the records and the tokenizer, and how answers are judged."""
        return {"tokenizer": records_digest([self.tokenizer.inner.to_str()]), **_held(self.data)}

    def make_mesh(self) -> jax.sharding.Mesh:
        """All devices in the preset's shape."""
        return make_mesh(self.preset.mesh or MeshConfig())


def open_workspace(
    experiment: Experiment,
    path: Path,
    preset: Preset,
    *,
    data_dir: Path | None = None,
    model_dir: Path | None = None,
) -> Workspace:
    """Builds what is missing in the run folder and loads it.

    data_dir: of the data set; unless given RUN_DIR/data. model_dir: the language model to start
    from, if not the preset's own.

    Raises UserError if the folder was made with another preset or of other records, its data are
    damaged, or the preset and `model_dir` do not go together.
    """
    _check_model(preset, model_dir)
    own = data_dir is None
    where = path / "data" if own else data_dir

    def prepare() -> Data | None:
        # One process writes; the others wait for it, or stop with its error.
        if jax.process_index() != 0:
            return None
        _check_stored(path / _PRESET, preset.to_json(), "with another preset")
        data = experiment.open_data(where, preset, own)
        about = {"experiment": experiment.name, **_held(data)}
        _check_stored(path / _RUN, about, "of other records, or judged otherwise")
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / _PRESET, preset.to_json())
        write_json(path / _RUN, {"data_dir": _written(where, path), **about})
        return data

    data = together(prepare)
    check_shared(path)
    data = data or experiment.open_data(where, preset, False)
    shared = {"experiment": experiment, "path": path, "preset": preset, "data": data}
    if preset.pretrained is not None:
        return _published(shared, preset.pretrained, model_dir)
    together(lambda: _keep_tokenizer(experiment, path / _TOKENIZER, data, preset))
    tokenizer = load_tokenizer(path / _TOKENIZER)
    start = functools.partial(new_model, preset.decoder, tokenizer)
    return Workspace(**shared, tokenizer=tokenizer, open_start=start)


def _published(shared: Mapping[str, Any], start: PretrainedStart, model_dir: Path | None):
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

    return Workspace(**shared, tokenizer=tokenizer, open_start=published_model)


def _keep_tokenizer(experiment: Experiment, path: Path, data: Data, preset: Preset) -> None:
    """Trains the tokenizer if there is none, or if the file is damaged.

    The same records give the same one; arms that were trained with another refuse to go on.
    """
    if jax.process_index() != 0:
        return
    try:
        load_tokenizer(path)
    except UserError:
        if experiment.tokenizer is None:
            raise UserError(
                f"preset {preset.name!r} trains a new policy, and experiment {experiment.name} has "
                "no tokenizer for one; choose a preset that starts from a language model"
            ) from None
        experiment.tokenizer(data, preset).save(path)


def _held(data: Data) -> dict[str, Any]:
    return json_tree({"records": data.digests, "judged": dict(data.judged)})


def _written(data_dir: Path, path: Path) -> str:
    """Relative inside of the run folder, which may be moved."""
    whole, folder = data_dir.resolve(), path.resolve()
    inside = whole.is_relative_to(folder)
    return str(whole.relative_to(folder) if inside else whole)


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


def _check_stored(path: Path, wanted: Mapping[str, Any], made: str) -> None:
    stored = _stored(path)
    if stored is None:
        return
    compared = {name: value for name, value in stored.items() if name != "data_dir"}
    if differences := differing_fields(compared, dict(wanted)):
        more = len(differences) - _MOST_LINES
        lines = [textwrap.shorten(line, 160) for line in differences[:_MOST_LINES]]
        lines += [f"and {more} more"] if more > 0 else []
        raise UserError(
            f"{path.parent} was made {made}; choose another --run-dir, or the options it was made "
            "with:\n  " + "\n  ".join(lines)
        )


def _stored(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    stored = read_json(path)
    if not isinstance(stored, dict):
        raise UserError(f"{path} holds no object; choose another --run-dir, or delete the file")
    return stored

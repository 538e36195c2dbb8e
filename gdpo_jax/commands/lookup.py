"""Words of a command line as objects: a reward function by its file, an estimator by its name."""

import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gdpo_jax.advantages import ESTIMATORS, AdvantageTransform
from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import RewardFunction, named_reward

__all__ = ["estimator_of", "load_reward"]


def load_reward(text: str) -> RewardFunction:
    """The reward that FILE.py:NAME or MODULE:NAME names; the file is run.

    Raises UserError for a text of another form, a file or name that is not there, a file that
    raises, and an object that is no reward.
    """
    where, colon, name = text.rpartition(":")
    if not colon or not where or not name:
        raise UserError(f"--rewards {text!r}: write FILE.py:FUNCTION, or MODULE:FUNCTION")
    module = _run_file(Path(where), text) if where.endswith(".py") else _import(where, text)
    if not hasattr(module, name):
        raise UserError(f"--rewards {text}: {where} has no {name!r}")
    found = getattr(module, name)
    if isinstance(found, type):
        raise UserError(f"--rewards {text}: {name} is a class; name a function or an instance")
    return named_reward(found)


def _run_file(path: Path, text: str) -> Any:
    if not path.is_file():
        raise UserError(f"--rewards {text}: there is no file {path}")
    name = f"rewards_of_{path.resolve().as_posix()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    # As for a script: a reward may import what lies beside it.
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(
            f"--rewards {text}: {path} raised {type(error).__name__}: {error}"
        ) from error
    return module


def _import(name: str, text: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"--rewards {text}: cannot import {name!r}: {error}") from error


def estimator_of(name: str, weights: Sequence[str], rewards: Sequence[str]) -> AdvantageTransform:
    """The estimator of that name with weights such as "brief=0.2"; a reward not named weighs 1.

    Raises UserError for an unknown estimator, one that needs more than weights, and weights that
    are no numbers or of no reward.
    """
    if name not in ESTIMATORS:
        raise UserError(f"--estimator {name!r} is unknown; legal: {', '.join(ESTIMATORS)}")
    needed = [
        parameter.name
        for parameter in inspect.signature(ESTIMATORS[name]).parameters.values()
        if parameter.default is parameter.empty
    ]
    if needed:
        raise UserError(
            f"--estimator {name} needs {', '.join(needed)}; call gdpo_jax.optimize from Python, "
            f"with estimator={name}(...)"
        )
    given = dict(_weight(text, rewards) for text in weights)
    return ESTIMATORS[name]({reward: given.get(reward, 1.0) for reward in rewards})


def _weight(text: str, rewards: Sequence[str]) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if name not in rewards or not math.isfinite(weight):
        raise UserError(
            f"--weights {text!r}: write NAME=NUMBER, with one of the rewards {', '.join(rewards)}"
        )
    return name, weight

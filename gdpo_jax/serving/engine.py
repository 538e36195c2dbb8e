"""An engine whose sampler is a server: it gets the parameters of each step, and draws with them."""

import dataclasses
import math
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Int, Key

from gdpo_jax.errors import UserError
from gdpo_jax.models import Model
from gdpo_jax.policies import LoraConfig, Params, Policy, trained_part
from gdpo_jax.policies.extras import need
from gdpo_jax.policies.lora import BASE
from gdpo_jax.rollouts import Engine, Rollout, SamplerConfig
from gdpo_jax.rollouts.checks import check_sampler_ids
from gdpo_jax.serving.access import read_access
from gdpo_jax.serving.choices import check_version, read_choices
from gdpo_jax.serving.client import Client
from gdpo_jax.serving.drawing import seed_of
from gdpo_jax.serving.parameters import Update, check_sendable, write_parameters
from gdpo_jax.training import fingerprint, to_local

__all__ = ["ServerEngine", "server_engine"]

T = TypeVar("T")
_TOKEN_BYTES = 256  # of an answer for each token, at most: its text, id and log-probs


@dataclasses.dataclass
class _Sent:
    """The parameters that the server has: their version, and their arrays as long as they live;
    and the digest of the base below adapters, None for a whole model."""

    version: int | None = None
    arrays: tuple[weakref.ref, ...] = ()
    base: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerEngine:
    """The server behind the protocol; see `server_engine`."""

    policy: Policy
    config: SamplerConfig
    model: str
    client: Client
    parameters_client: Client
    sent: _Sent = dataclasses.field(default_factory=_Sent, repr=False, compare=False)

    def generate(
        self,
        params: Params,
        prompts: Int[Array | np.ndarray, "B P"],
        prompt_lengths: Int[Array | np.ndarray, "B"],
        key: Key[Array, ""],
        *,
        num_samples: int,
    ) -> Rollout:
        """As the protocol says, after the parameters are sent if they changed.

        Raises UserError for a server that cannot be reached, fails, answers something else, has no
        log-probs, or draws with other parameters than those that were sent.
        """
        version = self._sent_version(params)
        padded, lengths = to_local((prompts, prompt_lengths))
        rows = [row[:length].tolist() for row, length in zip(padded, lengths)]
        arrays = self._named(lambda: self._drawn(rows, seed_of(key), num_samples, version))
        return Rollout(prompts=padded, prompt_lengths=lengths, **arrays)

    def _drawn(
        self, rows: list[list[int]], seed: int, num_samples: int, version: int
    ) -> dict[str, Any]:
        config = self.config
        body = {
            "model": self.model,
            "prompt": rows,
            "n": num_samples,
            "max_tokens": config.max_new_tokens,
            "temperature": config.temperature,
            "seed": seed,
            "logprobs": 0,
            "return_token_ids": True,
            "ignore_eos": True,
            "stop_token_ids": list(config.stop_ids),
        }
        # As the sampler's own defaults, which not every server knows.
        cuts = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
        body |= {
            name: getattr(config, name)
            for name, off in cuts.items()
            if getattr(config, name) != off
        }
        tokens = len(rows) * num_samples * config.max_new_tokens
        answer = self.client.post("/completions", body, most=(1 << 20) + _TOKEN_BYTES * tokens)
        check_version(answer, version)
        return read_choices(
            answer,
            prompts=len(rows),
            num_samples=num_samples,
            sampler=config,
            vocab_size=self.policy.config.vocab_size,
        )

    def _sent_version(self, params: Params) -> int:
        """The version of the parameters at the server, which are sent first if they changed."""
        leaves = jax.tree.leaves(trained_part(self.policy, params))
        known = [array() for array in self.sent.arrays]
        if self.sent.version is not None and all(a is b for a, b in zip(leaves, known)):
            return self.sent.version
        if self.sent.base is None and isinstance(self.policy.trained_config, LoraConfig):
            self.sent.base = fingerprint(params[BASE])
        version = self.sent.version
        if version is None:
            version = self._named(self._server_version)
        self._named(lambda: self._send(params, version + 1))
        self.sent.version = version + 1
        self.sent.arrays = tuple(map(weakref.ref, leaves))
        return version + 1

    def _server_version(self) -> int:
        about = self.parameters_client.get("/parameters")
        self._check_base(about)
        if type(about.get("version")) is not int:
            raise UserError("it does not tell the version of its parameters")
        return about["version"]

    def _send(self, params: Params, version: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "parameters.safetensors"
            lora = write_parameters(file, self.policy, params)
            words = Update(version, lora).words()
            taken = self.parameters_client.put_file("/parameters", words, file)
        # It may be another server than the last time.
        self._check_base(taken)
        if taken.get("version") != version:
            raise UserError(
                f"it was sent parameters with version {version}, and has {taken.get('version')}"
            )

    def _check_base(self, about: Mapping[str, Any]) -> None:
        if self.sent.base not in (None, about.get("base")):
            raise UserError(
                "it has another base model than the one whose adapters are trained; serve the same "
                "folder"
            )

    def _named(self, work: Callable[[], T]) -> T:
        url = self.client.access.url
        try:
            return work()
        except UserError as error:
            named = str(error).startswith(f"server {url}")
            raise (error if named else UserError(f"server {url}: {error}")) from None


def server_engine(
    model: Model,
    sampler: SamplerConfig,
    *,
    url: str,
    served: str | None = None,
    api_key: str | None = None,
    parameters_key: str | None = None,
    timeout: float = 600.0,
    retries: int = 4,
) -> Engine:
    """An engine that samples at `python -m gdpo_jax serve`, for `optimize` and the loop below it.

    model: what is trained. The server must have the same one: with adapters only these are sent
    before each step, else all parameters. With the same seed it draws the tokens that the own
    sampler draws.

    url: of the server, such as http://localhost:8000/v1. served: the model's name there; the
    model's own unless given. api_key, parameters_key: what it asks for of clients and of trainers.
    timeout: seconds from a request to the end of its answer. retries: of a request that met no
    server or a busy one.

    Raises UserError for an address that is none, a model whose parameters cannot be sent, stop and
    padding ids outside of its vocabulary, and a run of several processes.
    """
    if jax.process_count() > 1:
        raise UserError("a server engine samples for one process; use the own sampler on several")
    if not (math.isfinite(timeout) and timeout > 0) or retries < 0:
        raise UserError(
            f"timeout={timeout}, retries={retries}; give seconds above 0, and 0 or more"
        )
    check_sendable(model.policy)
    check_sampler_ids(model.policy, sampler)
    need("httpx2", "an engine at a server")
    need("safetensors", "sending parameters")
    options = {"timeout": timeout, "retries": retries}
    return ServerEngine(
        policy=model.policy,
        config=sampler,
        model=model.name if served is None else served,
        client=Client(access=read_access(url, api_key), **options),
        parameters_client=Client(access=read_access(url, parameters_key), **options),
    )

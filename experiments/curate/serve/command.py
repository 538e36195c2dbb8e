"""`serve`: the server from the command line."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from experiments.common.runs.chat_models import ModelOptions, open_chat_model
from experiments.common.runs.experiment import Experiment
from experiments.curate.mirror.log import CostLog, cost_table
from experiments.curate.mirror.runtime import Pace, Runtime
from experiments.curate.mirror.store import open_memories
from experiments.curate.mirror.thinking import Thinking
from gdpo_jax.errors import UserError
from gdpo_jax.serving.access import read_key

__all__ = ["serving"]

_MEMORY = Path("mirror.sqlite")


def serving(experiment: Experiment) -> Callable[..., None]:
    """The command `serve` of an experiment, whose trained arms it can serve."""

    def serve(
        options: Annotated[ModelOptions, arg(name="")] = ModelOptions(),
        mirror: bool = False,
        thinking: Thinking = Thinking(),
        pace: Pace = Pace(),
        host: str = "127.0.0.1",
        port: int = 8080,
        name: str = "",
        memory: Path | None = None,
        log: Path | None = None,
        max_new_tokens: int = 1024,
        most_bytes: int = 1 << 20,
        client_key_variable: str = "",
    ) -> None:
        """Serve a model through OpenAI's chat protocol, with MIRROR around it if asked.

        Requests that name a `user` are answered with that user's memory; others have none. Answers
        can be streamed, but begin when they are whole. Ends with Ctrl-C.

        Args:
            mirror: think between turns, and give the talker the narrative.
            thinking: how MIRROR thinks.
            pace: time-outs, and how much may go on at a time.
            host: address to listen on; give a key to clients before you open it to a network.
            port: port to listen on.
            name: of the model for clients; as --model unless given.
            memory: file of memories; mirror.sqlite unless given.
            log: file of one JSON row for every answer and thought: times, tokens, costs, the age
                of the narrative, and no word of what was said.
            max_new_tokens: of an answer, at most.
            most_bytes: of a request's body.
            client_key_variable: environment variable with the key that clients must send.
        """
        if not mirror and (thinking != Thinking() or memory is not None):
            raise UserError("--thinking and --memory belong to MIRROR; give --mirror")
        for option, value, most in (("port", port, 65535), ("max-new-tokens", max_new_tokens, 1e9)):
            if not 1 <= value <= most:
                raise UserError(f"--{option} {value}; give 1 to {most:g}")
        if most_bytes < 1024:
            raise UserError(f"--most-bytes {most_bytes}; give at least 1024")
        uvicorn, app_module = _packages()
        key = read_key(client_key_variable, "client-key-variable")
        model, console = open_chat_model(options, experiment), Console(soft_wrap=True)
        events = CostLog(log, console)
        with contextlib.ExitStack() as stack:
            memories = None
            if mirror:
                memories = open_memories(memory or _MEMORY, thinking.bounds)
                stack.callback(memories.close)
            app = app_module.make_app(
                lambda: Runtime(model, memories, thinking if mirror else None, pace, events),
                memories,
                app_module.ServerOptions(
                    name=name or options.model,
                    max_new_tokens=max_new_tokens,
                    most_bytes=most_bytes,
                    key=key,
                ),
            )
            about = f"{name or options.model}{' with MIRROR' if mirror else ''}"
            console.print(f"{about}: http://{host}:{port}/v1", highlight=False, markup=False)
            uvicorn.run(app, host=host, port=port, log_level="warning")
        console.print(cost_table(events.costs))

    return serve


def _packages():
    try:
        import uvicorn

        from experiments.curate.serve import app
    except ImportError:
        raise UserError(
            "serve needs starlette and uvicorn; pip install 'gdpo-jax[serve]'"
        ) from None
    return uvicorn, app

"""`serve`: a model behind OpenAI's protocol, from the command line."""

from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from gdpo_jax.commands.options import ModelOptions
from gdpo_jax.errors import UserError
from gdpo_jax.policies.extras import need
from gdpo_jax.serving.access import read_key
from gdpo_jax.serving.requests import Limits

__all__ = ["serve"]


def serve(
    model: Annotated[ModelOptions, arg(name="")],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str = "",
    max_new_tokens: int = 1024,
    rows: int = 128,
    bucket: int = 64,
    most_waiting: int = 256,
    most_bytes: int = 1 << 24,
    client_key_variable: str = "",
    parameters_key_variable: str = "",
) -> None:
    """Serve a model through OpenAI's protocol: models, completions and chat completions.

    Ends with Ctrl-C. docs/serving.md has the fields that are supported.

    Args:
        host: address to listen on; give a key to clients before you open it to a network.
        port: port to listen on.
        name: of the model for clients; as --model unless given.
        max_new_tokens: of an answer, at most.
        rows: completions that are decoded together, and of one prompt at most.
        bucket: prompts are padded to 1, 2, 3, 4, 6, 8, ... times so many tokens.
        most_waiting: requests that may wait; further ones are refused for the time being.
        most_bytes: of a request's body.
        client_key_variable: environment variable with the key that clients must send.
        parameters_key_variable: environment variable with the key that a trainer must send with new
            parameters (server_engine); unless given, none are taken.
    """
    for option, value, least, most in (
        ("port", port, 1, 65535),
        ("max-new-tokens", max_new_tokens, 1, 2**20),
        ("rows", rows, 1, 2**16),
        ("bucket", bucket, 1, 2**16),
        ("most-waiting", most_waiting, 1, 2**20),
        ("most-bytes", most_bytes, 1024, 2**40),
    ):
        if not least <= value <= most:
            raise UserError(f"--{option} {value}; give {least} to {most}")
    if model.distributed:
        raise UserError("serve runs in one process; leave --distributed out")
    uvicorn = need("uvicorn", "serve")
    need("starlette", "serve")
    from gdpo_jax.serving.app import ServerOptions, make_app

    keys = {
        "key": read_key(client_key_variable, "client-key-variable"),
        "parameters_key": read_key(parameters_key_variable, "parameters-key-variable"),
    }
    opened = model.open()
    limits = Limits(name=name or model.model, max_new_tokens=max_new_tokens, rows=rows)
    app = make_app(
        opened,
        ServerOptions(
            limits=limits, bucket=bucket, most_waiting=most_waiting, most_bytes=most_bytes, **keys
        ),
    )
    say = Console(soft_wrap=True).print
    say(f"{limits.name}: http://{host}:{port}/v1", highlight=False, markup=False)
    uvicorn.run(app, host=host, port=port, log_level="warning")

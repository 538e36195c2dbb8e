"""The server's application: OpenAI's routes around a `Service` (extra `serve`)."""

import asyncio
import contextlib
import dataclasses
import secrets
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gdpo_jax.errors import UserError
from gdpo_jax.models import Model
from gdpo_jax.policies import num_params
from gdpo_jax.serving.drawing import Job
from gdpo_jax.serving.fields import BadRequest
from gdpo_jax.serving.http import (
    ERRORS,
    body_parts,
    failed,
    guarded,
    model_routes,
    read_body,
)
from gdpo_jax.serving.parameters import read_update
from gdpo_jax.serving.replies import About, choices_of, chunks, whole
from gdpo_jax.serving.requests import Asked, Limits, read_chat, read_completion
from gdpo_jax.serving.service import Result, Service

__all__ = ["ServerOptions", "make_app"]

_HEADER = 1 << 24  # bytes of a file of parameters besides its numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What clients may do."""

    limits: Limits  # of one request
    bucket: int = 64  # tokens; prompts are padded to 1, 2, 3, 4, 6, ... times it
    most_waiting: int = 256  # requests; further ones are refused for the time being
    most_bytes: int = 1 << 24  # of a request's body
    key: str | None = dataclasses.field(default=None, repr=False)  # that clients must send
    # That trainers must send with new parameters; None takes none.
    parameters_key: str | None = dataclasses.field(default=None, repr=False)


def make_app(model: Model, options: ServerOptions) -> Starlette:
    """The application that serves a model, with adapters merged where it has them."""
    served, limits = model.merged(), options.limits
    service = Service(
        served, bucket=options.bucket, rows=limits.rows, most_waiting=options.most_waiting
    )
    largest = 4 * num_params(served.params) + _HEADER

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        with service:
            yield

    async def chat(request: Request) -> Response:
        body = await read_body(request, options.most_bytes)
        return await answered(await run_in_threadpool(read_chat, body, served, limits), True)

    async def completion(request: Request) -> Response:
        body = await read_body(request, options.most_bytes)
        return await answered(await run_in_threadpool(read_completion, body, served, limits), False)

    async def answered(asked: Asked, chat: bool) -> Response:
        seed = secrets.randbits(63) if asked.seed is None else asked.seed
        job = Job(asked.prompts, asked.num_samples, seed, asked.sampler)
        result: Result = await asyncio.wrap_future(service.draw(job))
        about = About(
            name=f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}",
            model=limits.name,
            created=int(time.time()),
            version=result.version,
            chat=chat,
        )
        tokenizer = served.tokenizer
        choices = await run_in_threadpool(choices_of, tokenizer, result.completions, asked.stop)
        if asked.stream:
            events = chunks(about, asked, tokenizer, choices)
            headers = {"Cache-Control": "no-cache"}
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        return JSONResponse(await run_in_threadpool(whole, about, asked, tokenizer, choices))

    async def parameters(request: Request) -> Response:
        if options.parameters_key is None:
            message = "this server takes no parameters; start it with --parameters-key-variable"
            raise BadRequest(message, None, status=403, code="parameters_not_taken")
        if request.method == "PUT":
            await taken(request)
        return JSONResponse(_described(service))

    async def taken(request: Request) -> None:
        try:
            update = read_update(dict(request.query_params))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "parameters.safetensors"
                with path.open("wb") as file:
                    async for part in body_parts(request, largest):
                        await run_in_threadpool(file.write, part)
                await asyncio.wrap_future(service.replace(path, update))
        except UserError as error:
            raise BadRequest(str(error), None, code="invalid_parameters") from None

    routes = [
        Route("/v1/chat/completions", guarded(chat, options.key), methods=["POST"]),
        Route("/v1/completions", guarded(completion, options.key), methods=["POST"]),
        *model_routes(limits.name, "gdpo_jax", options.key),
        Route(
            "/v1/parameters", guarded(parameters, options.parameters_key), methods=["GET", "PUT"]
        ),
    ]
    return Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={**ERRORS, UserError: _model_failed}
    )


def _described(service: Service) -> dict[str, Any]:
    """The version of the parameters, the adapters in them, and the digest of the model below."""
    serving = service.serving
    lora = serving.model.policy.trained_config
    adapters = None if lora is None else dataclasses.asdict(lora)
    return {"version": serving.version, "base": serving.digest, "adapters": adapters}


async def _model_failed(request: Request, error: UserError) -> Response:
    del request
    return failed(500, f"the model gave no answer: {error}", "model_failed")

"""The application: OpenAI's routes around a `Runtime`, and the memories of users.

A request with `user` is answered with that user's memory, and thought about afterwards; the memory
is the user's, not the conversation's. One without has no memory: two strangers who both say hello
must not share one, and nothing else in a request tells who they are.
"""

import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from experiments.curate.mirror.memory import narrative_age, to_record
from experiments.curate.mirror.runtime import Busy, Late, Runtime
from experiments.curate.mirror.store import Memories
from experiments.curate.serve.replies import chunks, completion
from experiments.curate.serve.requests import read_request
from gdpo_jax.errors import UserError
from gdpo_jax.serving.fields import BadRequest
from gdpo_jax.serving.http import ERRORS, failed, guarded, model_routes, read_body

__all__ = ["ServerOptions", "make_app"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What clients may do."""

    name: str  # of the model, as clients give it
    max_new_tokens: int = 1024  # of an answer at most
    most_bytes: int = 1 << 20  # of a request's body
    key: str | None = dataclasses.field(default=None, repr=False)  # that clients must send
    settle: float = 5.0  # seconds that the end of the server waits for thinking


def make_app(
    open_runtime: Callable[[], Runtime], memories: Memories | None, options: ServerOptions
) -> Starlette:
    """The application. open_runtime: called in the server's event loop, and closed at its end."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.runtime = open_runtime()
        try:
            yield
            await app.state.runtime.settle(options.settle)
        finally:
            await app.state.runtime.close()

    async def chat(request: Request) -> Response:
        body = await read_body(request, options.most_bytes)
        asked = read_request(body, model=options.name, max_new_tokens=options.max_new_tokens)
        runtime: Runtime = request.app.state.runtime
        reply = await runtime.reply(asked.user, asked.messages, asked.limits)
        about = {
            "name": f"chatcmpl-{secrets.token_hex(12)}",
            "model": options.name,
            "created": int(time.time()),
        }
        if asked.stream:
            events = chunks(reply, **about, usage=asked.usage)
            headers = {"Cache-Control": "no-cache"}
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        return JSONResponse(completion(reply, **about))

    async def list_memories(request: Request) -> Response:
        del request
        users = await run_in_threadpool(_kept(memories).users)
        return JSONResponse({"object": "list", "data": [dataclasses.asdict(u) for u in users]})

    async def memory(request: Request) -> Response:
        user, kept = request.path_params["user"], _kept(memories)
        if request.method == "DELETE":
            cleared = await run_in_threadpool(kept.clear, user)
            return JSONResponse({"user": user, "deleted": cleared})
        found = await run_in_threadpool(kept.load, user)
        if found is None:
            raise BadRequest(f"nothing is known of user {user!r}", "user", status=404, code=None)
        return JSONResponse(
            {"user": user, "narrative_age": narrative_age(found), **to_record(found)}
        )

    routes = [
        Route("/v1/chat/completions", guarded(chat, options.key), methods=["POST"]),
        *model_routes(options.name, "experiments.curate", options.key),
        Route("/v1/memories", guarded(list_memories, options.key)),
        Route("/v1/memories/{user:path}", guarded(memory, options.key), methods=["GET", "DELETE"]),
    ]
    handlers = {**ERRORS, Busy: _busy, Late: _late, UserError: _model_failed}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


def _kept(memories: Memories | None) -> Memories:
    if memories is None:
        raise BadRequest("this server keeps no memories", None, status=404, code=None)
    return memories


async def _busy(request: Request, error: Busy) -> Response:
    del request
    return failed(429, str(error), "too_many_requests", **{"Retry-After": "1"})


async def _late(request: Request, error: Late) -> Response:
    del request
    return failed(504, str(error), "model_timeout")


async def _model_failed(request: Request, error: UserError) -> Response:
    del request
    return failed(502, f"the model gave no answer: {error}", "model_failed")

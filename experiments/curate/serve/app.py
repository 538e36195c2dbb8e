"""The application: OpenAI's routes around a `Runtime`, and the memories of users.

A request with `user` is answered with that user's memory, and thought about afterwards; the memory
is the user's, not the conversation's. One without has no memory: two strangers who both say hello
must not share one, and nothing else in a request tells who they are.
"""

import contextlib
import dataclasses
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from experiments.curate.mirror.memory import narrative_age, to_record
from experiments.curate.mirror.runtime import Busy, Late, Runtime
from experiments.curate.mirror.store import Memories
from experiments.curate.serve.replies import chunks, completion, error_object, model_object
from experiments.curate.serve.requests import BadRequest, read_request
from gdpo_jax.errors import UserError

__all__ = ["ServerOptions", "make_app"]

_DRAINED = 16  # times the largest body: more than that is not even read to its end


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
    created = int(time.time())

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.runtime = open_runtime()
        try:
            yield
            await app.state.runtime.settle(options.settle)
        finally:
            await app.state.runtime.close()

    async def chat(request: Request) -> Response:
        body = await _body(request, options.most_bytes)
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

    async def models(request: Request) -> Response:
        del request
        return JSONResponse({"object": "list", "data": [model_object(options.name, created)]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name != options.name:
            message = f"there is no model {name!r}; this server has {options.name!r}"
            raise BadRequest(message, "model", status=404, code="model_not_found")
        return JSONResponse(model_object(options.name, created))

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

    def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
        async def checked(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            wanted = None if options.key is None else f"Bearer {options.key}"
            if wanted is not None and not hmac.compare_digest(given.encode(), wanted.encode()):
                raise BadRequest(
                    "the key is missing or wrong", None, status=401, code="invalid_api_key"
                )
            return await handler(request)

        return checked

    routes = [
        Route("/v1/chat/completions", guarded(chat), methods=["POST"]),
        Route("/v1/models", guarded(models)),
        Route("/v1/models/{name:path}", guarded(model)),
        Route("/v1/memories", guarded(list_memories)),
        Route("/v1/memories/{user:path}", guarded(memory), methods=["GET", "DELETE"]),
    ]
    handlers = {
        BadRequest: _bad_request,
        HTTPException: _http_error,
        Busy: _busy,
        Late: _late,
        UserError: _model_failed,
        Exception: _defect,
    }
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


async def _body(request: Request, most: int) -> bytes:
    """The whole body. Of one that is too large, the rest is read and dropped, up to a limit: a
    client that is still sending when the connection is closed may never see why."""
    body, size = bytearray(), 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= most:
                body += part
            elif size > _DRAINED * most:
                break
    except ClientDisconnect:
        raise BadRequest("the body was cut", None, code="invalid_json") from None
    if size > most:
        message = f"the body has more than {most} bytes"
        raise BadRequest(message, None, status=413, code="request_too_large")
    return bytes(body)


def _kept(memories: Memories | None) -> Memories:
    if memories is None:
        raise BadRequest("this server keeps no memories", None, status=404, code=None)
    return memories


def _failed(
    status: int, message: str, code: str | None = None, field: str | None = None, **headers: str
) -> Response:
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    body = error_object(message, kind=kind, code=code, field=field)
    return JSONResponse(body, status, headers)


async def _bad_request(request: Request, error: BadRequest) -> Response:
    del request
    where = f"{error.field}: " if error.field else ""
    closing = {"Connection": "close"} if error.status == 413 else {}
    return _failed(error.status, f"{where}{error}", error.code, error.field, **closing)


async def _http_error(request: Request, error: HTTPException) -> Response:
    message = f"{request.method} {request.url.path}: {error.detail}"
    return _failed(error.status_code, message, **(error.headers or {}))


async def _busy(request: Request, error: Busy) -> Response:
    del request
    return _failed(429, str(error), "too_many_requests", **{"Retry-After": "1"})


async def _late(request: Request, error: Late) -> Response:
    del request
    return _failed(504, str(error), "model_timeout")


async def _model_failed(request: Request, error: UserError) -> Response:
    del request
    return _failed(502, f"the model gave no answer: {error}", "model_failed")


async def _defect(request: Request, error: Exception) -> Response:
    # The traceback goes to the log; what it says is not for clients. The connection is closed
    # behind it, and clients must not use it again.
    del request, error
    message = "the server has a defect; its log tells more"
    return _failed(500, message, "internal_error", Connection="close")

"""What servers of OpenAI's protocol share of HTTP (extra `serve`): bodies, keys, models, errors."""

import hmac
import time
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gdpo_jax.serving.fields import BadRequest
from gdpo_jax.serving.objects import error_object, model_list, model_object

__all__ = ["ERRORS", "body_parts", "failed", "guarded", "model_routes", "read_body"]

Handler = Callable[[Request], Any]
_DRAINED = 16  # times the largest body: more than that is not even read to its end


async def body_parts(request: Request, most: int) -> Any:
    """The body, part by part. Of one that is too large, the rest is read and dropped, up to a
    limit: a client that is still sending when the connection is closed may never see why."""
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= most:
                yield part
            elif size > _DRAINED * most:
                break
    except ClientDisconnect:
        raise BadRequest("the body was cut", None, code="invalid_json") from None
    if size > most:
        message = f"the body has more than {most} bytes"
        raise BadRequest(message, None, status=413, code="request_too_large")


async def read_body(request: Request, most: int) -> bytes:
    """The whole body, of at most so many bytes."""
    return b"".join([part async for part in body_parts(request, most)])


def guarded(handler: Handler, key: str | None) -> Handler:
    """The handler for those who send the key; for all where there is none."""
    wanted = None if key is None else f"Bearer {key}".encode()

    async def checked(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if wanted is not None and not hmac.compare_digest(given, wanted):
            message = "the key is missing or wrong"
            raise BadRequest(message, None, status=401, code="invalid_api_key")
        return await handler(request)

    return checked


def model_routes(served: str, owner: str, key: str | None) -> list[Route]:
    """The list of the one model that a server has, and the model itself."""
    about = model_object(served, int(time.time()), owner)

    async def models(request: Request) -> Response:
        del request
        return JSONResponse(model_list(about))

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name != served:
            message = f"there is no model {name!r}; this server has {served!r}"
            raise BadRequest(message, "model", status=404, code="model_not_found")
        return JSONResponse(about)

    return [
        Route("/v1/models", guarded(models, key)),
        Route("/v1/models/{name:path}", guarded(model, key)),
    ]


def failed(
    status: int, message: str, code: str | None = None, field: str | None = None, **headers: str
) -> Response:
    """An error of the protocol."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return JSONResponse(error_object(message, kind=kind, code=code, field=field), status, headers)


async def _bad_request(request: Request, error: BadRequest) -> Response:
    del request
    where = f"{error.field}: " if error.field else ""
    closing = {"Connection": "close"} if error.status == 413 else {}
    return failed(error.status, f"{where}{error}", error.code, error.field, **closing)


async def _http_error(request: Request, error: HTTPException) -> Response:
    message = f"{request.method} {request.url.path}: {error.detail}"
    return failed(error.status_code, message, **(error.headers or {}))


async def _defect(request: Request, error: Exception) -> Response:
    # The traceback goes to the log; what it says is not for clients. The connection is closed
    # behind it, and clients must not use it again.
    del request, error
    message = "the server has a defect; its log tells more"
    return failed(500, message, "internal_error", Connection="close")


ERRORS = {BadRequest: _bad_request, HTTPException: _http_error, Exception: _defect}

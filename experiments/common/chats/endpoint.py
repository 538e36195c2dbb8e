"""A model behind an endpoint that speaks OpenAI's chat protocol (extra `endpoints`).

The openai package asks, waits and asks again; this module sees to it that a call ends in time, that
an answer is bounded, and that the key goes to the address it is meant for and nowhere else.
"""

import asyncio
import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.common.chats.messages import Conversation, check_conversation
from experiments.common.chats.model import (
    Answer,
    Limits,
    Model,
    OnAnswer,
    OnFailure,
    conversation_names,
)
from gdpo_jax.errors import UserError
from gdpo_jax.rollouts.event_loop import run_coroutine
from gdpo_jax.serving.access import Access, read_access
from gdpo_jax.serving.client import trusted_certificates

__all__ = ["Prices", "endpoint_model"]

_LARGEST = 8 << 20  # bytes of one answer
_OWN_FIELDS = {"model", "messages", "temperature", "stop", "seed", "stream", "n"}


@dataclasses.dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in any currency."""

    prompt: float
    completion: float

    def __post_init__(self):
        for name, price in vars(self).items():
            if not (math.isfinite(price) and price >= 0):
                raise UserError(f"price of {name} tokens: {price}; give 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Endpoint:
    access: Access
    name: str
    prices: Prices | None
    concurrency: int
    timeout: float
    retries: int
    fields: Mapping[str, Any]
    length_field: str

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"endpoint": self.access.url, "model": self.name, "fields": dict(self.fields)}

    def answer(
        self,
        conversations: Sequence[Conversation],
        limits: Limits,
        *,
        names: Sequence[str] | None = None,
        on_answer: OnAnswer | None = None,
        on_failure: OnFailure | None = None,
    ) -> list[Answer | None]:
        names = conversation_names(conversations, names)
        checked = [check_conversation(c, name) for c, name in zip(conversations, names)]
        if not checked:
            return []
        packages = _packages()
        answers, fatal = run_coroutine(
            _answer_all(self, packages, checked, limits, names, on_answer or _ignore, on_failure)
        )
        if fatal:
            raise fatal[0]
        return [answers.get(n) for n in range(len(checked))]


def endpoint_model(
    url: str,
    *,
    model: str,
    api_key: str | None = None,
    prices: Prices | None = None,
    concurrency: int = 8,
    timeout: float = 120.0,
    retries: int = 4,
    fields: Mapping[str, Any] | None = None,
    length_field: str = "max_tokens",
) -> Model:
    """The model that `url`/chat/completions serves under the name `model`.

    api_key: sent to this address alone, and shown nowhere. prices: for the cost of answers.
    concurrency: requests at a time. timeout: seconds from a request to the end of its answer.
    retries: of a request that is refused for the time being (429, 5xx), cut or late; waits as
    `Retry-After` says, up to two minutes. fields: further fields of the request, such as
    {"top_p": 0.9}. length_field: how the server calls the limit; "max_completion_tokens" for
    OpenAI's reasoning models.

    `answer` raises `UserError` that names endpoint and conversation for a request that is refused
    for good, and for one that still fails after the retries. No further requests begin then; those
    under way are waited for. With `on_failure` it raises so for a refused key and a redirect alone,
    which would meet every request. Works where an event loop runs already.
    """
    if not model:
        raise UserError("give the name of the model that the endpoint shall use")
    for name, value, least in (("concurrency", concurrency, 1), ("retries", retries, 0)):
        if value < least:
            raise UserError(f"{name}={value}; give at least {least}")
    if not (math.isfinite(timeout) and timeout > 0):
        raise UserError(f"timeout={timeout}; give seconds above 0")
    fields = dict(fields or {})
    taken = sorted(fields.keys() & (_OWN_FIELDS | {length_field}))
    if taken:
        raise UserError(f"fields: {taken[0]!r} is set by the arguments and limits; leave it out")
    return _Endpoint(
        access=read_access(url, api_key),
        name=model,
        prices=prices,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        fields=fields,
        length_field=length_field,
    )


class _Failed(Exception):
    """Why a request failed for good, with nothing secret in it."""

    def __init__(self, reason: str, *, always: bool = False):
        super().__init__(reason)
        self.always = always  # would every other request fail as well?


class _TooLarge(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class _Packages:
    """What is used of the packages of the extra."""

    openai: Any
    httpx: Any


def _packages() -> _Packages:
    try:
        import httpx2
        import openai
    except ImportError:
        raise UserError(
            "endpoints need the package openai; pip install 'gdpo-jax[endpoints]'"
        ) from None
    return _Packages(openai, httpx2)


def _ignore(position: int, answer: Answer) -> None:
    del position, answer


async def _answer_all(
    endpoint: _Endpoint,
    packages: _Packages,
    conversations: Sequence[Conversation],
    limits: Limits,
    names: Sequence[str],
    on_answer: OnAnswer,
    on_failure: OnFailure | None,
) -> tuple[dict[int, Answer], list[UserError]]:
    """Answers by position, and the failures that end the call."""
    answers: dict[int, Answer] = {}
    fatal: list[UserError] = []
    waiting = iter(range(len(conversations)))

    async def work(ask: Callable[[Mapping[str, Any]], Any]) -> None:
        for n in waiting:
            try:
                answer = await _answer_one(endpoint, ask, _body(endpoint, conversations[n], limits))
            except _Failed as failure:
                error = UserError(f"endpoint {endpoint.access.url}, {names[n]}: {failure}")
                if on_failure is None or failure.always:
                    fatal.append(error)
                else:
                    on_failure(n, error)
            else:
                answers[n] = answer
                on_answer(n, answer)
            if fatal:
                return

    async with _http_client(endpoint, packages) as http:
        client = packages.openai.AsyncOpenAI(
            api_key="-",  # the client below puts the real one in, at the last moment
            base_url=endpoint.access.url,
            max_retries=endpoint.retries,
            timeout=endpoint.timeout,
            http_client=http,
        )
        ask = _asker(endpoint, packages, client)
        workers = min(endpoint.concurrency, len(conversations))
        await asyncio.gather(*(work(ask) for _ in range(workers)))
    return answers, fatal


def _body(endpoint: _Endpoint, messages: Conversation, limits: Limits) -> dict[str, Any]:
    body = {
        "model": endpoint.name,
        "messages": messages,
        "temperature": limits.temperature,
        endpoint.length_field: limits.max_new_tokens,
        **endpoint.fields,
    }
    if limits.stop:
        body["stop"] = list(limits.stop)
    if limits.seed is not None:
        body["seed"] = limits.seed + limits.sample
    return body


async def _answer_one(endpoint: _Endpoint, ask: Callable[..., Any], body: Any) -> Answer:
    """An answer; one that is no chat completion is asked for once more."""
    reason = ""
    for _ in range(2):
        content = await ask(body)
        try:
            return _read(content, endpoint)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = f"the answer is no chat completion ({_kind(content, error)})"
    raise _Failed(f"{reason}; does the address end as the server wants it, often in /v1?")


def _read(content: bytes, endpoint: _Endpoint) -> Answer:
    data = json.loads(content)
    choice = data["choices"][0]
    message = choice["message"]
    text = message["content"]
    if text is None:  # a model that refuses, or has used up its tokens before it spoke
        text = message.get("refusal") or ""
    if not isinstance(text, str):
        raise TypeError("its content is no text")
    reason = choice.get("finish_reason")
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    prompt, completion = (_count(usage.get(f"{kind}_tokens")) for kind in ("prompt", "completion"))
    cost = None
    if endpoint.prices is not None and prompt is not None and completion is not None:
        prices = endpoint.prices
        cost = (prompt * prices.prompt + completion * prices.completion) / 1e6
    return Answer(
        text=endpoint.access.hide(text),
        reason=endpoint.access.hide(reason) if isinstance(reason, str) and reason else "unknown",
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=cost,
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _kind(content: bytes, error: Exception) -> str:
    if not content.strip():
        return "it is empty"
    if content.lstrip()[:1] == b"<":
        return "it is a web page"
    if isinstance(error, (ValueError, RecursionError)):
        return f"{len(content)} bytes that are not JSON, or cut"
    return "JSON without choices[0].message.content"


def _asker(endpoint: _Endpoint, packages: _Packages, client: Any) -> Callable[..., Any]:
    """A function from the body of a request to the bytes of the answer; raises `_Failed`."""
    openai = packages.openai

    async def ask(body: Mapping[str, Any]) -> bytes:
        # What the packages raise holds the request, and so the key: it must not be chained.
        final = always = False
        try:
            response = await client.post(
                "/chat/completions", cast_to=packages.httpx.Response, body=dict(body)
            )
            return response.content
        except openai.APIStatusError as error:
            reason = _status(error, endpoint.access)
            status = error.response.status_code
            final = status not in (408, 409, 429) and status < 500
            always = status in (401, 403) or 300 <= status < 400
        except openai.APITimeoutError:
            reason = f"no whole answer within {endpoint.timeout:g} s"
        except openai.APIConnectionError as error:
            cause = error.__cause__
            reason = str(cause).strip() or type(cause).__name__
            reason = f"no whole answer ({endpoint.access.hide_pieces(reason)[:200]})"
        except _TooLarge:
            reason = f"the answer has more than {_LARGEST >> 20} MiB"
            final = True
        except openai.OpenAIError as error:
            reason = f"no answer ({type(error).__name__})"
            final = True
        asked = "" if final else f", after up to {endpoint.retries + 1} requests"
        raise _Failed(f"{reason}{asked}", always=always)

    return ask


def _status(error: Any, access: Access) -> str:
    code = error.response.status_code
    if 300 <= code < 400:
        return f"status {code}: it sends elsewhere, which is not followed; give the other address"
    if code in (401, 403):
        return f"status {code}: the key is missing, wrong or without rights"
    wait = error.response.headers.get("retry-after", "")
    wait = f", Retry-After {wait} s" if wait.isdecimal() else ""
    try:
        said = json.loads(error.response.content)["error"]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        said = ""
    said = " ".join(access.hide_pieces(said).split())[:200] if isinstance(said, str) else ""
    return f"status {code}{wait}{f': {said}' if said else ''}"


def _http_client(endpoint: _Endpoint, packages: _Packages) -> Any:
    """An HTTP client whose requests end in time with a bounded answer, and follow no redirect."""
    httpx = packages.httpx

    class Client(httpx.AsyncClient):
        async def send(self, request: Any, **options: Any) -> Any:
            for name in ("authorization", "openai-organization", "openai-project", "cookie"):
                request.headers.pop(name, None)
            if endpoint.access.authorization is not None:
                request.headers["Authorization"] = endpoint.access.authorization
            try:
                async with asyncio.timeout(endpoint.timeout):
                    return await self._whole(request, options)
            except TimeoutError:
                raise httpx.ReadTimeout("too late", request=request) from None

        async def _whole(self, request: Any, options: Mapping[str, Any]) -> Any:
            response = await super().send(
                request, **{**options, "stream": True, "follow_redirects": False}
            )
            content = bytearray()
            try:
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > _LARGEST:
                        raise _TooLarge
            finally:
                await response.aclose()
            # As it was, but read: without the headers of the transfer.
            headers = [
                (name, value)
                for name, value in response.headers.multi_items()
                if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
            ]
            return httpx.Response(
                response.status_code, headers=headers, content=bytes(content), request=request
            )

    return Client(
        timeout=endpoint.timeout,
        verify=trusted_certificates(),
        follow_redirects=False,
        limits=httpx.Limits(max_connections=endpoint.concurrency),
        headers={"Accept-Encoding": "identity"},
    )

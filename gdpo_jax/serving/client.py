"""Requests to a server that end in time, with a bounded answer or one clear error.

What the HTTP package raises holds the request, and so the key: it is never chained.
"""

import dataclasses
import functools
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gdpo_jax.errors import UserError
from gdpo_jax.policies.extras import need
from gdpo_jax.serving.access import Access

__all__ = ["Client", "trusted_certificates"]

_LONGEST_WAIT = 60.0  # seconds between two tries
_BLOCK = 1 << 20  # bytes of a file that are sent at a time
_PASSING = (429, 503)  # a server that says so has done nothing of what it was asked


@dataclasses.dataclass(frozen=True, kw_only=True)
class Client:
    """What requests to one server have in common."""

    access: Access  # where it is, and the key that is sent
    timeout: float  # seconds from a request to the end of its answer
    retries: int  # of a request that met no server, or a busy one

    def get(self, path: str) -> dict[str, Any]:
        """The object at an address. Raises UserError, as the others do, that names the server."""
        return self._ask("GET", path, most=1 << 20)

    def post(self, path: str, body: Mapping[str, Any], *, most: int) -> dict[str, Any]:
        """The object that answers another one, of at most so many bytes."""
        content = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self._ask("POST", path, most=most, content=content, headers=headers)

    def put_file(self, path: str, words: Mapping[str, str], file: Path) -> dict[str, Any]:
        """The object that answers a file."""
        headers = {"Content-Length": str(file.stat().st_size)}
        return self._ask("PUT", path, most=1 << 20, content=file, headers=headers, params=words)

    def _ask(self, method: str, path: str, *, most: int, **request: Any) -> dict[str, Any]:
        httpx = need("httpx2", "talking to a server")
        headers = {"Accept-Encoding": "identity", **request.pop("headers", {})}
        if self.access.authorization is not None:
            headers["Authorization"] = self.access.authorization
        reason = ""
        for number in range(self.retries + 1):
            try:
                status, said, content = self._once(
                    httpx, method, path, most, {**request, "headers": headers}
                )
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                reason, wait = f"cannot be reached ({self._shown(str(error))})", None
            except httpx.TimeoutException:
                raise self._failed(f"no whole answer within {self.timeout:g} s") from None
            except httpx.HTTPError as error:
                shown = self._shown(str(error) or type(error).__name__)
                raise self._failed(f"no whole answer ({shown})") from None
            else:
                if status == 200:
                    return self._object(content)
                reason, wait = f"status {status}{self._message(content)}", said
                if status not in _PASSING:
                    raise self._failed(f"{method} {path}: {reason}")
            if number < self.retries:
                time.sleep(min(2.0**number if wait is None else wait, _LONGEST_WAIT))
        raise self._failed(f"{method} {path}: {reason}, after {self.retries + 1} requests")

    def _once(
        self, httpx: Any, method: str, path: str, most: int, request: dict[str, Any]
    ) -> tuple[int, float | None, bytes]:
        """Status, seconds that the server asks to wait, and body."""
        if isinstance(request.get("content"), Path):
            request["content"] = _blocks(request["content"])
        late = time.monotonic() + self.timeout
        content = bytearray()
        options = {"timeout": self.timeout, "follow_redirects": False}
        with (
            httpx.Client(verify=trusted_certificates(), **options) as client,
            client.stream(method, self.access.url + path, **request) as response,
        ):
            for part in response.iter_bytes():
                content += part
                if len(content) > most:
                    raise self._failed(f"the answer has more than {most} bytes")
                if time.monotonic() > late:
                    raise httpx.ReadTimeout("too late")
            wait = response.headers.get("retry-after", "")
            return response.status_code, float(wait) if wait.isdecimal() else None, bytes(content)

    def _object(self, content: bytes) -> dict[str, Any]:
        try:
            data = json.loads(content)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise self._failed(
                f"the answer is {len(content)} bytes that are no JSON object, or cut"
            )
        return data

    def _message(self, content: bytes) -> str:
        try:
            said = json.loads(content)["error"]["message"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
        return f": {self._shown(said)}" if isinstance(said, str) and said else ""

    def _shown(self, text: str) -> str:
        return " ".join(self.access.hide_pieces(text).split())[:400]

    def _failed(self, reason: str) -> UserError:
        return UserError(f"server {self.access.url}: {reason}")


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


@functools.cache
def trusted_certificates() -> ssl.SSLContext:
    """The certificates that this machine trusts, for any HTTP client of the process.

    Each client would read them anew, which takes 20 ms. Raises UserError without the HTTP package.
    """
    return need("httpx2", "talking to a server").create_ssl_context()

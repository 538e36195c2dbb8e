"""Servers in a thread of the test's process, around a tiny model or around what a test says."""

import contextlib
import threading
import time

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="no uvicorn; install the extra serve")
pytest.importorskip("starlette", reason="no starlette; install the extra serve")
pytest.importorskip("openai", reason="no openai; install the extra endpoints")
pytest.importorskip("safetensors", reason="no safetensors; install the extra models")

import jax  # noqa: E402

from gdpo_jax.models import open_model  # noqa: E402
from gdpo_jax.serving.app import ServerOptions, make_app  # noqa: E402
from gdpo_jax.serving.requests import Limits  # noqa: E402
from gdpo_jax.training import MeshConfig, make_mesh  # noqa: E402
from tests.tiny_model import save_tiny_model  # noqa: E402


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny model on one device; two threads must not run programs with collectives at once."""
    folder = save_tiny_model(tmp_path_factory.mktemp("served"), layers=1)
    return open_model(folder, make_mesh(MeshConfig(), jax.devices()[:1]))


@contextlib.contextmanager
def running(app):
    """The address of a server that runs the application until the block ends."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve(model, monkeypatch):
    """A function that serves a model and gives the address."""
    monkeypatch.setenv("no_proxy", "*")
    with contextlib.ExitStack() as stack:

        def start(served=None, *, name="m", rows=64, bucket=32, max_new_tokens=64, **options):
            limits = Limits(name=name, max_new_tokens=max_new_tokens, rows=rows)
            app = make_app(served or model, ServerOptions(limits=limits, bucket=bucket, **options))
            return stack.enter_context(running(app))

        yield start

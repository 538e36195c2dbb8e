"""Published reference files, read in place, and a headless Chromium; tests skip without.

And data sets that one worker makes for all.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.experiments.chat_server import running_server

PROJECT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="session")
def reference_file():
    """A function from a path below the reference folder to the file; skips if it is absent."""
    folder = Path(os.environ.get("GDPO_JAX_REFERENCE_DATA", PROJECT.parent / "shared" / "data"))

    def locate(name: str) -> Path:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no {name} under {folder}; set GDPO_JAX_REFERENCE_DATA to its folder")
        return path

    return locate


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function of a name and of what fills a folder: the folder, which the first worker fills,
    to be read only.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def make(name, fill) -> Path:
        folder = root / name
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                begun = Path(tempfile.mkdtemp(dir=root))
                fill(begun)
                begun.rename(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def chromium():
    """A running browser: the one CHROMIUM names, one on the path, or Playwright's own.

    Of a module alone: meanwhile Playwright has an event loop in this thread, and no test could run
    another one.
    """
    api = pytest.importorskip("playwright.sync_api", reason="no playwright; install the extra dev")
    with api.sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), "")
        program = found or driver.chromium.executable_path
        if not os.path.exists(program):
            pytest.skip(
                "no Chromium: install it (Debian's package chromium, or `playwright install "
                "chromium`), or name it in CHROMIUM"
            )
        # As root, as in containers, Chromium starts without its sandbox alone.
        options = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = driver.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """A function that opens a file and returns its page; told are messages and requests.

    The returned page has `messages` (console and errors) and `requests` (addresses).
    """
    contexts = []

    def open_it(path, *, width=1280, height=900, **options):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **options
        )
        contexts.append(context)
        page = context.new_page()
        page.messages, page.requests = [], []
        page.on("console", lambda message: page.messages.append(message.text))
        page.on("pageerror", lambda error: page.messages.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(path.as_uri(), wait_until="load")
        return page

    yield open_it
    for context in contexts:
        context.close()


@pytest.fixture
def chat_server(monkeypatch):
    """A chat endpoint of this process; `tests/experiments/chat_server.py` tells what it can do."""
    pytest.importorskip("openai", reason="no openai; install the extra endpoints")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with running_server() as server:
        yield server

#!/usr/bin/env python
"""How long a report takes to open in a headless Chromium, what it says, and what it asks for.

    python scripts/bench_report.py runs/mini/report.html

Needs the extra `dev` and a Chromium: on the path, named in CHROMIUM, or Playwright's own.
"""

import os
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

import tyro
from playwright.sync_api import Browser, sync_playwright

LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"


@dataclass(frozen=True)
class Options:
    """The page and how often it is opened."""

    page: tyro.conf.Positional[Path]  # an HTML file
    repeats: int = 5  # each in a new browser context, without a cache


def open_once(browser: Browser, address: str) -> tuple[float, list[str], list[str]]:
    """Seconds until everything is loaded, console messages and errors, and requested addresses."""
    context = browser.new_context()
    page, messages, requests = context.new_page(), [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address, wait_until="load")
    seconds = page.evaluate(LOADED)
    context.close()
    return seconds, messages, requests


def main(options: Options) -> None:
    """Prints the median and the longest time, and every message and foreign request."""
    address = options.page.resolve(strict=True).as_uri()
    with sync_playwright() as driver:
        program = shutil.which(os.environ.get("CHROMIUM", "chromium"))
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = driver.chromium.launch(
            executable_path=program, args=["--disable-dev-shm-usage", *sandbox]
        )
        found = [open_once(browser, address) for _ in range(options.repeats)]
        print(f"Chromium {browser.version}")
        browser.close()
    times = [seconds for seconds, _, _ in found]
    messages = [message for _, said, _ in found for message in said]
    foreign = [url for _, _, asked in found for url in asked if url != address]
    print(f"{options.page}: {options.page.stat().st_size / 1e6:.2f} MB")
    print(f"loaded in {statistics.median(times):.2f} s (at most {max(times):.2f} s)")
    print(f"messages: {messages or 'none'}")
    print(f"requests beside the page itself: {foreign or 'none'}")


if __name__ == "__main__":
    main(tyro.cli(Options))

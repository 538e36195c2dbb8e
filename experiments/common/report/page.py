"""One self-contained HTML page of sections: opens offline, asks the network for nothing."""

import re
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from experiments.common.report.rendering import render, source
from gdpo_jax.files import write_beside


def write_page(title: str, sections: Mapping[str, Markup], out: Path, *, intro: str = "") -> Path:
    """Writes the page to `out` and returns `out`.

    Sections are heading -> content, empty ones left out; `intro` (markup) stands under the title.
    """
    shown = [
        {"anchor": re.sub("[^a-z0-9]+", "-", name.lower()).strip("-"), "name": name, "body": body}
        for name, body in sections.items()
        if body
    ]
    page = render(
        "page.html",
        title=title,
        intro=intro,
        sections=shown,
        css=source("page.css"),
        js=source("page.js"),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_beside(out, page)
    return out


__all__ = ["write_page"]

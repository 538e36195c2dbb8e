"""One self-contained HTML page of sections: opens offline, asks the network for nothing."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from gdpo_jax.files import write_beside

_FOLDER = Path(__file__).parent


def write_page(title: str, sections: Mapping[str, str], out: Path, *, intro: str = "") -> Path:
    """Writes the page to `out` and returns `out`.

    Sections are heading -> HTML, empty ones left out; `intro` is HTML under the title.
    """
    body, nav = [], []
    for name, text in sections.items():
        if not text:
            continue
        anchor = name.lower().replace(" ", "-")
        nav.append(f'<li><a href="#{anchor}">{escape(name)}</a></li>')
        body.append(
            f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(name)}</h2>'
            f"{text}</section>"
        )
    parts = {
        "css": _read("page.css"),
        "js": _read("page.js"),
        "nav": "".join(nav),
        "title": escape(title),
        "intro": intro,
        "body": "\n".join(body),
    }
    # The template alone is searched for placeholders, not what users and models wrote.
    pieces = _read("page.html").split("{{")
    page = pieces[0]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        page += parts[name] + rest
    out.parent.mkdir(parents=True, exist_ok=True)
    write_beside(out, page)
    return out


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8").strip()


__all__ = ["write_page"]

"""One self-contained HTML page of sections: opens offline, asks the network for nothing."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

_TEMPLATE = Path(__file__).with_name("page.html")


def write_page(title: str, sections: Mapping[str, str], out: Path) -> Path:
    """Writes the page to `out` and returns `out`; sections are heading -> HTML, empty ones left
    out.
    """
    body, nav = [], []
    for name, text in sections.items():
        if not text:
            continue
        anchor = name.lower().replace(" ", "-")
        nav.append(f'<li><a href="#{anchor}">{escape(name)}</a></li>')
        body.append(f'<section><h2 id="{anchor}">{escape(name)}</h2>{text}</section>')
    page = _TEMPLATE.read_text(encoding="utf-8")
    # The body comes last: what users and models wrote is not searched for placeholders.
    for name, text in (("title", escape(title)), ("nav", "".join(nav)), ("body", "\n".join(body))):
        page = page.replace("{{" + name + "}}", text)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    return out


__all__ = ["write_page"]

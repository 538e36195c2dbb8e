"""SVG elements as safe markup: every attribute and every text in it is escaped."""

from collections.abc import Sequence

from markupsafe import Markup


def element(tag: str, *children: str, css: str = "", **attributes: object) -> Markup:
    """`<tag class="css" ...>children</tag>`; an underscore in an attribute's name stands for "-".

    Attributes that are None or empty are left out.
    """
    shown = Markup("").join(
        Markup(' {}="{}"').format(name.replace("_", "-"), value)
        for name, value in {"class": css, **attributes}.items()
        if value is not None and value != ""
    )
    if not children:
        return Markup("<{}{}/>").format(tag, shown)
    return Markup("<{}{}>{}</{}>").format(tag, shown, joined(children), tag)


def path(css: str, d: str, **attributes: object) -> Markup:
    """A path element."""
    return element("path", css=css, d=d, **attributes)


def joined(parts: Sequence[str]) -> Markup:
    """The parts one after the other, escaped where they are not markup."""
    return Markup("").join(parts)


__all__ = ["element", "joined", "path"]

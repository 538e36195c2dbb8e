"""Templates of pages: jinja2 with autoescape, so that what users and models write stays text."""

import functools
from pathlib import Path

import jinja2
from markupsafe import Markup

FOLDER = Path(__file__).parent / "templates"


def render(name: str, *, folder: Path = FOLDER, **values: object) -> Markup:
    """The template `name` of `folder`, which may use those of this package, with the values.

    Everything but `Markup` is escaped. Raises jinja2.UndefinedError for a value that is not given.
    """
    return Markup(_environment(folder).get_template(name).render(values))


def source(name: str) -> Markup:
    """A file of this package as it is, such as a style sheet."""
    return Markup((FOLDER / name).read_text(encoding="utf-8").strip())


@functools.cache
def _environment(folder: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


__all__ = ["FOLDER", "render", "source"]

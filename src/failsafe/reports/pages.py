"""Pages from templates, with styles and scripts inside: a file is easier to hand on than a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, /, formats: dict[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    """Fill in a template; text is never taken for markup, and a value that is missing is an error.

    Args:
        template: Name of its file.
        formats: Filters that it uses, by name.
        values: What it is filled in with.
    """
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(formats or {})
    return environment.get_template(template).render(**values)


def inline(*names: str) -> Markup:
    """Styles or scripts, one after the other, to be written into a page."""
    return Markup("".join((TEMPLATES / name).read_text() for name in names))

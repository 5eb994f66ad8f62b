"""Render self-contained pages from templates, with inlined styles and scripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, /, formats: dict[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    """Render a template; text is escaped, and an undefined value is an error.

    Args:
        template: File name of the template.
        formats: Its filters by name.
        values: Its variables.
    """
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(formats or {})
    return environment.get_template(template).render(**values)


def inline(*names: str) -> Markup:
    """Return the concatenated styles or scripts, to be inlined into a page."""
    return Markup("".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names))

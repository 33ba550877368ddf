"""Pages from the templates of this package; every value is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup


def render(template: str, **values: Any) -> str:
    """A page from its template; values are escaped, but for those that are `Markup`."""
    return _environment().get_template(template).render(css=asset("page.css"), **values) + "\n"


def asset(name: str) -> Markup:
    """A file of this package that stands in a page as it is."""
    loader = _environment().loader
    assert loader is not None, "set below"
    return Markup(loader.get_source(_environment(), name)[0])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("autoprune.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}  # as a schedule is saved
    return environment

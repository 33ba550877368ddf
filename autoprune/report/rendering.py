"""Pages from the templates of this package; every value is escaped."""

from __future__ import annotations

import base64
import hashlib
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


def script_sources(*scripts: str) -> Markup:
    """Sources of a Content-Security-Policy that let these scripts of a page run, and no others."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return Markup(" ".join(f"'sha256-{digest}'" for digest in digests))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("autoprune.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}  # as a schedule is saved
    return environment

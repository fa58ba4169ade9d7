"""Self-contained HTML pages of one style."""

from pathlib import Path
from typing import Any

import jinja2

ROOT = Path(__file__).parent


def render_page(template: str, **values: Any) -> str:
    """The page that a template in this package makes of the values; it starts with `head.html`, which needs a title.

    template: path in this package, for example "evaluation/report.html".
    """
    loader = jinja2.FileSystemLoader(ROOT, encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, loader=loader)
    return environment.get_template(template).render(**values)

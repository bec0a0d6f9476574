"""The site, which `.ci/site` builds in build/site."""

import pathlib
import re

from sphinx.util import logging

import rmsprop_optax

project = "rmsprop_optax"
version = release = rmsprop_optax.__version__
extensions = ["myst_parser", *(f"sphinx.ext.{name}" for name in ("autodoc", "intersphinx", "mathjax", "napoleon"))]
html_theme = "sphinx_book_theme"
html_title = project
html_theme_options = {"navbar_persistent": []}  # the sidebar has the search
html_static_path, html_css_files = ["_static"], ["site.css"]
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3  # a heading is linked to as on a forge
default_role = "py:obj"  # a name in backticks is code, and a link where it is one of ours
autodoc_default_options = {"members": True, "no-value": True}
autodoc_member_order, autodoc_typehints = "bysource", "none"
autodoc_preserve_defaults = napoleon_use_ivar = True

# Links to these need their inventories, which the build would fetch: `-t online` does, where there is a network.
LIBRARIES = {
    "jax": "https://docs.jax.dev/en/latest/",
    "optax": "https://optax.readthedocs.io/en/latest/",
    "flax": "https://flax.readthedocs.io/en/latest/",
    "chex": "https://chex.readthedocs.io/en/latest/",
    "orbax": "https://orbax.readthedocs.io/en/latest/",
}
intersphinx_mapping = {name: (url, None) for name, url in LIBRARIES.items()} if tags.has("online") else {}  # noqa: F821


def read(app, page, source):
    """Expand the pages that are files of the root, and show what is not a page of the site as code, not as a link."""
    folder = pathlib.Path(app.srcdir)
    for included in re.findall(r"^\[(\w+\.md)\]\(\.\./\1\)", source[0], re.MULTILINE):
        source[0] = re.sub(r"\]\((?!http)", "](../", (folder.parent / included).read_text()).replace("](../docs/", "](")
    source[0] = source[0].replace("](../CONTRIBUTING.md)", "](contributing.md)")
    source[0] = re.sub(r"(?<!!)\[([^]]*)\]\((\.\./[^)]+|\w+\.json)\)", r"\1", source[0])


def check(app, env):
    """Warn of each public name that no page of the reference has."""
    shown = {name for name, *_ in env.domains["py"].get_objects()}
    for name in rmsprop_optax.__all__:
        members = getattr(getattr(rmsprop_optax, name), "__all__", None)
        for public in [f"{name}.{member}" for member in members] if members else [name]:
            if f"{rmsprop_optax.__name__}.{public}" not in shown:
                logging.getLogger(__name__).warning("not in the reference: %s", public)


def list_pages(app, error):
    """Write llms.txt, a list of the pages for programs that read."""
    titles = {} if error else app.env.titles
    lines = [f"# {project}\n\n> {rmsprop_optax.__doc__}\n\n## Pages\n"]
    lines += [f"- [{titles[page].astext()}]({page}.html)" for page in sorted(titles)]
    (pathlib.Path(app.outdir) / "llms.txt").write_text("\n".join(lines) + "\n")


def setup(app):
    app.connect("source-read", read)
    app.connect("env-check-consistency", check)
    app.connect("build-finished", list_pages)

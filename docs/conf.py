"""The site, which `.ci/site` builds in build/site."""

import pathlib
import re

from sphinx.util import logging

import rmsprop_optax

project, version = "rmsprop_optax", rmsprop_optax.__version__
extensions = ["myst_parser", *(f"sphinx.ext.{name}" for name in ("autodoc", "intersphinx", "mathjax", "napoleon"))]
html_theme, html_title = "sphinx_book_theme", project
html_theme_options = {"navbar_persistent": []}  # the sidebar has the search
html_static_path, html_css_files = ["_static"], ["site.css"]
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3  # a heading is linked to as on a forge
default_role = "py:obj"  # a name in backticks is code, and a link where it is one of ours
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints, toc_object_entries_show_parents = "none", "hide"
autodoc_preserve_defaults = napoleon_use_ivar = True
suppress_warnings = ["misc.highlighting_failure"]  # the blocks `tree` and `arrows` are in no language

# Links to other libraries need their inventories, which `-t online` fetches where there is a network.
SITES = {name: f"https://{name}.readthedocs.io/en/latest/" for name in ("optax", "flax", "chex", "orbax")}
SITES["jax"] = "https://docs.jax.dev/en/latest/"
intersphinx_mapping = {name: (url, None) for name, url in SITES.items()} if tags.has("online") else {}  # noqa: F821


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
        public = [f"rmsprop_optax.{name}.{member}" for member in members] if members else [f"rmsprop_optax.{name}"]
        for missing in set(public) - shown:
            logging.getLogger(__name__).warning("not in the reference: %s", missing)


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

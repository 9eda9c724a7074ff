"""Pages as the repository has them: links to its files lead there, and README is a page as well.

README, CHANGELOG and CONTRIBUTING stand at the top, where people look for them: a page that says
`See [CHANGELOG.md](../CHANGELOG.md).` is that file.
"""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

LOG = logging.getLogger(__name__)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^()\s#]+)(?=[#)])")
SEE = re.compile(r"^See \[([\w.]+)\]\(\.\./\1\)\.$", re.MULTILINE)


def read_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put files of the top in their places, and send links that leave docs/ to the repository."""
    docs = Path(app.srcdir)
    page, root = Path(app.env.doc2path(docname)), docs.parent
    if page.suffix != ".md":
        return
    pages = {root / name: docs / found for name, found in app.config.pages_of_files.items()}

    def linked(text: str, folder: Path) -> str:
        def target(found: re.Match[str]) -> str:
            file = (folder / found[1]).resolve()
            if not file.exists():
                LOG.warning(f"there is no {found[1]}", location=docname, type="link")
            file = pages.get(file, file)
            if docs in file.parents:
                return os.path.relpath(file, page.parent)
            return f"{app.config.repository}/blob/main/{file.relative_to(root)}"

        return LINK.sub(target, text)

    def included(found: re.Match[str]) -> str:
        app.env.note_dependency(str(root / found[1]))
        return linked((root / found[1]).read_text(), root)

    if SEE.search(source[0]):
        source[0] = SEE.sub(included, source[0])
    else:
        source[0] = linked(source[0], page.parent)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_config_value("repository", "", "env", str)
    app.add_config_value("pages_of_files", {}, "env", dict)
    app.connect("source-read", read_page)
    return {"parallel_read_safe": True}

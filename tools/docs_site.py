"""Hooks of MkDocs: a page for each file of the repository that the documentation links to, and checks of the result.

The pages in docs/ link to files outside of it by relative paths, as in any repository. The site has a page for each of
them under `repository/`: Markdown as it is, other files as highlighted source. So has what mkdocs.yml lists there.
"""

import ast
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
REPOSITORY = "repository"

# Code, in which nothing is a link, and what comes before and after it.
_CODE = re.compile(r"(^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)\s*?$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()[^()\s]+(?=\))")
_LANGUAGES = {".py": "python", ".cc": "cpp", ".h": "cpp", ".cu": "cpp", ".cuh": "cpp", ".sh": "bash", ".yaml": "yaml"}


def links(markdown: str) -> list[str]:
    """The targets of the links and pictures of a page, as they are written."""
    found: list[str] = []
    _replace_links(markdown, lambda target: found.append(target) or target)
    return found


def linked_file(page: str, target: str) -> str | None:
    """The file that a link on a page means; `None` where it leads out of the repository or to the page itself.

    Args:
        page: of the page's file, relative to the repository.
        target: as `links` gives it, relative to the page.

    Returns:
        The path relative to the repository, without the anchor. There may be no such file.
    """
    path = target.partition("#")[0]
    if not path or ":" in path or path.startswith("/"):
        return None
    return os.path.normpath(PurePosixPath(page).parent / path)


def site_page(file: str) -> str:
    """The page of the site, as MkDocs names pages, for a file of the repository."""
    if PurePosixPath(file).is_relative_to(DOCS):
        return str(PurePosixPath(file).relative_to(DOCS))
    return f"{REPOSITORY}/{file}" if file.endswith(".md") else f"{REPOSITORY}/{file}.md"


def repository_pages(nav: list[str]) -> dict[str, str]:
    """Pages under `repository/` -> the files they show: those in the navigation and those that pages link to."""
    pages: dict[str, str] = {}
    todo = [f"{DOCS}/{page}" for page in nav if not page.startswith(f"{REPOSITORY}/")]
    todo += [page.removeprefix(f"{REPOSITORY}/") for page in nav if page.startswith(f"{REPOSITORY}/")]
    seen = set(todo)
    while todo:
        file = todo.pop()
        if not file.startswith(f"{DOCS}/"):
            pages[site_page(file)] = file
        if file.endswith(".md"):
            targets = links((ROOT / file).read_text())
            new = {found for target in targets if (found := linked_file(file, target)) and (ROOT / found).is_file()}
            todo += sorted(new - seen)
            seen |= new
    return pages


def on_files(files, config):
    """Adds the pages under `repository/` to those in docs/."""
    from mkdocs.structure.files import File

    for page, file in repository_pages(list(nav_pages(config["nav"]))).items():
        if file.endswith(".md"):
            files.append(File.generated(config, page, abs_src_path=str(ROOT / file)))
        else:
            files.append(File.generated(config, page, content=_source_page(file)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Makes the links of a page lead to pages of the site."""
    here = page.file.src_uri
    file = here.removeprefix(f"{REPOSITORY}/") if here.startswith(f"{REPOSITORY}/") else f"{DOCS}/{here}"
    if not (ROOT / file).is_file():
        return markdown  # the page of a source file

    def on_site(target: str) -> str:
        linked = linked_file(file, target)
        if linked is None:
            return target
        anchor = target.partition("#")[1] + target.partition("#")[2]
        return os.path.relpath(site_page(linked), PurePosixPath(here).parent) + anchor

    return _replace_links(markdown, on_site)


def on_post_build(config):
    """Refuses a site that needs the network, or whose reference lacks a public name."""
    site = Path(config["site_dir"])
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    loads = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?https?:[^>]*>|<link\b[^>]*\bhref=\"?https?:[^>]*>"
    )
    for path, text in pages.items():
        if loaded := loads.search(text):
            raise SystemExit(f"{path} loads something from the network: {loaded.group()}")
    reference = "".join(text for path, text in pages.items() if path.parent.name == "reference")
    # A function in a module of its own name is listed as that module's.
    missing = [
        name
        for name in _public_names(config["nav"])
        if f'id="{name}"' not in reference and f'id="{name}.{name.rpartition(".")[2]}"' not in reference
    ]
    if missing:
        raise SystemExit(f"The API reference has no entry for {', '.join(missing)}.")


def _replace_links(markdown: str, replace: Callable[[str], str]) -> str:
    """Replaces the targets of links outside of code."""
    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [_LINK.sub(lambda link: replace(link.group()), markdown[end : code.start()]), code.group()]
        end = code.end()
    return "".join([*parts, _LINK.sub(lambda link: replace(link.group()), markdown[end:])])


def nav_pages(nav) -> Iterator[str]:
    """The pages of the navigation in mkdocs.yml, in their order."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from nav_pages(entry)


def _source_page(file: str) -> str:
    language = _LANGUAGES.get(PurePosixPath(file).suffix, "text")
    text = (ROOT / file).read_text()
    return f"---\nsearch:\n  exclude: true\n---\n# {file}\n~~~~~~{language}\n{text}\n~~~~~~\n"


def _public_names(nav) -> Iterator[str]:
    """Full names of what the public modules of the reference declare in `__all__`."""
    for page in nav_pages(nav):
        if not page.startswith("reference/"):
            continue
        module = PurePosixPath(page).stem
        path = ROOT / "tf_dcnv2" / module
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
                yield from (f"tf_dcnv2.{module}.{name}" for name in ast.literal_eval(node.value))

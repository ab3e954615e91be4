"""The pages of the documentation: what links to what, and what the site is made of. None of it needs MkDocs."""

import re
from pathlib import Path

import docs_site
import draw_offset_layout
import pytest
import yaml

from tests.test_public_interface import PUBLIC_MODULES

ROOT = Path(__file__).parents[2]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
NAVIGATION = list(docs_site.nav_pages(SITE["nav"]))
IN_DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
# Those that a visitor of the repository reads, and those of the site.
PAGES = sorted(
    {"README.md", *IN_DOCS, *docs_site.repository_pages(NAVIGATION).values()}
    - {file for file in docs_site.repository_pages(NAVIGATION).values() if not file.endswith(".md")}
)
CODE_BLOCK = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*?$", re.MULTILINE | re.DOTALL)


def text_of(page: str) -> str:
    """A page without its blocks of code."""
    return CODE_BLOCK.sub("", (ROOT / page).read_text())


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as MkDocs and code hosts make them."""
    headings = re.findall(r"^#+ +(.*)$", text_of(page), re.MULTILINE)
    texts = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"\s", "-", text) for text in texts}


def test_every_page_is_in_the_navigation_once_and_every_entry_is_a_page():
    pages = [docs_site.site_page(page) for page in IN_DOCS]
    assert sorted(page for page in NAVIGATION if not page.startswith("repository/")) == sorted(pages)
    assert len(set(NAVIGATION)) == len(NAVIGATION)
    others = [page.removeprefix("repository/") for page in NAVIGATION if page.startswith("repository/")]
    assert others and all((ROOT / file).is_file() for file in others)


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_repository_lead_to_files_and_headings(page):
    for target in docs_site.links((ROOT / page).read_text()):
        file = docs_site.linked_file(page, target)
        if file is None and not target.startswith("#"):
            assert re.match(r"https://|mailto:", target), f"{page} links to {target}"
            continue
        file = file or page
        assert (ROOT / file).is_file(), f"{page} links to {target}, which is no file of the repository"
        anchor = target.partition("#")[2]
        assert not anchor or anchor in anchors(file), f"{page} links to {target}, but {file} has no such heading"


@pytest.mark.parametrize("page", PAGES)
def test_lists_are_written_as_every_markdown_reads_them(page):
    """MkDocs' Markdown wants an empty line before a list, and four spaces before what is inside an item.

    An item after a further paragraph of the one before it needs an empty line, too.
    """
    lines = text_of(page).splitlines()
    paragraph_in_item = False
    for before, line in zip(lines, lines[1:], strict=False):
        if re.match(r"[*-] ", line):
            follows_item = re.match(r"[*-] |[ #]", before) and not paragraph_in_item
            assert not before or follows_item, f"{page}: an empty line is missing before {line!r}"
        assert not re.match(r" {1,3}[*-] ", line), f"{page}: four spaces are missing before {line!r}"
        assert before or not re.match(r" {1,3}\S", line), f"{page}: four spaces are missing before {line!r}"
        if not before:
            paragraph_in_item = bool(re.match(r" +[^ *-]", line))


def test_every_public_module_has_a_page_in_the_reference():
    pages = {Path(page).stem: (ROOT / page).read_text() for page in IN_DOCS if page.startswith("docs/reference/")}
    assert set(pages) == set(PUBLIC_MODULES)
    for module, text in pages.items():
        assert f"\n::: tf_dcnv2.{module}\n" in text


def test_functions_that_share_a_modules_name_are_in_the_reference_of_ops():
    """MkDocs takes `tf_dcnv2.ops.deform_conv2d` for the module, so that the page has to name the function itself."""
    text = (ROOT / "docs/reference/ops.md").read_text()
    for name in ("deform_conv2d", "deform_roi_pool"):
        assert f"::: tf_dcnv2.ops.{name}.{name}\n" in text


def test_links_in_code_are_no_links():
    markdown = "[a](b.md) `[c](d.md)`\n```\n[e](f.md)\n```\n![g](images/h.png)\n"
    assert docs_site.links(markdown) == ["b.md", "images/h.png"]


@pytest.mark.parametrize(
    ("page", "target", "expected"),
    [
        ("docs/data.md", "../examples/serve.py", "examples/serve.py"),
        ("docs/data.md", "export.md#serving", "docs/export.md"),
        ("README.md", "docs/data.md", "docs/data.md"),
        ("docs/data.md", "#images", None),
        ("docs/data.md", "https://arxiv.org/abs/1811.11168", None),
    ],
)
def test_a_link_names_a_file_of_the_repository(page, target, expected):
    assert docs_site.linked_file(page, target) == expected


def test_the_site_has_a_page_for_each_file_that_is_linked_to():
    assert docs_site.site_page("docs/data.md") == "data.md"
    assert docs_site.site_page("CHANGELOG.md") == "repository/CHANGELOG.md"
    assert docs_site.site_page("examples/serve.py") == "repository/examples/serve.py.md"
    pages = docs_site.repository_pages(["index.md", *NAVIGATION])
    assert pages["repository/CHANGELOG.md"] == "CHANGELOG.md"
    assert "repository/examples/overfit_four_images.py.md" in pages  # linked from a page in docs/
    assert not any(file.startswith("docs/") for file in pages.values())


def test_the_picture_of_the_offsets_is_what_its_script_draws():
    assert draw_offset_layout.PICTURE.read_text() == draw_offset_layout.draw()


def test_the_picture_of_the_offsets_numbers_the_channels_in_their_order():
    """Channel 2 * (group * K + tap) of the offset is a tap's vertical displacement, the next one the horizontal."""
    texts = re.findall(r">([^<>]+)</text>", draw_offset_layout.draw())
    for sample in range(18):
        channels = [
            f"{2 * sample}",
            "Δy",
            f"{2 * sample + 1}",
            "Δx",
            f"tap {sample % 9}",
            f"{sample}",
            f"Δm {sample % 9}",
        ]
        assert any(texts[start : start + 7] == channels for start in range(len(texts)))

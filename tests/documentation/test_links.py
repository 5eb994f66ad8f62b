"""Links of README and docs lead to files and headings that exist."""

import re

import pytest
from tests.documentation.markdown import PAGES, ROOT

EXTRA = (*PAGES, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.M | re.S)


def anchors(text):
    """Return the names that a link to a page may have after the `#`, as GitHub makes them."""
    found, counts = set(re.findall(r'<a id="([^"]+)">', text)), {}
    for heading in re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        counts[name] = counts.get(name, -1) + 1
        found.add(f"{name}-{counts[name]}" if counts[name] else name)
    return found


def dead(page):
    """Return the links of a page that lead nowhere."""
    problems = []
    for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / path).resolve() if path else page
        known = file.is_file() and (not anchor or anchor in anchors(file.read_text(encoding="utf-8")))
        problems += [] if known or file.is_dir() else [target]
    return problems


@pytest.mark.parametrize("page", EXTRA, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page):
    assert dead(page) == []


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.md").write_text(
        "# One\n\n## It's `two`: three\n\n[x](#its-two-three) [y](#four) [z](none.md)\n"
    )
    assert dead(tmp_path / "a.md") == ["#four", "none.md"]

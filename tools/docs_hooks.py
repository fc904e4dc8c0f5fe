"""Hooks of the documentation site (mkdocs.yml): the home page of each language is the project's README."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HOMES = {"index.md": "README.md", "index.zh.md": "README.zh-CN.md"}


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001 (mkdocs' signature)
    """Put the README, its links turned into those of the site, where a home page is a stub."""
    readme = HOMES.get(page.file.src_uri)
    return markdown if readme is None else home(ROOT / readme)


def home(readme: Path) -> str:
    """A README as a page of the site: links to docs/ become links between pages, others their text."""
    text = readme.read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/([\w-]+)(?:\.zh)?\.md", r"](\1.md", text)
    return re.sub(r"\[([^\]]*)\]\((?:README[\w.-]*\.md|CONTRIBUTING\.md)\)", _elsewhere, text)


def _elsewhere(link: re.Match[str]) -> str:
    return "" if link[1] in ("中文", "English") else link[1]

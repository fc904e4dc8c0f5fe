"""The documentation as a site: it builds without a warning, in both languages, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bertune
from tools.docs_hooks import home

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page.stem for page in (ROOT / "docs").glob("*.md") if not page.name.endswith(".zh.md"))
MOST_WORDS = 900


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Broken links and anchors, and pages that the navigation lacks, are errors."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": "src", "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there_in_both_languages(site: Path) -> None:
    assert {path.stem for path in site.glob("*.html")} == {*PAGES, "404"}
    assert {path.stem for path in (site / "zh").glob("*.html")} == set(PAGES)
    for name in PAGES:
        article = (
            (site / f"zh/{name}.html").read_text(encoding="utf-8").partition("<article")[2].partition("</article")[0]
        )
        assert len(re.findall("[\u4e00-\u9fff]", article)) > 120, f"zh/{name}.html"


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_short(name: str) -> None:
    words = len((ROOT / f"docs/{name}.md").read_text(encoding="utf-8").split())
    assert words <= MOST_WORDS


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"|<link[^>]* href="([^"]+)"', text)
        assert [url for pair in loaded for url in pair if url.startswith(("http", "//"))] == [], page


def test_the_reference_describes_the_interface(site: Path) -> None:
    text = (site / "reference.html").read_text(encoding="utf-8")
    for name in bertune.__all__:
        assert f'id="bertune{name.lower()}"' in text, name
    assert "Stream" in text or "stream" in text
    for sentence in ("Fine-tune an encoder", "A text classifier", "Open a pretrained encoder"):
        assert sentence in text


def test_the_home_page_is_the_readme(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(
        "[中文](README.zh-CN.md) [a](docs/tasks.md#x) [CONTRIBUTING.md](CONTRIBUTING.md) [b](x.md)", "utf-8"
    )
    assert home(readme) == " [a](tasks.md#x) CONTRIBUTING.md [b](x.md)"


@pytest.mark.parametrize("page", ["errors.md", "errors.zh.md"])
def test_messages_that_the_page_explains_exist(page: str) -> None:
    sources = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/bertune").rglob("*.py"))
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    quoted = [phrase for row in rows for phrase in re.findall("`([^`]+)`", row)]
    assert len(quoted) >= 12
    for phrase in quoted:
        pieces = [piece for piece in re.split(r" ?…\??| nan$|--\w+", phrase) if piece.strip()]
        assert all(piece in sources for piece in pieces), phrase


def test_chinese_pages_use_the_terms_of_the_field() -> None:
    for page in [*ROOT.glob("docs/*.zh.md"), ROOT / "README.zh-CN.md"]:
        text = page.read_text(encoding="utf-8")
        for wrong in ("训练崩溃", "附加包", "值得知道", "## 数字"):
            assert wrong not in text, f"{page.name}: {wrong}"

"""The page in a real browser: no request, no script error, hostile texts and labels inert, in both languages."""

import base64
from pathlib import Path
from typing import Any

import pytest

import bertune
from bertune.report.options import ReportOptions
from bertune.report.write import write_report
from tests import runs, tiny
from tests.serving.browser import CHROMIUM, Browser, browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")

HOSTILE = (
    '<img src=x onerror="window.hacked=1">',
    "</td></table><script>window.hacked=2</script>",
    '"><svg onload="window.hacked=3"><a href="javascript:window.hacked=4">',
    "<style>body{display:none}</style><link rel=stylesheet href=http://localhost:9/x.css>",
    "<iframe src=http://localhost:9/></iframe><base href=http://localhost:9/>",
)
LABELS = ('good"><script>window.hacked=5</script>', "bad<img src=http://localhost:9/y.png>")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose texts and labels try to break out, many of its rows labelled wrongly."""
    folder = tmp_path_factory.mktemp("hostile")
    tiny.write_encoder(folder / "encoder")
    rows = [dict(row) for row in tiny.opinions(90, labels=LABELS)]
    train = tiny.write_rows(folder / "train.jsonl", rows)
    for i, row in enumerate(rows):
        row["text"] = f"{HOSTILE[i % len(HOSTILE)]} {row['text']}"
        row["label"] = LABELS[(i + (i % 3 == 0)) % 2]
    dev = tiny.write_rows(folder / "dev.jsonl", rows)
    bertune.train(
        task="text-classification", encoder=folder / "encoder", train=train, validation=dev, output=folder / "run",
        max_seq_length=48, batch_size=8, learning_rate=1e-2, epochs=4, precision="fp32", device="cpu",
    )  # fmt: skip
    return folder / "run"


def opened(chromium: Browser, page: Path) -> None:
    """Open a page, and see that it asked for nothing else and raised nothing."""
    chromium.requests.clear()
    chromium.errors.clear()
    chromium.open(page.as_uri())
    assert chromium.run("document.querySelectorAll('section').length") > 2
    assert chromium.requests == [page.as_uri()]
    assert chromium.errors == []
    assert chromium.run("document.scripts.length") == 0
    assert chromium.run("typeof window.hacked") == "undefined"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_texts_and_labels_are_inert(chromium: Browser, hostile: Path, language: str) -> None:
    page = hostile / f"{language}.html"
    found = write_report(
        hostile, ReportOptions(resamples=100, language=language, output=str(page), explain=5, device="cpu")
    )
    opened(chromium, page)
    assert found.figures["errors_in_all"] >= 30
    assert chromium.run("document.querySelectorAll('img, iframe, base, link, a, svg[onload]').length") == 0
    assert chromium.run("getComputedStyle(document.body).display") == "block"
    shown = chromium.run("document.body.innerText")
    for text in (*HOSTILE, *LABELS):
        assert text in shown
    assert chromium.run("document.documentElement.lang") == language


def test_charts_have_titles_for_screen_readers(chromium: Browser, hostile: Path) -> None:
    opened(chromium, hostile / "report.html")
    charts = chromium.run("document.querySelectorAll('svg[role=img]').length")
    assert charts >= 4
    assert chromium.run("document.querySelectorAll('svg[role=img] > title').length") == charts


def test_light_and_dark_and_narrow(chromium: Browser, hostile: Path) -> None:
    opened(chromium, hostile / "report.html")
    papers = []
    for scheme in ("light", "dark"):
        chromium.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        papers.append(chromium.run("getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(255, 255, 255)", "rgb(25, 25, 25)"]


OVERLAPPING = """
[...document.querySelectorAll('svg')].flatMap((picture) => {
  const texts = [...picture.querySelectorAll('text')].map((node) => [node.textContent, node.getBoundingClientRect()]);
  return texts.flatMap(([name, one], at) => texts.slice(at + 1).filter(([, other]) =>
    one.left + 1 < other.right && other.left + 1 < one.right && one.top + 4 < other.bottom && other.top + 4 < one.bottom
  ).map(([other]) => `${name} | ${other}`));
})
"""
WIDTHS = "[...document.querySelectorAll('.charts')].flatMap((row) => [...row.children].map((one) => one.clientWidth))"


@pytest.mark.parametrize("width", [1280, 900, 400])
def test_charts_are_equally_wide_and_their_texts_apart(chromium: Browser, hostile: Path, width: int) -> None:
    chromium.send("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
    opened(chromium, hostile / "report.html")
    assert "learning_rate" in chromium.run("document.body.textContent")
    assert chromium.run(OVERLAPPING) == []
    widths = chromium.run(WIDTHS)
    chromium.send("Emulation.clearDeviceMetricsOverride")
    assert len(widths) >= 6
    assert len(set(widths)) == 1


def test_paths_stand_at_the_end_alone(chromium: Browser, hostile: Path) -> None:
    opened(chromium, hostile / "report.html")
    assert chromium.run("document.title") == "Report: run"
    assert chromium.run("document.querySelector('h1').textContent") == "Report: run"
    assert "of dev.jsonl" in chromium.run("document.querySelector('.verdict').textContent")
    facts = chromium.run("[...document.querySelectorAll('section')].pop().textContent")
    assert str(hostile) in facts
    assert str(hostile.parent / "dev.jsonl") in facts


PAPER = 688
"""Pixels that A4 has between the report's margins: 182 mm at 96 to the inch."""
CUT_OFF = """
[...document.querySelectorAll('th, td, p, h1, h2, h3, svg')].filter((node) => {
  const box = node.getBoundingClientRect();
  return node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display !== 'inline' && !node.ownerSVGElement
    || box.right > document.documentElement.clientWidth + 1 || box.left < -1;
}).map((node) => node.outerHTML.slice(0, 200))
"""
BEYOND_THE_PICTURE = """
[...document.querySelectorAll('svg text')].filter((node) => {
  const text = node.getBoundingClientRect(), picture = node.ownerSVGElement.getBoundingClientRect();
  return text.left < picture.left - 2 || text.right > picture.right + 2 || text.top < picture.top - 2
    || text.bottom > picture.bottom + 2;
}).map((node) => node.textContent)
"""
BROKEN = """
[...document.querySelectorAll('th, td')].flatMap((cell) => [...cell.childNodes].filter((node) => node.nodeType === 3)
  .flatMap((node) => [...node.data.matchAll(/\\S+/g)]
    .filter(([word]) => word.length <= 16 && /^[\\x20-\\x7e]+$/.test(word)).filter(({0: word, index}) => {
      const range = document.createRange();
      range.setStart(node, index); range.setEnd(node, index + word.length);
      return new Set([...range.getClientRects()].map((one) => Math.round(one.top))).size > 1 && !word.includes('-');
    }).map(([word]) => `${word} in ${cell.outerHTML.slice(0, 150)}`)))
"""


@pytest.fixture
def printed(chromium: Browser) -> Any:
    """The browser as it lays out for paper, while its user has asked for dark pages."""
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    chromium.send("Emulation.setEmulatedMedia", media="print", features=[dark])
    chromium.send("Emulation.setDeviceMetricsOverride", width=PAPER, height=1000, deviceScaleFactor=1, mobile=False)
    yield chromium
    chromium.send("Emulation.setEmulatedMedia", media="", features=[])
    chromium.send("Emulation.clearDeviceMetricsOverride")


def assert_fits_on_paper(printed: Browser) -> None:
    """Light, nothing beyond the paper's edge or a picture's, no short word broken, and it can be printed."""
    assert printed.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert printed.run("getComputedStyle(document.body).color") == "rgb(28, 28, 28)"
    assert printed.run("document.documentElement.scrollWidth") <= PAPER
    assert printed.run(CUT_OFF) == []
    assert printed.run(BEYOND_THE_PICTURE) == []
    assert printed.run(BROKEN) == []
    pdf = base64.b64decode(printed.send("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
    assert pdf.startswith(b"%PDF-")
    assert len(pdf) > 10_000


@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_prints(printed: Browser, hostile: Path, language: str) -> None:
    page = hostile / f"{language}-printed.html"
    write_report(hostile, ReportOptions(resamples=100, language=language, output=str(page), explain=3, device="cpu"))
    opened(printed, page)
    assert_fits_on_paper(printed)


@pytest.mark.parametrize(
    ("task", "heading"),
    [
        ("question-answering", "By question word"),
        ("multi-label-classification", "Labels: precision and recall"),
        ("embedding", "Similarities of pairs"),
        ("multiple-choice", "Where choices fail"),
        ("token-classification", "Entities: kinds of errors"),
        ("regression", "Predicted and true values"),
    ],
)
def test_every_kind_of_task(chromium: Browser, task: str, heading: str, tmp_path: Path) -> None:
    options = runs.prepare(tmp_path / "data", task)
    runs.start(tmp_path / "run", options)
    opened(chromium, tmp_path / "run" / "report.html")
    assert heading in chromium.run("document.body.innerText")


def test_every_kind_of_task_prints(printed: Browser, tmp_path: Path) -> None:
    for task in ("question-answering", "multi-label-classification", "token-classification", "regression"):
        runs.start(tmp_path / task / "run", runs.prepare(tmp_path / task, task))
        opened(printed, tmp_path / task / "run" / "report.html")
        assert_fits_on_paper(printed)

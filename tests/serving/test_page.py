"""The page in a real browser: type, answer, upload, error, hostile text, keyboard, languages, no foreign requests."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving.browser import CHROMIUM, Browser, browser
from tests.serving.conftest import predicted
from tests.serving.test_clients import served

Folders = Callable[[str], Path]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")

HOSTILE = '<img src=x onerror="window.hacked=1"> & [/INST] </script><script>window.hacked=1</script>'
TASKS = (
    "text-classification", "token-classification", "question-answering", "multiple-choice", "regression", "embedding",
    "multi-label-classification", "pretraining",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with served({task: folders(task) for task in TASKS}) as url, browser(tmp_path_factory.mktemp("profile")) as found:
        found.open(url)
        found.until("document.querySelector('#field-text')")
        yield found
        assert found.errors == []
        assert [request for request in found.requests if not request.startswith((url, "blob:"))] == []


def choose(page: Browser, task: str) -> None:
    page.run(f"(() => {{ $('model').value = '{task}'; $('model').onchange(); }})()")


def answer(page: Browser, **values: str) -> str:
    for name, value in values.items():
        page.run(f"$('field-{name}').value = {value!r}")
    page.run("(() => { $('status').textContent = ''; $('form').requestSubmit(); })()")
    page.until("$('status').textContent === t('done') || $('error').textContent")
    return str(page.run("$('result').innerText + $('error').innerText"))


def test_a_text_typed_with_the_keyboard_is_answered(page: Browser, folders: Folders) -> None:
    choose(page, "text-classification")
    page.run("$('field-text').focus()")
    page.type("the film is good")
    page.press("Tab", 9)
    page.press("Tab", 9)
    assert page.run("document.activeElement.id") == "send"
    page.run("$('send').click()")
    page.until("$('result').querySelector('.row.best')")
    best = predicted(folders("text-classification"), ["the film is good"])[0]
    assert page.run("document.querySelector('.row.best .name').textContent") == best["label"]
    shown = page.run("document.querySelector('.row.best .number').textContent")
    assert shown == f"{best['score'] * 100:.1f} %"
    assert best["label"] in page.run("document.querySelector('.row.best [role=img]').getAttribute('aria-label')")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_form_and_an_answer(page: Browser, task: str) -> None:
    choose(page, task)
    page.run("$('sample').click()")
    assert page.run("[...document.querySelectorAll('#fields textarea')].some((area) => area.value)")
    assert answer(page)
    assert page.run("$('error').textContent") == ""
    assert "tokens read" in page.run("$('result').innerText")


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_hostile_text_stays_text(page: Browser, task: str) -> None:
    choose(page, task)
    answer(page, text=HOSTILE)
    assert page.run("window.hacked") is None
    assert page.run("document.querySelectorAll('#result img, #result script').length") == 0


def test_an_error_is_told_in_words(page: Browser) -> None:
    choose(page, "pretraining")
    assert "[MASK]" in answer(page, text="no mask here")
    choose(page, "text-classification")
    page.run("$('field-text').value = ' '")
    page.run("$('form').requestSubmit()")
    page.until("$('error').textContent")
    assert page.run("$('error').textContent") == "Write a text first."
    assert page.run("$('error').getAttribute('role')") == "alert"


def test_a_table_is_answered_and_comes_back(page: Browser, folders: Folders, tmp_path: Path) -> None:
    texts = ["the film is good", 'a "quoted", text', HOSTILE, "第一行\n第二行"] + [f"film {i}" for i in range(80)]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerows([["id", "text"], *([str(i), text] for i, text in enumerate(texts))])
    path = tmp_path / "rows.csv"
    path.write_text(file.getvalue(), encoding="utf-8")
    choose(page, "text-classification")
    page.run("(() => { const make = URL.createObjectURL; URL.createObjectURL = (b) => make(window.made = b); })()")
    page.choose_file("#file", path)
    page.until("document.querySelector('#columns button')")
    page.run("document.querySelector('#columns button').click()")
    page.until("!$('download').hidden")
    rows = list(csv.reader(io.StringIO(page.run("window.made.text()").removeprefix("\ufeff"))))
    assert rows[0][:3] == ["id", "text", "label"]
    assert [row[1] for row in rows[1:]] == texts
    assert "84 rows" in page.run("$('table-status').textContent")
    cells = page.run("[...document.querySelectorAll('#preview tbody tr')].map((row) => row.innerText)")
    assert len(cells) == 20
    expected = [one["label"] for one in predicted(folders("text-classification"), texts)]
    assert [row[2] for row in rows[1:]] == expected
    assert page.run("window.hacked") is None


def test_a_number_and_its_interval(page: Browser, folders: Folders) -> None:
    choose(page, "regression")
    (expected,) = predicted(folders("regression"), [["the film", "a film"]])
    assert answer(page, text="the film", pair="a film").startswith(f"Value: {expected['score']}")
    page.run("window.parts = show({score: 3.5, low: 2, high: 5, tokens: 4, truncated: false}, {})")
    assert page.run("window.parts[0].textContent") == "Value: 3.5 (between 2 and 5)"


def test_chinese(page: Browser) -> None:
    page.run("(() => { $('language').value = 'zh'; $('language').onchange(); })()")
    assert page.run("document.documentElement.lang") == "zh-CN"
    assert page.run("$('send').textContent") == "预测"
    keys = page.run("[Object.keys(TEXTS.en).sort().join(), Object.keys(TEXTS.zh).sort().join()]")
    assert keys[0] == keys[1]
    page.run("(() => { $('language').value = 'en'; $('language').onchange(); })()")


def test_a_table_that_is_shown_follows_the_language(page: Browser, tmp_path: Path) -> None:
    choose(page, "text-classification")
    (tmp_path / "rows.csv").write_text("id,text\n1,a film\n", encoding="utf-8")
    page.choose_file("#file", tmp_path / "rows.csv")
    page.until("document.querySelector('#columns button')")
    page.run("document.querySelector('#columns select').value = '0'")
    page.run("(() => { $('language').value = 'zh'; $('language').onchange(); })()")
    shown = page.run("$('columns').innerText")
    assert "Column" not in shown
    assert "Predict" not in shown
    assert "预测" in shown
    assert page.run("document.querySelector('#columns select').value") == "0"
    page.run("(() => { $('language').value = 'en'; $('language').onchange(); })()")


def test_every_control_has_a_name(page: Browser) -> None:
    nameless = page.run(
        "[...document.querySelectorAll('input, select, textarea, button')].filter((node) => "
        "!node.innerText && !node.labels?.length && !node.getAttribute('aria-label')).map((node) => node.outerHTML)"
    )
    assert nameless == []


def test_dark_and_light(page: Browser, tmp_path: Path) -> None:
    choose(page, "text-classification")
    shots = []
    for dark in (False, True):
        page.screenshot(tmp_path / f"{dark}.png", dark=dark)
        shots.append(page.run("getComputedStyle(document.documentElement).getPropertyValue('--bar').trim()"))
    assert shots[0] != shots[1]

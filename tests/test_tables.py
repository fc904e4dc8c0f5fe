"""Tables show what cells hold."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from bertune.tables import for_people, plain, plain_table, table_of


def printed(table: object, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    Console(file=stream, width=200).print(table)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("text", ["[/INST]", "[red]x[/red]", "[/]", "[link=a]", "a [bold", "\\[x]", "[@click=f]y[/]"])
def test_brackets_are_text_in_every_place(text: str) -> None:
    shown = printed(plain_table(text, (text, "b"), [(text, 1), ("a", text)]))
    assert shown.count(text) == 4
    assert printed(table_of(text, {text: 0.5, "x": text})).count(text) == 3


@pytest.mark.parametrize(
    ("text", "escape"), [("\x1b[2Jx", "\\x1b[2Jx"), ("a\rb", "a\\rb"), ("\u202eevil", "\\u202e"), ("\udc80", "\\udc80")]
)
def test_what_steers_a_terminal_is_shown_as_an_escape(text: str, escape: str) -> None:
    assert escape in printed(table_of("t", {"a": text}))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "gbk"])
def test_consoles_of_other_encodings(encoding: str) -> None:
    shown = printed(table_of("Титул", {"标签": "日本 ü 🎉"}), encoding)
    assert "\\U0001f389" in shown


def test_styled_text_stays() -> None:
    styled = Text("x", "bold")
    assert plain(styled) is styled


def test_figures_of_thousands_of_classes_are_left_to_the_files() -> None:
    few = {"f1": 0.5, "f1/a": 0.1, "f1/b": 0.2}
    assert for_people(few) == few
    assert for_people(few | {f"f1/{i}": 0.0 for i in range(5000)}) == {"f1": 0.5}

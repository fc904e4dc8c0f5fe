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


def lines(table: object, width: int = 80) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("count", [1, 7, 30])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_number_of_columns_is_cut(count: int, width: int) -> None:
    heads = ["", *(f"matthews_correlation_{i}" for i in range(count))]
    rows = [(f"metric {i}", *(f"{i}.{j:04d}" for j in range(count))) for i in range(3)]
    shown = lines(plain_table("a run", heads, rows), width)
    text = "\n".join(shown)
    assert max(map(len, shown)) <= width
    assert "…" not in text
    assert all(head in text for head in heads)
    assert all(cell in text for row in rows for cell in row)
    assert text.count("metric 0") == len([line for line in shown if line.startswith("┏")])  # every part has the names


def test_every_part_of_a_divided_table_has_its_keys() -> None:
    heads = ("first", "second", *(f"a figure number {i}" for i in range(6)))
    shown = "\n".join(lines(plain_table("pairs", heads, [("out/a", "out/b", *map(str, range(6)))], keys=2)))
    assert shown.count("out/a") == shown.count("out/b") == shown.count("┏") > 1
    assert all(head in shown for head in heads)


def test_long_texts_go_on_in_the_next_line() -> None:
    text = "a text that is much longer than a line of the console is wide, and of which nothing is lost " * 2
    shown = lines(plain_table("answers", ("input", "answer", "score"), [(text, "yes", "0.873")]))
    assert max(map(len, shown)) <= 80
    words = " ".join(line.split("│")[1].strip() for line in shown if line.startswith("│"))
    assert words.split() == text.split()
    assert sum("0.873" in line for line in shown) == 1


def test_a_long_title_is_not_pressed_into_a_narrow_table() -> None:
    title = "out/some/folder: the model of step 120, best by accuracy"
    assert lines(table_of(title, {"a": 1.0}))[0] == title


def test_names_of_metrics_are_not_broken() -> None:
    heads = ("", "mean", "deviation", "seed 1 (best)", "seed 2")
    rows = [("train_examples_per_second", "360.1846", "26.2462", "341.6258", "2378.7435"), ("f1 (of 'good')", *"1234")]
    shown = lines(plain_table("two seeds", heads, rows))
    assert max(map(len, shown)) <= 80
    assert sum("train_examples_per_second" in line for line in shown) == len([x for x in shown if x.startswith("┏")])


def test_three_columns_of_texts_stay_in_one_table() -> None:
    """As `bertune check` has them."""
    texts = (
        "of all sequences some are cut at --max-seq-length 128",
        "line 92: 693 tokens",
        "a longer limit " * 3,
    )
    shown = lines(plain_table("findings", ("", "finding", "where", "what to do"), [("warn", *texts)]))
    assert max(map(len, shown)) <= 80
    assert len([line for line in shown if line.startswith("┏")]) == 1

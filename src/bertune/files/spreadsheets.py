"""Texts that a spreadsheet must not take for formulas: CSV files written here have an apostrophe before them."""

MARKS = ("=", "+", "-", "@", "\t")
"""First characters by which a spreadsheet takes a text for a formula."""


def harmless(value: object) -> object:
    """The value, with an apostrophe before a text that would be a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in MARKS else value


def original(value: object) -> str:
    """The text that `harmless` was given; nothing for None."""
    text = "" if value is None else str(value)
    return text[1:] if text[:1] == "'" and text[1:2] in MARKS else text

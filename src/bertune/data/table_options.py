"""Options on how a table is written. Imports nothing that computes: a command line is read before torch is."""

from dataclasses import dataclass

from bertune.options import option


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a file of rows is written. What is left out is recognised from the file, and logged in one line."""

    encoding: str | None = option(
        None, help="encoding of text files: utf-8, cp1252, gb18030, … (default: recognised)", of_file=True
    )
    delimiter: str | None = option(
        None, help="field separator: ';', ',', '|' or tab (default: recognised)", of_file=True
    )
    header: bool | None = option(
        None, help="whether the first line holds the column names; with --no-header columns are numbered from 0 "
"(default: recognised)",
        of_file=True,
    )  # fmt: skip
    sheet: str | None = option(None, help="sheet of an .xlsx file (default: the first)", of_file=True)
    drop_unlabelled: bool = option(
        False, help="leave out and count rows without a text or a label, instead of refusing the file",
    )  # fmt: skip

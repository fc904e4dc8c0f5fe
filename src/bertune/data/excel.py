"""Rows of an .xlsx workbook, as its CSV export would have them. Needs openpyxl (`pip install bertune[excel]`)."""

import datetime
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

from bertune.errors import InputError

logger = logging.getLogger(__name__)


def records(path: Path, sheet: str | None, *, tell: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Row number, from 1, and cells as text of every row that is not empty; in constant memory.

    Args:
        path: The workbook.
        sheet: Name of a sheet; None: the first.
        tell: Whether to log which one is read, where there are more.

    Raises:
        InputError: openpyxl is missing, the file is no workbook, there is no such sheet.
    """
    try:
        import openpyxl
    except ImportError:
        raise InputError(
            f"{path}: reading .xlsx needs openpyxl (pip install 'bertune[excel]'); or save the sheet as CSV UTF-8"
        ) from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise InputError(
            f"cannot read {path}: {error}; is it an .xlsx workbook? .csv and .parquet are read, too"
        ) from None
    try:
        if sheet is not None and sheet not in book.sheetnames:
            raise InputError(f"--sheet {sheet}: {path} has no such sheet; it has: {', '.join(book.sheetnames)}")
        if tell and sheet is None and len(book.sheetnames) > 1:
            logger.info("%s: sheet %r is read (others: --sheet)", path, book.sheetnames[0])
        for number, cells in enumerate(book[sheet or book.sheetnames[0]].iter_rows(values_only=True), 1):
            fields = [_text(cell) for cell in cells]
            if any(fields):
                yield number, fields
    finally:
        book.close()


def _text(cell: object) -> str:
    """A cell's value as CSV has it."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell)

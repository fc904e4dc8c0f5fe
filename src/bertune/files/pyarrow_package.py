"""pyarrow, which `bertune_runtime` does without."""

from bertune.errors import InputError


def require_pyarrow(named: object) -> None:
    """Refuse to read a file that needs pyarrow where it is not installed.

    Args:
        named: the file or kind of files, for the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError(
            f"{named}: reading Parquet, Arrow and zstd files needs pyarrow, which is not installed "
            "(pip install pyarrow); or give CSV, TSV or JSON lines, plain or packed with gzip"
        ) from None

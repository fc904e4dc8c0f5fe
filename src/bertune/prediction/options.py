"""Options on what is predicted and where answers go. Imports nothing that computes."""

from dataclasses import dataclass

from bertune.options import option


@dataclass(frozen=True)
class BulkOptions:
    """What `predict` and `embed` share on their input and output."""

    input: str = option(
        help="input data: a file, a folder, a pattern such as 'data/*.jsonl', a pipe, or - for standard input; "
        "JSON lines, CSV, TSV or Parquet, also with .gz or .zst; labels are not needed"
    )
    output: str | None = option(
        None,
        help="where to write the results, in input order: a file (.jsonl, .csv, .tsv, .parquet, also with .gz "
        "or .zst), a folder, or - for standard output (default: show the first ones)",
        value="PATH",
    )
    resume: bool = option(False, help="continue a run that was stopped; finished parts are kept")
    shard: str | None = option(
        None,
        help="process one of N equal shares of the input, written I/N with I from 0; the outputs in order are "
        "the whole",
    )
    keep_columns: bool = option(
        False,
        help="also write all columns of the input; one that has the name of a prediction's key gets the prefix input_",
    )
    columns: list[str] | None = option(  # noqa: RUF009
        None, help="also write these columns of the input, such as an id"
    )
    skip_bad: bool = option(
        False, help="leave out and count rows that cannot be read, and list them in OUTPUT.bad.jsonl"
    )
    rows_per_part: int | None = option(
        None,
        help="rows per part; --resume keeps whole parts (default: 100000 in a folder, 10000 in one file)",
        minimum=1,
    )
    engine: str = option("local", help="local: this process, or torchrun's; ray: Ray Data", choices=("local", "ray"))
    ray_address: str | None = option(None, help="address of a Ray cluster, or auto (default: Ray on this machine)")
    ray_actors: int | None = option(
        None, help="number of models at work (default: one per core, or one per GPU)", minimum=1
    )
    output_format: str | None = option(
        None,
        help="format of the files in an output folder, such as csv or jsonl.zst (default: jsonl); glue: one "
        "file for GLUE's server",
    )

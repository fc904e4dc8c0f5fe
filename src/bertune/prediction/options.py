"""Options on what is predicted and where answers go. Imports nothing that computes."""

from dataclasses import dataclass

from bertune.options import option


@dataclass(frozen=True)
class BulkOptions:
    """What `predict` and `embed` share on their input and output."""

    input: str = option(
        help="input data: a file, a folder, a pattern ('data/*.jsonl'), a pipe, or - for standard input; JSON "
        "lines, CSV, TSV or Parquet, also with .gz or .zst; labels are not needed"
    )
    output: str | None = option(
        None,
        help="where to write predictions, in input order: a file (.jsonl, .csv, .tsv, .parquet, also with .gz or "
        ".zst), a folder (a file for every part), or - for standard output; left out: a table of the first ones",
    )
    resume: bool = option(False, help="keep the finished parts of a run that was stopped, and make the others")
    shard: str | None = option(
        None, help="answer one of N equal shares, I/N with I from 0: shards in order are the whole; for schedulers"
    )
    keep_columns: bool = option(
        False, help="also write the input's columns; a name that a prediction uses gets the prefix input_"
    )
    columns: list[str] | None = option(  # noqa: RUF009
        None, help="columns of the input to write before the answer, such as an id; --keep-columns writes all"
    )
    skip_bad: bool = option(
        False, help="leave out rows that cannot be read, count them, and list them in OUTPUT.bad.jsonl"
    )
    rows_per_part: int | None = option(
        None,
        help="rows of a part, the unit that is finished or not (default: 100000 in a folder, 10000 of one file)",
        minimum=1,
    )
    engine: str = option("local", help="local: this process, or torchrun's; ray: Ray Data", choices=("local", "ray"))
    ray_address: str | None = option(None, help="of a Ray cluster, or auto (default: Ray on this machine alone)")
    ray_actors: int | None = option(None, help="models at work (default: one a core, or one a GPU)", minimum=1)
    output_format: str | None = option(
        None,
        help="format of the parts in an output folder, such as csv or jsonl.zst (default: jsonl); glue: one file as "
        "GLUE's server takes it",
    )

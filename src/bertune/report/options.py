"""Options of `bertune report`."""

from dataclasses import dataclass

from bertune.options import DEVICES, PRECISIONS, option

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class ReportOptions:
    """Options of `bertune report`; the run's folder is given without a flag, before them."""

    data: str | None = option(None, help="labelled rows (default: the validation data that the run recorded)")
    output: str | None = option(
        None,
        help="the HTML file; a .json and a .csv of errors are written next to it (default: report.html in the run's "
        "folder)",
        value="FILE",
    )
    language: str = option("en", help="language of the page", choices=LANGUAGES)
    texts: bool = option(True, help="show rows of the data; with --no-texts the report holds figures only")
    explain: int = option(
        0, help="for this many errors, the most confident ones, show the words behind the answer", minimum=0
    )
    slice_column: list[str] | None = option(  # noqa: RUF009
        None, help="columns by whose values to break down the metrics (a source, a language)"
    )
    baselines: bool = option(True, help="also show what simple methods achieve, if the training data can still be read")
    opinions: bool = option(
        True,
        help="also look for wrong labels with quick methods on words and on the pretrained encoder's vectors; "
        "--no-opinions is faster",
    )
    resamples: int = option(1000, help="number of bootstrap resamples for the intervals", minimum=100)
    batch_size: int = option(256, help="largest number of sequences in a batch", minimum=1)
    precision: str = option("auto", help="floating-point format of the computation", choices=PRECISIONS)
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    trust_task_file: str | None = option(
        None, help="Python file of the model's task, if it was trained with --task FILE.py:Class; its code is run"
    )

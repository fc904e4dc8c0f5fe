"""Options of `bertune report`."""

from dataclasses import dataclass

from bertune.options import DEVICES, PRECISIONS, option

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class ReportOptions:
    """Options of `bertune report`; the run's folder is given without a flag, before them."""

    data: str | None = option(None, help="labelled rows (default: the validation data that the run recorded)")
    output: str | None = option(None, help="the HTML file; a .json and a .csv of errors are written next to it "
                                           "(default: report.html in the run's folder)")  # fmt: skip
    language: str = option("en", help="language of the page", choices=LANGUAGES)
    texts: bool = option(True, help="show rows of the data; without, figures alone leave the machine")
    explain: int = option(0, help="errors, the surest ones, for which words that carry the answer are shown", minimum=0)
    slice_column: list[str] | None = option(  # noqa: RUF009
        None, help="columns of the data by whose values rows are compared (a source, a language)"
    )
    baselines: bool = option(True, help="also show what simple methods reach, where the training data are still there")
    opinions: bool = option(True, help="look for wrong labels also with quick methods on words and on the pretrained "
                                       "encoder's vectors; without, the report is made faster")  # fmt: skip
    resamples: int = option(1000, help="resamples of the bootstrap for intervals", minimum=100)
    batch_size: int = option(256, help="largest number of sequences in a batch", minimum=1)
    precision: str = option("auto", help="floating-point format of the computation", choices=PRECISIONS)
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    trust_task_file: str | None = option(None, help="the file of a model whose task came from one; its code is run")

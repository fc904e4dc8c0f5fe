"""A data frame with a model's answers beside its own columns."""

from collections.abc import Mapping
from typing import Any

from bertune.argument_names import python_call
from bertune.data import in_memory
from bertune.errors import InputError
from bertune.model.predicting import Predictor, predict

PREFIX = "predicted_"


@python_call
def predict_frame(model: Predictor, frame: Any, *, prefix: str = PREFIX, batch_size: int = 256) -> Any:
    """Copy a data frame, with a new column for every key of the model's predictions.

    Args:
        model: of `bertune.load`, or of `bertune_runtime.load`.
        frame: of pandas or polars, with the columns that the model's task reads. Its own columns and a pandas index
            stay as they are.
        prefix: of the names of the new columns: `predicted_label`, `predicted_score`, …
        batch_size: most sequences computed at a time.

    Raises:
        InputError: no data frame, a column of that name exists already, or rows that the task cannot take.
    """
    library = type(frame).__module__.partition(".")[0]
    if library not in ("pandas", "polars") or type(frame).__name__ != "DataFrame":
        raise InputError(f"predict_frame takes a DataFrame of pandas or polars, not a {type(frame).__name__}")
    if not isinstance(prefix, str):
        raise InputError(f"predict_frame: prefix is {prefix!r}; expected a text, which may be empty")
    taken = [str(name) for name in frame.columns]
    if in_memory.as_table(frame) is None or not len(frame):
        return frame.copy() if library == "pandas" else frame.clone()
    predictions = predict(model, frame, batch_size=batch_size)
    names = list(dict.fromkeys(name for one in predictions for name in one))
    if twice := [f"{prefix}{name}" for name in names if f"{prefix}{name}" in taken]:
        raise InputError(f"predict_frame: the frame has {', '.join(twice)} already; choose another prefix")
    columns: Mapping[str, list[Any]] = {f"{prefix}{name}": [one.get(name) for one in predictions] for name in names}
    if library == "pandas":
        import pandas as pd

        return frame.assign(**{name: pd.Series(values, index=frame.index) for name, values in columns.items()})
    return frame.with_columns([_polars_column(name, values) for name, values in columns.items()])


def _polars_column(name: str, values: list[Any]) -> Any:
    """A series of polars, which would take the fields of all structs from the first ones and drop those of others."""
    import polars as pl

    fields = dict.fromkeys(key for one in values if isinstance(one, Mapping) for key in one)
    numbers = all(isinstance(x, int | float) for one in values if isinstance(one, Mapping) for x in one.values())
    if fields and numbers:
        return pl.Series(name, values, dtype=pl.Struct(dict.fromkeys(fields, pl.Float64)), strict=False)
    return pl.Series(name, values, strict=False)

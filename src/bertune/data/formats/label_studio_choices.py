"""Label Studio with choices: `{"data": {"text"}, "annotations": [{"result": [{"value": {"choices": […]}}]}]}`."""

from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format


def results(row: Mapping[str, object]) -> list[Mapping[str, object]] | None:
    """The results of the first annotation that was not cancelled, if any; older exports say `completions`."""
    done = row.get("annotations", row.get("completions"))
    annotations = done if isinstance(done, list) else []
    kept = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    if not kept:
        return None
    found = kept[0].get("result")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def choices(row: Mapping[str, object]) -> list[str]:
    """The chosen names."""
    values = [one.get("value") for one in results(row) or []]
    found = [value["choices"] for value in values if isinstance(value, dict) and isinstance(value.get("choices"), list)]
    return [str(name) for names in found for name in names]


def _is_row(first: Mapping[str, object]) -> bool:
    data = first.get("data")
    if not isinstance(data, dict) or not {"annotations", "completions"} & set(first):
        return False
    return isinstance(data.get("text"), str)


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    names, data = choices(row), row.get("data")
    if isinstance(data, dict) and (names or not labelled):
        yield {"text": data.get("text"), "label": names[0] if len(names) == 1 else names}


FORMAT = Format(
    "Label Studio's JSON with choices", "labels", "Label Studio (JSON; JSON-MIN and CSV are plain tables)",
    is_row=_is_row, convert=_convert, left_out="nothing was chosen, or the annotation was cancelled",
    columns=("text", "label"),
)  # fmt: skip

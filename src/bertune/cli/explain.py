"""`bertune explain`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bertune.cli.arguments import parse
from bertune.options import DEVICES, option

if TYPE_CHECKING:
    from bertune.model.explain import Explanation

SHOWN = 20


@dataclass(frozen=True)
class ExplainOptions:
    """Options of `bertune explain`."""

    model: str = option(help="folder that bertune train wrote; classification or regression")
    text: str = option(help="text whose answer to explain")
    pair: str | None = option(None, help="second text of a pair")
    label: str | None = option(None, help="label to explain (default: the most probable one)")
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    trust_task_file: str | None = option(
        None, help="Python file of the model's task, if it was trained with --task FILE.py:Class; its code is run"
    )
    json: bool = option(False, help="print one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Print the words that carry a model's answer."""
    about = "Show which words count for and against a model's answer (integrated gradients)."
    options = ExplainOptions(**parse("bertune explain", about, [ExplainOptions], argv))

    from bertune.model.explain import explain
    from bertune.model.use import load

    model = load(options.model, device=options.device, precision="fp32", trust_task_file=options.trust_task_file)
    item = options.text if options.pair is None else (options.text, options.pair)
    found = explain(model, item, label=options.label)
    if options.json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _show(found)


def _show(found: "Explanation") -> None:
    from rich.console import Console

    from bertune.tables import plain_table

    console = Console()
    ordered = sorted(found.words, key=lambda word: -abs(word.weight))[:SHOWN]
    rows = [(word.word, word.field, f"{word.weight:+.3f}") for word in ordered]
    console.print(
        plain_table(f"{found.label or 'score'}: {found.score:.3f}", ("word", "of", "adds to the evidence"), rows)
    )
    console.print(
        f"evidence {found.evidence:+.3f}; with every word masked {found.masked_evidence:+.3f}; the words' weights "
        f"miss the difference by {found.completeness_error:.4f} ({found.steps} steps)",
        markup=False,
        highlight=False,
    )
    if found.label is not None and found.masked_evidence > 0:
        console.print(
            "Without its words the text gets this label too: they have little to add, and weights show what moves the "
            "answer either way.",
            markup=False,
        )
    if found.truncated:
        console.print("The end of the text is beyond the model's longest sequence and was not read.", markup=False)

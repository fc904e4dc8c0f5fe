"""`bertune export`: a model as a folder that runs without torch: ONNX graphs, tokenizer, settings, and the proof."""

import importlib.util
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertune.checkpoints.exported import is_exported
from bertune.checkpoints.names import KIND
from bertune.errors import InputError
from bertune.export.card import exported_card
from bertune.export.files import remove_graph, save_graph
from bertune.export.heads import is_own
from bertune.export.network import network_model
from bertune.export.options import GRAPHS, ExportOptions
from bertune.export.quantized import write_int8
from bertune.export.record import FORMAT, MINIMUM_RUNTIME, VERIFICATION, Written, verification_record
from bertune.export.verification import Compared, Labelled, Reference, compare, refuse_differing
from bertune.files.atomic_write import unwritable
from bertune.files.json_files import read_json
from bertune.files.outputs import link_to_nothing
from bertune.inference.onnx_model import OnnxModel
from bertune.model.record import MODEL_FILE, data_from
from bertune.model.use import Model, load
from bertune.option_values import checked_values
from bertune.tasks.labelled import Labelled as Rows
from bertune.tasks.labelled import read_recorded
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
_NOT_COPIED = ("checkpoints", "onnx", "logs", MODEL_FILE, *_TOKENIZER_FILES)


def export(options: ExportOptions, task_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write an exported model and return what `verification.json` holds.

    All is written into a folder beside and renamed at the end, so that after an error nothing is there.

    Args:
        options: see there.
        task_options: those of the model's task that differ for the labelled data (its columns).

    Raises:
        InputError: no model, an output in use, packages that are missing, a family or head that cannot be exported, or
            a graph whose logits or metrics differ by more than allowed.
    """
    output = Path(options.output)
    _check(options, output)
    model = load(options.model, device="cpu", precision="fp32", trust_task_file=options.trust_task_file)
    if not model.tokenizer.is_self_contained:
        raise InputError(
            f"export: the tokenizer of {options.model} needs MeCab, which no tokenizer.json can express; serve the "
            "model with bertune serve"
        )
    if task_options:
        changed = checked_values(type(model.task.options), {**asdict(model.task.options), **task_options})
        model.task = model.task.with_options(type(model.task.options)(**changed))
    labelled = _labelled(model, options)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".exporting-", dir=output.parent))
        try:
            verification = _write(model, labelled, options, beside)
            beside.chmod(0o755)
            beside.rename(output)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise unwritable(
            error, f"--output {output}: cannot be written: {error.strerror or error}; nothing was written"
        ) from None
    return verification


def head_kind(model: Model) -> str:
    """Transformers' class for a model's head, after the family's name, whatever folder it is kept in."""
    head = model.task.huggingface()
    return str(head.settings.get(KIND, head.architecture))


def _check(options: ExportOptions, output: Path) -> None:
    """What can be refused before any work."""
    unknown = [name for name in options.precision if name not in GRAPHS]
    if unknown or not options.precision:
        raise InputError(f"--precision {' '.join(unknown)}: known are {' and '.join(GRAPHS)}")
    if broken := link_to_nothing(output):
        raise InputError(broken)
    if is_exported(Path(options.model)):
        raise InputError(
            f"--model {options.model}: is an exported model, which has no weights to export; name the folder that "
            "bertune train wrote"
        )
    if output.resolve().is_relative_to(Path(options.model).resolve()):
        raise InputError(f"--output {output}: is inside the model's folder {options.model}; name a folder outside")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output {output}: is in use; name a new folder")
    absent = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if absent:
        raise InputError(f"export: needs {' and '.join(absent)}; install them with: pip install 'bertune[export]'")
    import onnxruntime

    if _version(onnxruntime.__version__) < _version(MINIMUM_RUNTIME):
        raise InputError(
            f"export: onnxruntime {onnxruntime.__version__} is too old; it must be at least {MINIMUM_RUNTIME}: "
            "pip install --upgrade onnxruntime"
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _labelled(model: Model, options: ExportOptions) -> Labelled | None:
    """The data of --data, or the run's validation file where it still is what it was.

    Raises:
        InputError: unreadable data, or none where 8 bits are asked for.
    """
    if options.data is not None:
        rows = Rows.read(model.task, options.data, "--data")
    else:
        try:
            rows = _recorded(model)
        except InputError as error:
            if "int8" in options.precision:
                raise InputError(
                    f"--precision int8: needs labelled data, to measure what 8 bits lose: {error}; name some with "
                    "--data"
                ) from None
            logger.info("compared on made-up sequences alone: %s; --data names labelled data", error)
            return None
    examples = rows.examples
    if problems := rows.problems(model.task):
        raise InputError("\n".join(problems[:20]))
    features = model.task.featurize(examples, model.tokenizer, model.max_seq_length, purpose="evaluate")
    return Labelled(rows.path.name, str(rows.describe()["sha256"]), examples, features)


def _recorded(model: Model) -> Rows:
    """The rows that the run validated on.

    Raises:
        InputError: there are none, or they are not there any more, or have changed.
    """
    recorded = (model.record.get("data") or {}).get("validation")
    if not isinstance(recorded, Mapping):
        raise InputError("it was trained without validation data")
    try:
        return read_recorded(model.task, recorded, model.record.get("options"))
    except InputError as error:
        raise InputError(str(error).replace("\n", "; ")) from None


def _write(model: Model, labelled: Labelled | None, options: ExportOptions, folder: Path) -> dict[str, Any]:
    """All files of the exported folder; see `export`."""
    reference = Reference.of(model, labelled)
    (folder / "onnx").mkdir()
    plain = folder / "onnx" / GRAPHS["fp32"]
    save_graph(network_model(model.network, head_kind(model)), plain)
    compared = _compared(plain, reference)
    refuse_differing(compared, options.tolerance)
    logger.info("fp32: logits within %.1e of PyTorch's on %d rows", compared.difference, compared.rows)
    written = {"fp32": Written(plain, compared)}
    if "int8" in options.precision:
        quantized = folder / "onnx" / GRAPHS["int8"]
        written["int8"] = write_int8(quantized, reference, head_kind(model), options.max_loss)
    if "fp32" not in options.precision:
        remove_graph(plain)
    record = verification_record(reference, {name: written[name] for name in options.precision})
    _copy(Path(options.model), model, folder)
    _write_json(folder / "onnx" / VERIFICATION, record)
    _write_json(folder / MODEL_FILE, _model_file(Path(options.model), options.precision))
    card = folder / "README.md"
    card.write_text(exported_card(card.read_text(encoding="utf-8"), record), encoding="utf-8")
    return record


def _compared(path: Path, reference: Reference) -> Compared:
    """How the float32 graph compares.

    Raises:
        InputError: it cannot be run, because PyTorch's export of a task file's head fixed what differs from batch to
            batch.
    """
    head = reference.model.network.head
    try:
        return compare(OnnxModel(path), reference)
    except Exception as error:  # ONNX Runtime's errors have no class in common
        if is_own(head):
            raise
        raise InputError(
            f"export: the head {type(head).__name__} gives a graph that cannot be run on other batches than the one it "
            f"was recorded with ({str(error).strip().splitlines()[-1][:200]}); its forward must not turn tensors into "
            "Python numbers; nothing was written"
        ) from None


def _copy(source: Path, model: Model, folder: Path) -> None:
    """The small files of a model folder, and its tokenizer.

    Raises:
        InputError: see `_copy_tokenizer`.
    """
    for file in source.rglob("*.json"):
        kept = file.relative_to(source)
        if kept.parts[0] in _NOT_COPIED or kept.name.startswith(".") or kept.name.endswith(".index.json"):
            continue
        (folder / kept).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, folder / kept)
    if (source / "README.md").is_file():
        shutil.copyfile(source / "README.md", folder / "README.md")
    _copy_tokenizer(source, model, folder)


def _copy_tokenizer(source: Path, model: Model, folder: Path) -> None:
    """The tokenizer's files as `train` wrote them; where they are not all there, written anew.

    Raises:
        InputError: the files alone do not give the model's tokens.
    """
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if (folder / "tokenizer.json").is_file() and _same_tokens(folder, model):
        return
    model.tokenizer.save(folder, max_length=model.network.encoder.config.max_position_embeddings)
    if not _same_tokens(folder, model):
        raise InputError(
            f"export: the tokenizer of {source} is not self-contained: what was written of it gives other tokens; "
            "nothing was written"
        )


def _same_tokens(folder: Path, model: Model) -> bool:
    return Tokenizer.from_folder(folder).fingerprint == model.tokenizer.fingerprint


def _model_file(source: Path, precisions: Sequence[str]) -> dict[str, Any]:
    """bertune.json: the model's as it was written, and what was exported."""
    record = read_json(source / MODEL_FILE)
    record["data"] = data_from(record.get("data") or {}, None)
    return {**record, "export": {"format": FORMAT, "precisions": list(precisions)}}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""TF-Hub modules: recorded ones of both generations, and small ones written here for what those do not show."""

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bertune.checkpoints.google import ENCODER, GoogleCheckpoint, read_google_checkpoint
from bertune.checkpoints.google_config import config_to_bert_json
from bertune.checkpoints.names import for_layers, to_ours, to_theirs
from bertune.checkpoints.tfhub import is_tfhub_module, read_tfhub_module
from bertune.errors import InputError
from bertune.tensorflow_formats.bundle_index import Entry, write_entry, write_header
from bertune.tensorflow_formats.crc32c import crc32c, masked
from bertune.tensorflow_formats.protobuf import bytes_field, varint, varint_field
from bertune.tensorflow_formats.sstable import read_table, write_table
from bertune.tensorflow_formats.tensor_bundle import Array, write_bundle

Inputs = Mapping[str, npt.NDArray[np.int32]]
Reference = Callable[[GoogleCheckpoint, Inputs], tuple[Tensor, Tensor]]

HIDDEN, INNER, WORDS, PLACES, HEADS = 6, 10, 9, 5, 3
INT32, FLOAT, STRING, BOOL = 3, 1, 7, 10


def encoder_tensors() -> dict[str, Array]:
    """A one-layer encoder under google-research/bert's names."""
    sizes = {"embeddings.word.weight": WORDS, "embeddings.position.weight": PLACES, "embeddings.segment.weight": 2}
    generator = torch.Generator().manual_seed(1)
    state: dict[str, Tensor] = {}
    for line in for_layers(ENCODER, 1):
        wide = INNER if ".up." in line.ours else sizes.get(line.ours, HIDDEN * len(line.theirs))
        shape: tuple[int, ...] = (wide, INNER if ".down." in line.ours else HIDDEN)
        matrix = line.transpose or (line.ours.startswith("embeddings") and "norm" not in line.ours)
        state[line.ours] = torch.randn(shape if matrix else shape[:1], generator=generator)
    return {name: tensor.numpy() for name, tensor in to_theirs(for_layers(ENCODER, 1), state).items()}


def node(name: str, operation: str, inputs: Iterable[str] = (), tensor: bytes = b"") -> bytes:
    """A NodeDef."""
    data = bytes_field(1, name.encode()) + bytes_field(2, operation.encode())
    data += b"".join(bytes_field(3, source.encode()) for source in inputs)
    return data + (bytes_field(5, bytes_field(1, b"value") + bytes_field(2, bytes_field(8, tensor))) if tensor else b"")


def tensor_proto(kind: int, field: int, value: bytes) -> bytes:
    return varint_field(1, kind) + value if field == 0 else varint_field(1, kind) + bytes_field(field, value)


def whole(*values: int) -> bytes:
    return tensor_proto(INT32, 7, b"".join(varint(value) for value in values))


def signature(outputs: Mapping[str, str]) -> bytes:
    tensors = (
        bytes_field(1, key.encode()) + bytes_field(2, bytes_field(1, name.encode())) for key, name in outputs.items()
    )
    return b"".join(bytes_field(2, tensor) for tensor in tensors)


def meta_graph(nodes: Iterable[bytes], rest: bytes = b"", tags: Iterable[str] = ()) -> bytes:
    info = b"".join(bytes_field(4, tag.encode()) for tag in tags)
    return bytes_field(1, info) + bytes_field(2, b"".join(bytes_field(1, item) for item in nodes)) + rest


def asset(tensor: str, file: str) -> bytes:
    return bytes_field(6, bytes_field(1, bytes_field(1, tensor.encode())) + bytes_field(2, file.encode()))


def module(folder: Path, graphs: Iterable[bytes], tensors: Mapping[str, Array], words: str = "[PAD]\na\nb\n") -> Path:
    """A SavedModel's folder."""
    (folder / "assets").mkdir(parents=True)
    (folder / "assets/words.txt").write_text(words)
    (folder / "saved_model.pb").write_bytes(varint_field(1, 1) + b"".join(bytes_field(2, graph) for graph in graphs))
    write_bundle(folder / "variables/variables", tensors)
    return folder


SHAPE = "m/bert/encoder/layer_0/attention/self/Reshape/shape"
PACKED = [
    node(SHAPE, "Pack", ["batch", "length", f"{SHAPE}/2", f"{SHAPE}/3"]),
    node(f"{SHAPE}/2", "Const", tensor=whole(HEADS)),
]
TOKENIZATION = [
    node("lower", "Const", tensor=tensor_proto(BOOL, 11, b"\0")),
    node("lower/copy", "Identity", ["lower"]),
]
INFO = bytes_field(
    5,
    bytes_field(1, b"tokenization_info")
    + bytes_field(2, signature({"do_lower_case": "lower/copy:0", "vocab_file": "file:0"})),
)
VOCAB = asset("file:0", "words.txt")


def tf1_module(
    folder: Path, nodes: Iterable[bytes] = (*PACKED, *TOKENIZATION), rest: bytes = INFO + VOCAB, prefix: str = "m/"
) -> Path:
    training = meta_graph([node(SHAPE, "Const", tensor=whole(1, 1, 2, 3))], tags=["train"])
    tensors = {prefix + name: array for name, array in encoder_tensors().items()}
    return module(folder, [training, meta_graph(nodes, rest)], tensors)


class TestRecorded:
    @pytest.mark.parametrize("name", ["tiny_module", "tiny_module.tar.gz"])
    def test_tf1_is_the_model_it_was_made_of(self, shared: Path, name: str) -> None:
        path = shared / "golden/hub" / name
        assert is_tfhub_module(path)
        found, expected = read_tfhub_module(path), read_google_checkpoint(shared / "golden/tiny")
        assert found.config == expected.config
        encoder = {name: tensor for name, tensor in expected.tensors.items() if name.startswith("bert/")}
        assert found.tensors.keys() == encoder.keys()
        assert all(torch.equal(found.tensors[name], tensor) for name, tensor in encoder.items())
        assert found.do_lower_case is True
        assert found.vocab_lines == expected.vocab_lines
        assert found.vocab_file == (path / "assets/vocab.txt" if path.is_dir() else None)
        assert found.heads == []

    def test_tf2_gives_the_recorded_outputs(self, shared: Path, reference_outputs: Reference) -> None:
        path = shared / "golden/hub/tiny_savedmodel_v2"
        assert is_tfhub_module(path)
        found = read_tfhub_module(path)
        assert (found.config.num_hidden_layers, found.config.num_attention_heads) == (3, 4)
        assert (found.config.hidden_act, found.config.layer_norm_eps) == ("gelu_tanh", 1e-12)
        assert found.do_lower_case is True
        assert found.vocab_file == path / "assets/vocab.txt"
        with np.load(shared / "golden/hub/tiny_savedmodel_v2.forward.npz") as file:
            recorded = dict(file)
        sequence, pooled = reference_outputs(found, recorded)
        real = recorded["input_mask"] == 1
        np.testing.assert_allclose(sequence[real], recorded["sequence_output"][real], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(pooled, recorded["pooled_output"], atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("name", ["tiny", "finetuned", "tiny/vocab.txt", "tiny/bert_model.ckpt"])
    def test_what_is_none(self, shared: Path, name: str) -> None:
        assert not is_tfhub_module(shared / "golden" / name)


class TestTF1:
    def test_sizes_casing_and_vocabulary_come_from_the_module(self, tmp_path: Path) -> None:
        found = read_tfhub_module(tf1_module(tmp_path / "x"))
        config = found.config
        assert (config.vocab_size, config.hidden_size, config.intermediate_size) == (WORDS, HIDDEN, INNER)
        assert (config.num_attention_heads, config.num_hidden_layers) == (HEADS, 1)  # not the training graph's 2
        assert (config.max_position_embeddings, config.type_vocab_size) == (PLACES, 2)
        assert found.do_lower_case is False  # the vocabulary alone would say True
        assert found.vocab_file == tmp_path / "x/assets/words.txt"
        for name, array in encoder_tensors().items():
            np.testing.assert_array_equal(found.tensors[name], array)

    @pytest.mark.parametrize(
        "shape",
        [
            tensor_proto(INT32, 7, b"".join(varint(value) for value in (-1, 5, HEADS, 2))),
            tensor_proto(INT32, 4, np.array([-1, 5, HEADS, 2], "<i4").tobytes()),
            tensor_proto(9, 4, np.array([-1, 5, HEADS, 2], "<i8").tobytes()),
        ],
    )
    def test_heads_from_a_constant_shape(self, tmp_path: Path, shape: bytes) -> None:
        found = read_tfhub_module(tf1_module(tmp_path / "x", [node(SHAPE, "Const", tensor=shape)]))
        assert found.config.num_attention_heads == HEADS

    @pytest.mark.parametrize("nodes", [[], [node(SHAPE, "Pack", "abcd")], [node(SHAPE, "Const", tensor=whole(1, 2))]])
    def test_heads_unknown(self, tmp_path: Path, nodes: list[bytes]) -> None:
        with pytest.raises(InputError, match="how many attention heads"):
            read_tfhub_module(tf1_module(tmp_path / "x", nodes))

    @pytest.mark.parametrize(("operation", "activation"), [("Erf", "gelu"), ("Relu", "relu"), ("Tanh", "gelu_tanh")])
    def test_activation(self, tmp_path: Path, operation: str, activation: str) -> None:
        found = read_tfhub_module(tf1_module(tmp_path / "x", [*PACKED, node("f", operation)]))
        assert found.config.hidden_act == activation

    def test_epsilon(self, tmp_path: Path) -> None:
        value = tensor_proto(FLOAT, 5, np.float32(1e-6).tobytes())
        nodes = [*PACKED, node("m/bert/embeddings/LayerNorm/batchnorm/add/y", "Const", tensor=value)]
        assert read_tfhub_module(tf1_module(tmp_path / "x", nodes)).config.layer_norm_eps == 1e-6

    def test_assets_in_a_collection(self, tmp_path: Path) -> None:
        item = bytes_field(1, bytes_field(1, b"type") + bytes_field(2, VOCAB[2:]))
        collection = bytes_field(4, bytes_field(1, b"saved_model_assets") + bytes_field(2, bytes_field(5, item)))
        found = read_tfhub_module(tf1_module(tmp_path / "x", rest=INFO + collection))
        assert found.vocab_file == tmp_path / "x/assets/words.txt"

    def test_without_tokenization_info(self, tmp_path: Path) -> None:
        folder = tf1_module(tmp_path / "x", rest=b"")
        found = read_tfhub_module(folder)
        assert (found.vocab_file, found.do_lower_case) == (None, None)
        (folder / "assets/words.txt").rename(folder / "assets/vocab.txt")
        found = read_tfhub_module(folder)
        assert (found.vocab_file, found.do_lower_case) == (folder / "assets/vocab.txt", True)

    def test_an_asset_outside_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "secret.txt").write_text("secret")
        found = read_tfhub_module(tf1_module(tmp_path / "x", rest=INFO + asset("file:0", "../../secret.txt")))
        assert (found.vocab_file, found.vocab_lines) == (None, None)

    def test_two_encoders(self, tmp_path: Path) -> None:
        folder = tf1_module(tmp_path / "x")
        tensors = {f"{side}/{name}": array for side in "ab" for name, array in encoder_tensors().items()}
        write_bundle(folder / "variables/variables", tensors)
        with pytest.raises(InputError, match="two encoders: both a/bert"):
            read_tfhub_module(folder)

    def test_no_encoder(self, tmp_path: Path) -> None:
        folder = tf1_module(tmp_path / "x")
        write_bundle(folder / "variables/variables", {"other": np.zeros(1, "f4")})
        with pytest.raises(InputError, match=r"no BERT encoder .* but other"):
            read_tfhub_module(folder)

    def test_a_layer_is_missing(self, tmp_path: Path) -> None:
        folder = tf1_module(tmp_path / "x")
        tensors = encoder_tensors()
        del tensors["bert/encoder/layer_0/output/dense/bias"]
        write_bundle(folder / "variables/variables", tensors)
        with pytest.raises(InputError, match="lacks bert/encoder/layer_0/output/dense/bias"):
            read_tfhub_module(folder)

    def test_files_missing(self, tmp_path: Path) -> None:
        folder = tf1_module(tmp_path / "x")
        shutil.rmtree(folder / "variables")
        with pytest.raises(InputError, match=r"variables\.index: cannot be read"):
            read_tfhub_module(folder)
        (folder / "saved_model.pb").unlink()
        assert not is_tfhub_module(folder)
        with pytest.raises(InputError, match=r"saved_model\.pb is missing"):
            read_tfhub_module(folder)

    def test_an_archive_of_another_kind(self, tmp_path: Path) -> None:
        (tmp_path / "bert_config.json").write_text("{}")
        with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "bert_config.json", "bert_config.json")
        assert not is_tfhub_module(tmp_path / "x.tar.gz")
        with pytest.raises(InputError, match=r"saved_model\.pb is missing"):
            read_tfhub_module(tmp_path / "x.tar.gz")


EARLY = {
    "bert/embeddings/word_embeddings": "bert_model/word_embeddings/embeddings",
    "bert/embeddings/position_embeddings": "bert_model/embedding_postprocessor/position_embeddings",
    "bert/embeddings/token_type_embeddings": "bert_model/embedding_postprocessor/type_embeddings",
    "bert/embeddings/LayerNorm/": "bert_model/embedding_postprocessor/layer_norm/",
    "bert/encoder/layer_0/attention/self/": "bert_model/encoder/layer_0/self_attention/",
    "bert/encoder/layer_0/attention/output/dense/": "bert_model/encoder/layer_0/self_attention_output/",
    "bert/encoder/layer_0/attention/output/LayerNorm/": "bert_model/encoder/layer_0/self_attention_layer_norm/",
    "bert/encoder/layer_0/intermediate/dense/": "bert_model/encoder/layer_0/intermediate/",
    "bert/encoder/layer_0/output/dense/": "bert_model/encoder/layer_0/output/",
    "bert/encoder/layer_0/output/LayerNorm/": "bert_model/encoder/layer_0/output_layer_norm/",
    "bert/pooler/dense/": "bert_model/pooler_transform/",
}
"""The names of the Model Garden's first encoders, as TF2 modules up to 2020 have them."""


def tf2_module(folder: Path, lower: bool | None) -> Path:
    """A TF2 SavedModel with the early names; the casing is a variable of the root."""
    tensors: dict[str, Array] = {}
    objects = [bytes_field(1, varint_field(1, 1) + bytes_field(2, b"do_lower_case")), b""]
    if lower is not None:
        tensors["do_lower_case/V"] = np.array(lower)
        objects[1] = bytes_field(2, bytes_field(2, b"Variable") + bytes_field(3, b"do_lower_case/V"))
    for number, (name, array) in enumerate(encoder_tensors().items()):
        start = next(start for start in EARLY if name.startswith(start))
        if "/attention/" in name and "LayerNorm" not in name:
            split = (HEADS, HIDDEN // HEADS)
            if "/output/" in name:
                array = array.reshape(*split, HIDDEN) if array.ndim == 2 else array
            else:
                array = array.reshape(*array.shape[:-1], *split)
        tensors[f"variables/{number}/V"] = array
        full = EARLY[start] + name.removeprefix(start)
        objects.append(bytes_field(2, bytes_field(2, full.encode()) + bytes_field(3, f"variables/{number}/V".encode())))
    module(folder, [meta_graph([], tags=["serve"])], tensors)
    add_text(
        folder / "variables/variables", "_CHECKPOINTABLE_OBJECT_GRAPH", b"".join(bytes_field(1, o) for o in objects)
    )
    return folder


def add_text(prefix: Path, name: str, text: bytes) -> None:
    """Put a scalar of type string into a checkpoint."""
    index, data = Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")
    checksum = crc32c(len(text).to_bytes(4, "little"))
    stored = masked(checksum).to_bytes(4, "little")
    offset = data.stat().st_size
    with data.open("ab") as file:
        file.write(varint(len(text)) + stored + text)
    size = data.stat().st_size - offset
    entry = Entry(STRING, (), 0, offset, size, masked(crc32c(stored + text, checksum)))
    pairs = [(key, bytes(value)) for key, value in read_table(memoryview(index.read_bytes())) if key]
    index.write_bytes(write_table([(b"", write_header()), *sorted([*pairs, (name.encode(), write_entry(entry))])]))


class TestTF2:
    @pytest.mark.parametrize("lower", [True, False])
    def test_early_names(self, tmp_path: Path, lower: bool) -> None:
        found = read_tfhub_module(tf2_module(tmp_path / "x", lower))
        assert found.do_lower_case is lower
        assert found.config.num_attention_heads == HEADS
        for name, array in encoder_tensors().items():
            np.testing.assert_array_equal(found.tensors[name], array)
        _, missing, unused = to_ours(for_layers(ENCODER, 1), found.tensors)
        assert (missing, unused) == ([], [])

    def test_a_checkpoint_of_the_model_garden(self, tmp_path: Path) -> None:
        """The same files as a checkpoint, told by a bert_config.json beside them."""
        folder = tf2_module(tmp_path / "x", True) / "variables"
        config = read_tfhub_module(tmp_path / "x").config
        (folder / "bert_config.json").write_text(json.dumps(config_to_bert_json(config)))
        found = read_google_checkpoint(folder)
        assert found.config == config
        assert found.tensors.keys() == encoder_tensors().keys()
        for name, array in encoder_tensors().items():
            np.testing.assert_array_equal(found.tensors[name], array)
        (folder / "bert_config.json").write_text(json.dumps({**config_to_bert_json(config), "num_attention_heads": 2}))
        with pytest.raises(InputError, match=r"has 3 attention heads, but .*bert_config\.json 2"):
            read_google_checkpoint(folder)

    def test_casing_unknown(self, tmp_path: Path) -> None:
        folder = tf2_module(tmp_path / "x", None)
        assert read_tfhub_module(folder).do_lower_case is None
        (folder / "assets/vocab.txt").write_text("a\nThe\n")
        assert read_tfhub_module(folder).do_lower_case is False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tf1_module(tmp_path_factory.mktemp("module") / "x")


class TestDamage:
    @settings(deadline=2000)
    @given(data=st.data())
    def test_graph_file(self, folder: Path, data: st.DataObject) -> None:
        """Any change of the graph is read as something or refused, never a crash."""
        path = folder / "saved_model.pb"
        before = path.read_bytes()
        content = bytearray(before)
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
        message = os.fspath(folder)
        try:
            read_tfhub_module(folder)
        except InputError as error:
            message = str(error)
        finally:
            path.write_bytes(before)
        assert os.fspath(folder) in message

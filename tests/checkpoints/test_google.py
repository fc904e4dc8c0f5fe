"""Google's checkpoints: found, read with what lies beside them, written back; compared with the original's outputs."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, log_softmax

from bertune.checkpoints.google import (
    ENCODER,
    HEADS,
    GoogleCheckpoint,
    config_to_bert_json,
    find_checkpoint,
    is_google_checkpoint,
    read_google_checkpoint,
    write_google_checkpoint,
)
from bertune.checkpoints.names import for_layers, to_ours
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.tensorflow_formats.protobuf import Message
from bertune.tensorflow_formats.tensor_bundle import Array, TensorBundle, write_bundle

Inputs = Mapping[str, npt.NDArray[np.int32]]
Reference = Callable[[GoogleCheckpoint, Inputs], tuple[Tensor, Tensor]]

SMALL = EncoderConfig(
    vocab_size=11,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=10,
    hidden_act="gelu_tanh",
)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c", "é", "\u2028", "。"]


def random_state(heads: list[str], labels: int = 2) -> dict[str, Tensor]:
    """Tensors by our names, with the shapes of SMALL."""
    hidden, inner = SMALL.hidden_size, SMALL.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word.weight": (11, hidden),
        "embeddings.position.weight": (10, hidden),
        "embeddings.segment.weight": (2, hidden),
        "layers.{i}.attention.qkv.weight": (3 * hidden, hidden),
        "layers.{i}.attention.qkv.bias": (3 * hidden,),
        "layers.{i}.attention.output.weight": (hidden, hidden),
        "layers.{i}.feed_forward.up.weight": (inner, hidden),
        "layers.{i}.feed_forward.up.bias": (inner,),
        "layers.{i}.feed_forward.down.weight": (hidden, inner),
        "pooler.weight": (hidden, hidden),
        "masked_lm.transform.weight": (hidden, hidden),
        "masked_lm.output_bias": (11,),
        "next_sentence.weight": (2, hidden),
        "next_sentence.bias": (2,),
        "head.weight": (labels, hidden),
        "head.bias": (labels,),
    }
    generator = torch.Generator().manual_seed(0)
    lines = [*ENCODER, *(line for head in heads for line in HEADS[head])]
    return {
        plain.ours: torch.randn(shapes.get(line.ours, (hidden,)), generator=generator)
        for line in lines
        for plain in for_layers([line], SMALL.num_hidden_layers)
    }


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A folder as Google releases it."""
    folder = tmp_path / "cased_L-2_H-8_A-2"
    write_google_checkpoint(folder, SMALL, random_state(["masked-lm", "next-sentence"]), WORDS)
    return folder


@pytest.fixture(scope="module")
def tiny(shared: Path) -> GoogleCheckpoint:
    return read_google_checkpoint(shared / "golden/tiny")


class TestTheOriginal:
    def test_what_is_there(self, tiny: GoogleCheckpoint, shared: Path) -> None:
        shapes = json.loads((shared / "golden/tiny/variables.json").read_text())
        assert {name: list(tensor.shape) for name, tensor in tiny.tensors.items()} == shapes
        assert {tensor.dtype for tensor in tiny.tensors.values()} == {torch.float32}
        assert tiny.config.hidden_act == "gelu_tanh"
        assert (tiny.config.num_hidden_layers, tiny.config.num_attention_heads, tiny.config.head_size) == (3, 4, 8)
        assert tiny.heads == ["masked-lm", "next-sentence"]
        assert tiny.vocab_file == shared / "golden/tiny/vocab.txt"
        assert tiny.vocab_lines is not None
        assert (len(tiny.vocab_lines), tiny.vocab_lines[101]) == (30522, "[CLS]")
        assert tiny.do_lower_case is True
        assert tiny.global_step == 0

    def test_forward_equals_the_recorded(
        self, tiny: GoogleCheckpoint, shared: Path, reference_outputs: Reference
    ) -> None:
        with np.load(shared / "golden/tiny/forward.npz") as file:
            recorded = dict(file)
        sequence, pooled = reference_outputs(tiny, recorded)
        real = recorded["input_mask"] == 1
        np.testing.assert_allclose(sequence[real], recorded["sequence_output"][real], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(pooled, recorded["pooled_output"], atol=1e-5, rtol=1e-5)

    def test_heads_equal_the_recorded(self, tiny: GoogleCheckpoint, shared: Path) -> None:
        recorded = {name: torch.tensor(array) for name, array in np.load(shared / "golden/tiny/forward.npz").items()}
        lines = [line for name in ("masked-lm", "next-sentence") for line in HEADS[name]]
        head, missing, _ = to_ours(lines, tiny.tensors)
        assert not missing
        hidden = recorded["sequence_output"].gather(
            1, recorded["masked_lm_positions"].long()[..., None].expand(-1, -1, 32)
        )
        hidden = hidden.reshape(-1, 32) @ head["masked_lm.transform.weight"].T + head["masked_lm.transform.bias"]
        hidden = layer_norm(
            gelu(hidden, approximate="tanh"), (32,), head["masked_lm.norm.weight"], head["masked_lm.norm.bias"], 1e-12
        )
        logits = hidden @ tiny.tensors["bert/embeddings/word_embeddings"].T + head["masked_lm.output_bias"]
        torch.testing.assert_close(log_softmax(logits, -1)[:, :2000], recorded["mlm_log_probs"], atol=1e-4, rtol=1e-5)
        logits = recorded["pooled_output"] @ head["next_sentence.weight"].T + head["next_sentence.bias"]
        torch.testing.assert_close(log_softmax(logits, -1), recorded["nsp_log_probs"], atol=1e-5, rtol=1e-5)

    def test_fine_tuned(self, shared: Path, reference_outputs: Reference) -> None:
        """Its loss on its own evaluation file is the recorded one."""
        golden = shared / "golden"
        found = read_google_checkpoint(golden / "finetuned", config_file=golden / "tiny/bert_config.json")
        assert found.prefix == golden / "finetuned/model.ckpt-15"
        assert (found.global_step, found.heads) == (15, ["text-classification"])
        assert not [name for name in found.tensors if "adam" in name or name == "global_step"]
        assert found.vocab_file == golden / "tiny/vocab.txt"
        head, _, _ = to_ours(HEADS["text-classification"], found.tensors)
        examples = tf_records(golden / "finetuned/eval.tf_record")
        _, pooled = reference_outputs(found, examples)
        scores = log_softmax(pooled @ head["head.weight"].T + head["head.bias"], -1)
        labels = torch.as_tensor(examples["label_ids"]).long()
        results = (golden / "finetuned/eval_results.txt").read_text().splitlines()
        expected = {key: float(value) for key, _, value in (line.partition(" = ") for line in results)}
        assert -scores.gather(1, labels).mean().item() == pytest.approx(expected["eval_loss"], abs=1e-6)
        assert (scores.argmax(-1) == labels[:, 0]).float().mean().item() == pytest.approx(expected["eval_accuracy"])


def tf_records(path: Path) -> dict[str, npt.NDArray[np.int32]]:
    """Features of the examples in a TFRecord file, which is: length, checksum, tf.train.Example, checksum, …"""
    data, position = memoryview(path.read_bytes()), 0
    features: dict[str, list[list[int]]] = {}
    while position < len(data):
        length = int.from_bytes(data[position : position + 8], "little")
        example = Message(data[position + 12 : position + 12 + length])
        for name, feature in example.message(1).entries(1):
            features.setdefault(name, []).append(feature.message(3).integers(1))
        position += 16 + length
    return {name: np.array(rows, np.int32) for name, rows in features.items()}


class TestFinding:
    def test_every_way_to_name_one(self, released: Path) -> None:
        prefix = released / "bert_model.ckpt"
        for suffix in ("", ".index", ".data-00000-of-00001", ".meta"):
            path = Path(f"{prefix}{suffix}")
            assert find_checkpoint(path) == prefix
            assert is_google_checkpoint(path)
        assert find_checkpoint(released) == prefix
        assert is_google_checkpoint(released)

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            ('model_checkpoint_path: "model.ckpt-20"\nall_model_checkpoint_paths: "model.ckpt-10"\n', "model.ckpt-20"),
            ('all_model_checkpoint_paths: "model.ckpt-20"\nmodel_checkpoint_path: "model.ckpt-10"\n', "model.ckpt-10"),
            ('model_checkpoint_path: "/somewhere/else/model.ckpt-10"\n', "model.ckpt-10"),
            ('model_checkpoint_path: "gs://bucket/model.ckpt-10"\n', "model.ckpt-10"),
            (r'model_checkpoint_path: "model\056ckpt\x2d10"', "model.ckpt-10"),
        ],
    )
    def test_the_newest_by_the_state_file(self, tmp_path: Path, state: str, expected: str) -> None:
        for step in (10, 20):
            write_bundle(tmp_path / f"model.ckpt-{step}", {"x": np.zeros(1, "f4")})
        with pytest.raises(InputError, match=r"several checkpoints .*: model\.ckpt-10, model\.ckpt-20\. Name one"):
            find_checkpoint(tmp_path)
        (tmp_path / "checkpoint").write_text(state)
        assert find_checkpoint(tmp_path) == tmp_path / expected

    def test_an_absolute_path_elsewhere(self, tmp_path: Path) -> None:
        write_bundle(tmp_path / "there/model.ckpt-1", {"x": np.zeros(1, "f4")})
        (tmp_path / "here").mkdir()
        (tmp_path / "here/checkpoint").write_text(f'model_checkpoint_path: "{tmp_path}/there/model.ckpt-1"')
        assert find_checkpoint(tmp_path / "here") == tmp_path / "there/model.ckpt-1"

    def test_a_named_one_that_is_gone(self, tmp_path: Path) -> None:
        write_bundle(tmp_path / "model.ckpt-1", {"x": np.zeros(1, "f4")})
        (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"')
        with pytest.raises(InputError, match=r"names 'model\.ckpt-9'.* is not there.*model\.ckpt-1"):
            find_checkpoint(tmp_path)

    def test_nothing_there(self, tmp_path: Path, released: Path) -> None:
        assert not is_google_checkpoint(tmp_path)
        assert not is_google_checkpoint(tmp_path / "x")
        with pytest.raises(InputError, match="holds no checkpoint"):
            find_checkpoint(tmp_path)
        with pytest.raises(InputError, match=r"no checkpoint found.*bert_model\.ckpt"):
            find_checkpoint(released / "bert_model")
        with pytest.raises(InputError, match="older one-file format"):
            find_checkpoint(released / "vocab.txt")

    def test_an_index_of_something_else_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "faiss.index").write_bytes(b"?")
        assert not is_google_checkpoint(tmp_path)


class TestReading:
    def test_beside_it(self, released: Path) -> None:
        found = read_google_checkpoint(released)
        assert found.config == SMALL
        assert found.vocab_file == released / "vocab.txt"
        assert found.vocab_lines == tuple(WORDS)
        assert found.do_lower_case is True  # by the vocabulary, which has no capitals, whatever the folder is named
        assert "small letters" in found.casing_reason
        assert found.heads == ["masked-lm", "next-sentence"]
        assert found.global_step is None

    def test_config_and_vocabulary_elsewhere(self, released: Path, tmp_path: Path) -> None:
        alone = tmp_path / "run"
        alone.mkdir()
        for path in released.glob("bert_model.ckpt.*"):
            shutil.copy(path, alone)
        with pytest.raises(InputError, match=r"run/bert_config\.json: not found.* beside it, or named"):
            read_google_checkpoint(alone)
        found = read_google_checkpoint(alone, config_file=released / "bert_config.json")
        assert (found.vocab_file, found.do_lower_case) == (released / "vocab.txt", True)
        other = tmp_path / "words.txt"
        other.write_text("a\nb\n")
        found = read_google_checkpoint(alone, config_file=released / "bert_config.json", vocab_file=other)
        assert found.vocab_lines == ("a", "b")
        with pytest.raises(InputError, match=r"nope\.txt: vocabulary not found"):
            read_google_checkpoint(released, vocab_file=tmp_path / "nope.txt")

    def test_without_vocabulary(self, released: Path) -> None:
        (released / "vocab.txt").unlink()
        folder = released.rename(released.with_name("plain"))
        found = read_google_checkpoint(folder)
        assert (found.vocab_file, found.vocab_lines, found.do_lower_case) == (None, None, None)

    def test_half_precision_and_slots(self, released: Path) -> None:
        bundle = TensorBundle(released / "bert_model.ckpt")
        tensors: dict[str, Array] = {name: bundle.read(name).astype(np.float16) for name in bundle.names()}
        tensors |= {f"{name}/adam_{slot}": tensors[name] for name in list(tensors) for slot in "mv"}
        write_bundle(
            released / "bert_model.ckpt", {**tensors, "global_step": np.array(4, "i8"), "counts": np.zeros(2, "i4")}
        )
        found = read_google_checkpoint(released)
        assert set(found.tensors) == set(bundle.names())
        assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}
        assert found.global_step == 4

    def test_everything_that_does_not_fit_at_once(self, released: Path) -> None:
        config = json.loads((released / "bert_config.json").read_text())
        config |= {"vocab_size": 7, "intermediate_size": 16, "num_hidden_layers": 3}
        (released / "bert_config.json").write_text(json.dumps(config))
        with pytest.raises(InputError) as caught:
            read_google_checkpoint(released)
        message = str(caught.value)
        assert "word_embeddings has shape [11, 8], but the config says [vocab_size 7, hidden_size 8]" in message
        assert "layer_1/intermediate/dense/bias has shape [12], but the config says [intermediate_size 16]" in message
        assert "lacks bert/encoder/layer_2/attention/self/query/kernel, " in message
        assert "vocab.txt: 11 lines, but" in message
        assert "cls/predictions/output_bias has shape [11]" in message

    def test_another_model(self, tmp_path: Path) -> None:
        write_bundle(tmp_path / "bert_model.ckpt", {"electra/x": np.zeros(1, "f4")})
        (tmp_path / "bert_config.json").write_text(json.dumps(config_to_bert_json(SMALL)))
        with pytest.raises(InputError, match=r"holds no BERT encoder \(variables bert/…\), but electra/x"):
            read_google_checkpoint(tmp_path)

    def test_fewer_layers_than_stored(self, released: Path, caplog: pytest.LogCaptureFixture) -> None:
        config = json.loads((released / "bert_config.json").read_text()) | {"num_hidden_layers": 1}
        (released / "bert_config.json").write_text(json.dumps(config))
        found = read_google_checkpoint(released)
        assert not [name for name in found.tensors if "layer_1/" in name]
        assert "more layers than the 1" in caplog.text

    def test_a_vocabulary_that_is_no_text(self, released: Path) -> None:
        (released / "vocab.txt").write_bytes(b"a\n\xff\n")
        with pytest.raises(InputError, match=r"vocab\.txt: not UTF-8"):
            read_google_checkpoint(released)


class TestWriting:
    @pytest.mark.parametrize("head", ["question-answering", "text-classification"])
    def test_what_is_written_comes_back(self, tmp_path: Path, head: str) -> None:
        state = random_state(["masked-lm", "next-sentence", head])
        write_google_checkpoint(tmp_path, SMALL, state, WORDS, head=head)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "bert_config.json",
            "bert_model.ckpt.data-00000-of-00001",
            "bert_model.ckpt.index",
            "vocab.txt",
        ]
        found = read_google_checkpoint(tmp_path)
        assert found.heads == ["masked-lm", "next-sentence", head]
        lines = for_layers([*ENCODER, *(line for name in found.heads for line in HEADS[name])], 2)
        ours, missing, unused = to_ours(lines, found.tensors)
        assert (missing, unused) == ([], [])
        assert ours.keys() == state.keys()
        for name, tensor in state.items():
            assert torch.equal(ours[name], tensor), name

    def test_the_original_rewritten_is_the_same(self, shared: Path, tmp_path: Path) -> None:
        tiny = read_google_checkpoint(shared / "golden/tiny")
        lines = for_layers([*ENCODER, *HEADS["masked-lm"], *HEADS["next-sentence"]], 3)
        state, _, unused = to_ours(lines, tiny.tensors)
        assert not unused
        assert tiny.vocab_lines is not None
        write_google_checkpoint(tmp_path, tiny.config, state, tiny.vocab_lines)
        again = read_google_checkpoint(tmp_path)
        assert again.config == tiny.config
        assert all(torch.equal(again.tensors[name], tensor) for name, tensor in tiny.tensors.items())
        assert (tmp_path / "vocab.txt").read_bytes() == (shared / "golden/tiny/vocab.txt").read_bytes()

    def test_without_pooler(self, tmp_path: Path) -> None:
        state = {name: tensor for name, tensor in random_state([]).items() if "pooler" not in name}
        write_google_checkpoint(tmp_path, SMALL, state, WORDS)
        assert read_google_checkpoint(tmp_path).heads == []

    def test_what_has_no_place(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no place for head\.bias, head\.weight"):
            write_google_checkpoint(tmp_path, SMALL, random_state(["text-classification"]), WORDS)
        state = random_state([])
        del state["layers.1.attention.qkv.bias"]
        with pytest.raises(InputError, match="lacks bert/encoder/layer_1/attention/self/query/bias"):
            write_google_checkpoint(tmp_path, SMALL, state, WORDS)
        assert list(tmp_path.iterdir()) == []

"""Every family equals its transformers class, in both layouts, forward and backward; saved folders load there."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import bertune
from bertune.checkpoints.families import FAMILIES
from bertune.checkpoints.huggingface import config_from_json, config_to_json, encoder_names, stored_names
from bertune.checkpoints.names import to_ours, to_theirs
from bertune.checkpoints.source import build_encoder, open_checkpoint, open_encoder
from bertune.conversion import convert
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder, EncoderOutput
from bertune.encoder.layout import Layout
from bertune.encoder.rotary import rotation_of
from bertune.errors import InputError
from bertune.model.folder import save_model
from bertune.model.provenance import Provenance
from bertune.network import Network
from bertune.tasks.masking.names import MASKED_LM
from bertune.tasks.text_classification import TextClassification
from bertune.tokenization.text_encoding import TextEncoding
from tests.tiny import VOCABULARY, done, refused

VOCAB = len(VOCABULARY)
LENGTHS, WIDTH = [5, 17, 40, 2, 33], 40
USUAL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
}
ROBERTA: dict[str, Any] = {**USUAL, "max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1}
MODERN: dict[str, Any] = {**USUAL, "num_hidden_layers": 4, "pad_token_id": 0, "local_attention": 8}
DEBERTA: dict[str, Any] = {
    **USUAL,
    **{"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    **{"position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm", "max_relative_positions": -1},
}
EURO: dict[str, Any] = {**USUAL, "pad_token_id": 0, "mask_token_id": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", USUAL),
    "roberta": ("roberta", ROBERTA),
    "xlm-roberta": ("xlm-roberta", ROBERTA),
    "camembert": ("camembert", ROBERTA),
    "distilbert": (
        "distilbert",
        {"vocab_size": VOCAB, "dim": 48, "n_layers": 3, "n_heads": 4, "hidden_dim": 96, "max_position_embeddings": 64},
    ),
    "electra-narrow": ("electra", {**USUAL, "embedding_size": 16}),
    "electra-wide": ("electra", {**USUAL, "embedding_size": 48}),
    "albert": ("albert", {**USUAL, "embedding_size": 16}),
    "albert-wide": ("albert", {**USUAL, "embedding_size": 48, "hidden_act": "gelu"}),
    "modernbert": ("modernbert", MODERN),
    "modernbert-mean": ("modernbert", {**MODERN, "classifier_pooling": "mean", "classifier_activation": "relu"}),
    "modernbert-global-last": (
        "modernbert",
        {**MODERN, "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]},
    ),
    "mpnet": ("mpnet", {**USUAL, "max_position_embeddings": 66}),
    "deberta-v3": ("deberta-v2", DEBERTA),
    "deberta-v2": (
        "deberta-v2",
        {**DEBERTA, "share_att_key": False, "position_buckets": -1, "norm_rel_ebd": "none", "type_vocab_size": 2},
    ),
    "deberta-c2p": ("deberta-v2", {**DEBERTA, "pos_att_type": "c2p", "position_biased_input": True}),
    "eurobert": ("eurobert", EURO),
    "eurobert-grouped": (
        "eurobert",
        {**EURO, "num_key_value_heads": 2, "rope_parameters": {"rope_theta": 250_000.0, "rope_type": "default"}},
    ),
    "eurobert-bos": ("eurobert", {**EURO, "classifier_pooling": "bos"}),
    "eurobert-mean": ("eurobert", {**EURO, "classifier_pooling": "mean"}),
    "nomic": ("nomic_bert", {**USUAL, "type_vocab_size": 2}),
    "gte": ("gte", {**USUAL, "pad_token_id": 0}),
    "gte-segments": ("gte", {**USUAL, "pad_token_id": 0, "type_vocab_size": 2}),
    "gte-none": ("gte", {**USUAL, "pad_token_id": 0, "type_vocab_size": 0}),
    "gte-linear": (
        "gte",
        {**USUAL, "pad_token_id": 0, "rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.5}},
    ),
    "eurobert-linear": (
        "eurobert",
        {**EURO, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "ultrabert": ("ultrabert", {**EURO, "num_hidden_layers": 4, "sliding_window": 4, "num_key_value_heads": 2}),
    "ultrabert-global-first": (
        "ultrabert",
        {**EURO, "sliding_window": 3, "layer_types": ["full_attention", "sliding_attention", "full_attention"]}
        | {"classifier_pooling": "mean"},
    ),
    "ultrabert-local": ("ultrabert", {**EURO, "num_hidden_layers": 2, "sliding_window": 5}),
    "deberta-convolution": ("deberta-v2", {**DEBERTA, "conv_kernel_size": 3, "conv_act": "gelu"}),
    "deberta-convolution-groups": (
        "deberta-v2",
        {**DEBERTA, "conv_kernel_size": 5, "conv_groups": 4, "share_att_key": False, "num_hidden_layers": 1},
    ),
    "deberta-p2c": ("deberta-v2", {**DEBERTA, "pos_att_type": ["p2c"], "share_att_key": False}),
}
SPECIAL = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 2)


def their_config(case: str, **more: Any) -> Any:
    """A small config of the family."""
    model_type, sizes = CASES[case]
    special = SPECIAL if model_type in {"modernbert", "eurobert", "ultrabert"} else {}
    return transformers.AutoConfig.for_model(model_type, **sizes, **special, **more)


def shaken(model: Any) -> Any:
    """The model with random weights that none of its parts can hide."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0, 0.2)
    return model.eval()


def as_saved(model: Any, folder: Path) -> dict[str, Tensor]:
    """A model's tensors under the names that transformers saves them by, which are not always its modules'."""
    model.save_pretrained(folder)
    found: dict[str, Tensor] = load_file(folder / "model.safetensors")
    return found


def gradients_as_saved(model: Any, folder: Path) -> dict[str, Tensor]:
    """Its gradients likewise, zeros where there are none."""
    other = copy.deepcopy(model)
    for parameter, own in zip(other.parameters(), model.parameters(), strict=True):
        parameter.data = torch.zeros_like(own) if own.grad is None else own.grad
    return as_saved(other, folder)


class Inputs:
    """The same sequences packed with a tail, and padded."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.mask = torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]
        self.ids = torch.randint(5, VOCAB, self.mask.shape, generator=generator)
        self.segments = torch.randint(0, 2, self.mask.shape, generator=generator)

    def theirs(self, config: Any) -> dict[str, Tensor]:
        """What their models take; padding as they expect it."""
        inputs = {
            "input_ids": torch.where(self.mask, self.ids, config.pad_token_id),
            "attention_mask": self.mask.long(),
        }
        return inputs | ({"token_type_ids": self.segments} if getattr(config, "type_vocab_size", 0) == 2 else {})

    def ours(self, encoder: Encoder, form: str) -> tuple[EncoderOutput, Layout]:
        """What ours makes of them."""
        columns = [self.ids, self.segments, torch.arange(WIDTH).expand(self.mask.shape)]
        if form == "padded":
            layout = Layout.padded(LENGTHS, WIDTH)
            return encoder(*(column.reshape(-1) for column in columns), layout), layout
        packed = [torch.cat([column[self.mask], column.new_zeros(15)]) for column in columns]
        layout = Layout.packed(LENGTHS, total=len(packed[0]))
        return encoder(*packed, layout), layout

    def real(self, tokens: Tensor, form: str) -> Tensor:
        """Vectors of the real tokens, end to end."""
        return tokens.view(*self.mask.shape, -1)[self.mask] if form == "padded" else tokens[: sum(LENGTHS)]


@pytest.mark.parametrize("form", ["packed", "padded"])
@pytest.mark.parametrize("case", CASES)
def test_forward_and_gradients_equal_transformers(case: str, form: str, tmp_path: Path) -> None:
    config = their_config(case)
    theirs = shaken(transformers.AutoModel.from_config(config))
    ours = config_from_json(json.loads(config.to_json_string(use_diff=False)), "config.json")
    state, missing, unused = to_ours(encoder_names(ours), as_saved(theirs, tmp_path / "theirs"))
    assert not missing
    assert not unused
    encoder = Encoder(ours).eval()
    new = encoder.load_state_dict(state, strict=False).missing_keys
    assert all(name.startswith("pooler") for name in new)

    inputs = Inputs()
    expected = theirs(**inputs.theirs(config)).last_hidden_state[inputs.mask]
    output, _ = inputs.ours(encoder, form)
    found = inputs.real(output.sequence_output, form)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    weights = torch.randn(found.shape)
    (found * weights).sum().backward()  # type: ignore[no-untyped-call]
    (expected * weights).sum().backward()
    wanted, _, _ = to_ours(encoder_names(ours), gradients_as_saved(theirs, tmp_path / "gradients"))
    named = {name: p.grad for name, p in encoder.named_parameters() if not name.startswith("pooler")}
    assert named.keys() == {name for name in wanted if not name.startswith("pooler")}
    for name, gradient in named.items():
        assert gradient is not None, name
        scale = max(1.0, float(wanted[name].abs().max()))
        torch.testing.assert_close(gradient, wanted[name], atol=1e-4 * scale, rtol=0, msg=name)


def write_theirs(folder: Path, model: Any, **tokenizer: Any) -> Path:
    """A folder as transformers leaves it, with the tiny vocabulary."""
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True} | tokenizer))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_their_classifier_is_read_and_ours_loads_there(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    labels = {"id2label": {0: "bad", 1: "good", 2: "none"}, "label2id": {"bad": 0, "good": 1, "none": 2}}
    config = their_config(case, **labels)
    theirs = shaken(transformers.AutoModelForSequenceClassification.from_config(config))
    source = write_theirs(tmp_path / "theirs", theirs)
    facts = json.loads(done(capsys, "inspect", source, "--json").out)
    assert facts["family"] == CASES[case][0]
    assert facts["heads"] == ["text-classification"]
    assert facts["max_seq_length"] == 64
    output = tmp_path / "ours"
    options = ["--task", "text-classification", "--max-seq-length", "40"]
    done(capsys, "convert", "--encoder", source, "--output", output, *options)

    inputs = Inputs()
    with torch.no_grad():
        expected = theirs(**inputs.theirs(config)).logits
        model = bertune.load(output, precision="fp32", device="cpu")
        for form in ("packed", "padded"):
            found, layout = inputs.ours(model.network.encoder, form)
            torch.testing.assert_close(model.network.head(found, layout), expected, atol=1e-4, rtol=0)
        back, info = transformers.AutoModelForSequenceClassification.from_pretrained(output, output_loading_info=True)
        assert type(back) is type(theirs)
        assert not info["missing_keys"]
        assert not info["mismatched_keys"]
        assert all("pooler" in name for name in info["unexpected_keys"])
        torch.testing.assert_close(back.eval()(**inputs.theirs(config)).logits, expected, atol=1e-5, rtol=0)
    assert back.config.id2label == labels["id2label"]


@pytest.mark.parametrize("case", CASES)
def test_an_encoder_converted_loads_there(case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = their_config(case)
    theirs = shaken(transformers.AutoModel.from_config(config))
    source = write_theirs(tmp_path / "theirs", theirs)
    done(capsys, "convert", "--encoder", source, "--output", tmp_path / "ours")
    back, info = transformers.AutoModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(back) is type(theirs)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    inputs = Inputs().theirs(config)
    with torch.no_grad():
        found = back.eval()(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
        expected = theirs(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    one, _ = open_encoder(source)
    other, _ = open_encoder(tmp_path / "ours")
    assert one.config == other.config


@pytest.mark.parametrize("case", CASES)
def test_a_new_classifier_trains_and_loads_there(case: str, tmp_path: Path) -> None:
    config = their_config(case)
    source = write_theirs(tmp_path / "theirs", shaken(transformers.AutoModel.from_config(config)))
    task = TextClassification(labels=("bad", "good"))
    with open_checkpoint(source) as checkpoint:
        encoder, _ = build_encoder(checkpoint)
        network = Network(encoder, task.new_head(checkpoint.config))
        inputs = Inputs()
        network.train()
        output, layout = inputs.ours(encoder, "packed")
        network.head(output, layout).square().sum().backward()
        network.eval()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=1e-3)
            output, layout = inputs.ours(encoder, "packed")
            ours = network.head(output, layout)
        text = TextEncoding(checkpoint.tokenizer, 40)
        save_model(
            tmp_path / "model", (encoder.config, network.state_dict()), task, text, Provenance("theirs", {}, {}), {}
        )
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(**inputs.theirs(config)).logits, ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", ["roberta", "distilbert", "electra-narrow", "albert", "modernbert"])
def test_question_answering_heads(case: str, tmp_path: Path) -> None:
    theirs = shaken(transformers.AutoModelForQuestionAnswering.from_config(their_config(case)))
    source = write_theirs(tmp_path / "theirs", theirs)
    with open_checkpoint(source) as checkpoint:
        encoder, _ = build_encoder(checkpoint)
        assert checkpoint.heads == ["question-answering"]
        weight, bias = checkpoint.tensors["qa_outputs.weight"], checkpoint.tensors["qa_outputs.bias"]
    inputs = Inputs()
    with torch.no_grad():
        logits = theirs(**inputs.theirs(theirs.config))
        output, _ = inputs.ours(encoder.eval(), "packed")
        found = output.token_output @ weight.T + bias
    expected = torch.stack([logits.start_logits, logits.end_logits], -1)[inputs.mask]
    torch.testing.assert_close(found[: len(expected)], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", ["bert", "roberta", "xlm-roberta", "distilbert"])
def test_masked_word_heads_have_the_same_names(case: str, tmp_path: Path) -> None:
    theirs = shaken(transformers.AutoModelForMaskedLM.from_config(their_config(case)))
    with open_checkpoint(write_theirs(tmp_path / "theirs", theirs)) as checkpoint:
        assert checkpoint.heads == ["masked-lm"]
        head, missing, _ = to_ours(MASKED_LM, checkpoint.tensors)
        assert not missing
        _, names = stored_names(checkpoint.config, MASKED_LM, "ForMaskedLM")
    written = to_theirs(names, head)
    state = theirs.state_dict()
    assert len(written) == len(MASKED_LM)
    assert all(torch.equal(tensor, state[name]) for name, tensor in written.items())


@pytest.mark.parametrize("case", CASES)
def test_numbers_go_both_ways(case: str) -> None:
    config = config_from_json(json.loads(their_config(case).to_json_string(use_diff=False)), "config.json")
    assert config_from_json(config_to_json(config), "config.json") == config
    assert config.family in FAMILIES


def test_configs_as_they_are_on_the_hub() -> None:
    """Older spellings, and keys left out that mean the family's own defaults."""
    modern = {"model_type": "modernbert", "vocab_size": 50368, "global_attn_every_n_layers": 3}
    modern |= {"global_rope_theta": 160000.0, "local_rope_theta": 10000.0, "hidden_size": 768}
    config = config_from_json(modern, "config.json")
    assert [config.is_local(i) for i in range(4)] == [False, True, True, False]
    assert (config.rotary_base, config.local_rotary_base, config.local_window) == (160000.0, 10000.0, 64)
    assert (config.layer_norm_eps, config.intermediate_size, config.num_hidden_layers) == (1e-5, 1152, 22)
    base = {"model_type": "roberta", "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
    config = config_from_json(base | {"pad_token_id": 1, "layer_norm_eps": 1e-5}, "config.json")
    assert (config.max_position_embeddings, config.position_offset) == (512, 2)
    config = config_from_json({"model_type": "albert", "vocab_size": 30000, "hidden_size": 768}, "config.json")
    assert (config.embedding_size, config.hidden_act, config.hidden_dropout_prob) == (128, "gelu_tanh", 0.0)
    config = config_from_json(deberta(norm_rel_ebd="layer_norm", share_att_key=True, type_vocab_size=0), "config.json")
    assert (config.relative_buckets, config.relative_reach, config.relative_terms) == (256, 512, ("c2p", "p2c"))
    assert (config.relative_shared, config.relative_norm, config.layer_norm_eps) == (True, True, 1e-7)
    base = {"model_type": "mpnet", "vocab_size": 30527, "max_position_embeddings": 514, "hidden_size": 768}
    config = config_from_json(base | {"pad_token_id": 1, "layer_norm_eps": 1e-5}, "config.json")
    assert (config.max_position_embeddings, config.position_offset, config.relative) == (512, 2, "bias")
    config = config_from_json({"model_type": "distilbert", "vocab_size": 30522}, "config.json")
    assert (config.num_hidden_layers, config.type_vocab_size) == (6, 0)


def modern(**changes: object) -> dict[str, object]:
    """A ModernBERT config with changes."""
    return {"model_type": "modernbert", "vocab_size": 50, **changes}


def test_mmbert_and_ettin_are_modernbert() -> None:
    """Configs as they are published: positions "sans_pos", one base for both kinds of layers, any number of layers."""
    shared: dict[str, Any] = {
        "model_type": "modernbert",
        "position_embedding_type": "sans_pos",
        "global_attn_every_n_layers": 3,
    }
    shared |= {
        "global_rope_theta": 160000.0,
        "local_rope_theta": 160000.0,
        "classifier_pooling": "mean",
        "norm_eps": 1e-5,
    }
    mmbert = shared | {"vocab_size": 256000, "hidden_size": 768, "num_hidden_layers": 22, "pad_token_id": 0}
    ettin = shared | {"vocab_size": 50368, "hidden_size": 256, "num_hidden_layers": 7, "num_attention_heads": 4}
    for settings in (mmbert, ettin | {"intermediate_size": 384}):
        ours = config_from_json(settings, "config.json")
        theirs = transformers.ModernBertConfig(**settings)
        assert [ours.is_local(i) for i in range(ours.num_hidden_layers)] == [
            kind == "sliding_attention" for kind in theirs.layer_types
        ]
        rope = theirs.rope_parameters
        assert ours.rotary_base == rope["full_attention"]["rope_theta"]
        assert ours.local_rotary_base == rope["sliding_attention"]["rope_theta"]
        assert (ours.pooling, ours.local_window) == ("mean", 64)


def test_folders_from_before_transformers_had_the_family(tmp_path: Path) -> None:
    """nomic-BERT's and GTE's own programs: other keys, another model_type, another prefix; the same tensors."""
    sizes: dict[str, Any] = {
        "n_embd": 48,
        "n_layer": 3,
        "n_head": 4,
        "n_inner": 96,
        "n_positions": 64,
        "layer_norm_epsilon": 1e-12,
    }
    nomic = {"model_type": "nomic_bert", "vocab_size": VOCAB, "type_vocab_size": 2, "activation_function": "swiglu"}
    older = {"nomic": (nomic | sizes | {"rotary_emb_base": 1000}, "nomic_bert.", "bert.")}
    gte = {**USUAL, "model_type": "new", "rope_theta": 160000, "type_vocab_size": 1, "pad_token_id": 0}
    older["gte"] = (gte | {"layer_norm_type": "layer_norm", "position_embedding_type": "rope"}, "gte.", "new.")
    for case, (settings, prefix, before) in older.items():
        theirs = shaken(transformers.AutoModelForSequenceClassification.from_config(their_config(case)))
        source = write_theirs(tmp_path / case, theirs)
        now, _ = open_encoder(source)
        renamed = {before + n.removeprefix(prefix): t for n, t in load_file(source / "model.safetensors").items()}
        save_file(renamed, source / "model.safetensors", metadata={"format": "pt"})
        (source / "config.json").write_text(json.dumps(settings))
        then, _ = open_encoder(source)
        assert then.config == now.config
        assert all(torch.equal(one, then.state_dict()[name]) for name, one in now.state_dict().items())


def deberta(**changes: object) -> dict[str, object]:
    """A DeBERTa-v3 config with changes."""
    usual = {"relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 256, "hidden_size": 768}
    return {"model_type": "deberta-v2", "vocab_size": 50, "num_attention_heads": 12, **usual, **changes}


def scaled(model_type: str, **scaling: object) -> dict[str, object]:
    """A config with scaled rotary positions."""
    return {"model_type": model_type, "vocab_size": 50, "rope_scaling": scaling}


def ultrabert(**changes: object) -> dict[str, object]:
    """An UltraBERT config of 22 layers with changes."""
    sizes = {"num_hidden_layers": 22, "hidden_size": 768, "num_attention_heads": 12}
    return {"model_type": "ultrabert", "vocab_size": 50, **sizes, **changes}


def test_ultrabert_with_a_window_and_a_base_for_each_layer() -> None:
    """The form of its first checkpoints means the same as the one that transformers writes."""
    windows = [128, 128, 0] * 7 + [128]
    older = ultrabert(attention_windows=windows, rope_theta=[1e4 if window else 2e6 for window in windows])
    config = config_from_json(older, "config.json")
    theirs = transformers.UltrabertConfig(**{key: value for key, value in older.items() if key != "model_type"})
    kinds = ["sliding_attention" if config.is_local(i) else "full_attention" for i in range(22)]
    assert kinds == theirs.layer_types
    assert (config.local_window, config.rotary_base, config.local_rotary_base) == (128, 2e6, 1e4)
    assert config_from_json(json.loads(theirs.to_json_string(use_diff=False)), "config.json") == config


def test_ntk_scaled_positions_of_gte(tmp_path: Path) -> None:
    """As in gte-base-en-v1.5: equal to the definition, and to what transformers computes from a converted folder.

    The definition: inverse frequencies (theta * factor)^(-2i/d) / factor^(2/d), d the width of a head.
    """
    theta, factor, size = 500_000.0, 2.0, 12
    gte = {**USUAL, "model_type": "new", "type_vocab_size": 1, "pad_token_id": 0, "rope_theta": theta}
    theirs = shaken(transformers.AutoModel.from_config(their_config("gte")))
    source = write_theirs(tmp_path / "theirs", theirs)
    (source / "config.json").write_text(json.dumps(gte | {"rope_scaling": {"type": "ntk", "factor": factor}}))
    encoder, _ = open_encoder(source)
    config = encoder.config
    cos, sin = rotation_of(torch.arange(64), size, config.rotary_base, config.rotary_scale)
    inverse = (theta * factor) ** (-torch.arange(0, size, 2) / size) / factor ** (2 / size)
    angles = torch.arange(64)[:, None] * inverse
    torch.testing.assert_close(cos[:, 0, : size // 2], angles.cos(), atol=1e-5, rtol=0)
    torch.testing.assert_close(sin[:, 0, size // 2 :], angles.sin(), atol=1e-5, rtol=0)
    convert(str(source), tmp_path / "ours")
    back = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
    inputs = Inputs()
    with torch.no_grad():
        expected = back(**inputs.theirs(back.config)).last_hidden_state[inputs.mask]
        output, _ = inputs.ours(encoder.eval(), "packed")
        unscaled = theirs(**inputs.theirs(theirs.config)).last_hidden_state[inputs.mask]
    torch.testing.assert_close(output.sequence_output[: len(expected)], expected, atol=1e-4, rtol=0)
    assert float((expected - unscaled).abs().max()) > 1e-3
    same = config_from_json(gte | {"rope_scaling": {"type": "ntk", "factor": 1.0}}, "config.json")
    assert (same.rotary_base, same.rotary_scale) == (theta, 1.0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model_type": "gpt2", "vocab_size": 5}, ["'gpt2'", "roberta", "modernbert"]),
        ({"model_type": ["bert"], "vocab_size": 5}, ["model_type"]),
        ({"model_type": "roberta"}, ["lacks vocab_size", "Roberta"]),
        ({"model_type": "roberta", "vocab_size": 5, "pad_token_id": "one"}, ["wrong kind"]),
        ({"model_type": "roberta", "vocab_size": 5, "max_position_embeddings": 2}, ["max_position_embeddings is 0"]),
        ({"model_type": "electra", "vocab_size": 5, "embedding_size": -1}, ["embedding_size is -1"]),
        ({"model_type": "albert", "vocab_size": 5, "num_hidden_groups": 2}, ["num_hidden_groups is 2", "only 1"]),
        ({"model_type": "albert", "vocab_size": 5, "inner_group_num": 3}, ["inner_group_num is 3"]),
        ({"model_type": "distilbert", "vocab_size": 5, "activation": "mish"}, ["activation is 'mish'", "gelu"]),
        ({"model_type": "distilbert", "vocab_size": 5, "dim": 50}, ["50 is not divisible"]),
        (
            {"model_type": "bert", "vocab_size": 5, "position_embedding_type": "rotary"},
            ["rotary", "relative_key_query"],
        ),
        ({"model_type": "roberta", "vocab_size": 5, "position_embedding_type": "relative_key"}, ["relative_key"]),
        (deberta(relative_attention=False), ["relative_attention is not true"]),
        (deberta(conv_kernel_size=4), ["spans 4 tokens", "an odd number"]),
        (deberta(conv_kernel_size=3, conv_groups=5), ["768", "5 groups"]),
        (deberta(conv_kernel_size=3, conv_act="mish"), ["conv_act is 'mish'"]),
        (deberta(pos_att_type=None), ["pos_att_type", "c2p"]),
        (deberta(pos_att_type="c2p|p2p"), ["'c2p|p2p'"]),
        (deberta(embedding_size=128), ["embedding_size is 128"]),
        ({"model_type": "mpnet", "vocab_size": 5, "relative_attention_num_buckets": 64}, ["is 64", "32"]),
        ({"model_type": "eurobert", "vocab_size": 5, "mlp_bias": True}, ["mlp_bias is True"]),
        ({"model_type": "eurobert", "vocab_size": 5, "num_key_value_heads": 5}, ["12", "5 heads of keys"]),
        ({"model_type": "eurobert", "vocab_size": 5, "classifier_pooling": "max"}, ["'max'", "late"]),
        ({"model_type": "new", "vocab_size": 5, "rope_scaling": {"type": "ntk"}}, ["'ntk'", "known: default, linear"]),
        (scaled("new", type="ntk", factor=2.0, mixed_b=0.6), ["mixed_b", "not supported"]),
        (scaled("gte", type="ntk", factor=2.0), ["'ntk'", "original form"]),
        (scaled("eurobert", rope_type="yarn", factor=4.0), ["'yarn'", "not supported"]),
        (scaled("nomic_bert", rope_type="linear", factor="two"), ["'two'", "not supported"]),
        ({"model_type": "nomic_bert", "vocab_size": 5, "moe_every_n_layers": 2}, ["experts", "nomic-embed-text-v1.5"]),
        ({"model_type": "nomic_bert", "vocab_size": 5, "prenorm": True}, ["prenorm is True"]),
        (ultrabert(layer_types=["full_attention", "sliding_attention"]), ["layer_types", "each of 22 layers"]),
        (ultrabert(attention_windows=[0, 64] + [128] * 20), ["[64, 128]", "one size"]),
        (ultrabert(attention_windows=[0, 128] + [0] * 20), ["equal distances"]),
        (ultrabert(attention_bias=True), ["attention_bias is True"]),
        (ultrabert(classifier_pooling="late"), ["'late'", "cls"]),
        ({"model_type": "neobert", "vocab_size": 5}, ["'neobert'", "eurobert", "ultrabert"]),
        (modern(mlp_bias=True), ["mlp_bias is True"]),
        (modern(classifier_pooling="max"), ["classifier_pooling is 'max'", "mean"]),
        (modern(layer_types=["full_attention"] * 3 + ["sliding_attention"] * 19), ["layer_types", "equal distances"]),
        (modern(layer_types=["sliding_attention"]), ["layer_types", "each layer"]),
        (modern(rope_parameters={"full_attention": {"rope_type": "yarn"}}), ["rope_type is 'yarn'"]),
        (modern(local_attention="wide"), ["wrong kind"]),
    ],
)
def test_configs_that_are_refused(settings: Mapping[str, Any], told: list[str]) -> None:
    with pytest.raises(InputError) as error:
        config_from_json(settings, "here/config.json")
    missing = [part for part in ["here/config.json", *told] if part not in str(error.value)]
    assert not missing, str(error.value)


@pytest.mark.parametrize("case", ["albert", "roberta", "modernbert"])
def test_numbers_that_do_not_fit_the_tensors(case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = write_theirs(tmp_path / "theirs", transformers.AutoModel.from_config(their_config(case)))
    settings = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(settings | {"intermediate_size": 100}))
    refused(capsys, tmp_path, ["inspect", source], "has shape", "100")
    (source / "config.json").write_text(json.dumps(settings | {"vocab_size": VOCAB - 1}))
    refused(capsys, tmp_path, ["inspect", source], f"{VOCAB - 1}", f"{VOCAB}")


def test_only_bert_becomes_a_google_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = write_theirs(tmp_path / "theirs", transformers.AutoModel.from_config(their_config("roberta")))
    options = ["--encoder", source, "--output", tmp_path / "new", "--format", "google"]
    refused(capsys, tmp_path, ["convert", *options], "--format google", "roberta")


def test_an_older_checkpoint_with_a_pooler_beside_the_classifier(tmp_path: Path) -> None:
    theirs = shaken(transformers.AutoModelForSequenceClassification.from_config(their_config("roberta")))
    source = write_theirs(tmp_path / "theirs", theirs)
    state = dict(theirs.state_dict())
    state |= {"roberta.pooler.dense.weight": torch.zeros(48, 48), "roberta.pooler.dense.bias": torch.zeros(48)}
    save_file(state, source / "model.safetensors", metadata={"format": "pt"})
    encoder, _ = open_encoder(source)
    assert torch.equal(encoder.pooler.weight, theirs.classifier.dense.weight)


def test_wiring_is_told_by_the_numbers() -> None:
    bert = EncoderConfig(vocab_size=5)
    assert bert.is_bert
    assert bert.has_plain_layers
    for change in ({"type_vocab_size": 0}, {"position_offset": 2}, {"embedding_size": 8}, {"pooler_act": "gelu"}):
        changed = EncoderConfig(vocab_size=5, **change)
        assert not changed.is_bert
        assert changed.has_plain_layers
    assert not EncoderConfig(vocab_size=5, biases=False).has_plain_layers

"""Every flag of the original's six programs, with its default, in every program's own --help."""

import importlib
import re

import pytest

TPU = {"use_tpu": "False", "tpu_name": "none", "tpu_zone": "none", "gcp_project": "none", "master": "none"}
TPU |= {"num_tpu_cores": "8"}
TRAINER = {"output_dir": "required", "train_batch_size": "32", "learning_rate": "5e-05"}
TRAINER |= {"save_checkpoints_steps": "1000", "iterations_per_loop": "1000"} | TPU
MODEL = {"bert_config_file": "required", "vocab_file": "required", "init_checkpoint": "none", "do_lower_case": "True"}
EPOCHS = {"num_train_epochs": "3.0", "warmup_proportion": "0.1"}
CLASSIFIER = TRAINER | EPOCHS | {"data_dir": "required", "task_name": "required", "max_seq_length": "128"}
CLASSIFIER |= {"do_train": "False", "do_eval": "False", "do_predict": "False"}
CLASSIFIER |= {"eval_batch_size": "8", "predict_batch_size": "8"}
ORIGINAL = {
    "run_classifier": CLASSIFIER | MODEL,
    "run_classifier_with_tfhub": CLASSIFIER
    | MODEL
    | {"bert_hub_module_handle": "required", "vocab_file": "none", "bert_config_file": "none"},
    "run_squad": TRAINER
    | EPOCHS
    | MODEL
    | {"train_file": "none", "predict_file": "none", "max_seq_length": "384", "doc_stride": "128"}
    | {"max_query_length": "64", "do_train": "False", "do_predict": "False", "predict_batch_size": "8"}
    | {"n_best_size": "20", "max_answer_length": "30", "verbose_logging": "False"}
    | {"version_2_with_negative": "False", "null_score_diff_threshold": "0.0"},
    "create_pretraining_data": {"input_file": "required", "output_file": "required", "vocab_file": "required"}
    | {"do_lower_case": "True", "do_whole_word_mask": "False", "max_seq_length": "128", "max_predictions_per_seq": "20"}
    | {"random_seed": "12345", "dupe_factor": "10", "masked_lm_prob": "0.15", "short_seq_prob": "0.1"},
    "run_pretraining": TRAINER
    | {"bert_config_file": "required", "input_file": "required", "init_checkpoint": "none", "max_seq_length": "128"}
    | {"max_predictions_per_seq": "20", "do_train": "False", "do_eval": "False", "eval_batch_size": "8"}
    | {"num_train_steps": "100000", "num_warmup_steps": "10000", "max_eval_steps": "100"},
    "extract_features": MODEL
    | {"input_file": "required", "output_file": "required", "init_checkpoint": "required", "layers": "-1,-2,-3,-4"}
    | {"max_seq_length": "128", "batch_size": "32", "use_tpu": "False", "master": "none", "num_tpu_cores": "8"}
    | {"use_one_hot_embeddings": "False"},
}
"""From the original's sources. The hub program takes run_classifier's flags, too, but needs no model named by them."""


@pytest.mark.parametrize("program", ORIGINAL)
def test_every_flag_is_there_with_its_default(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"bertune.google.{program}").main
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    lines = re.findall(r"^  --(?:\[no\])?(\w+): .*\((?:default: )?([^()]*)\)$", capsys.readouterr().out, re.MULTILINE)
    told = dict(lines)
    assert {name: told.get(name) for name in ORIGINAL[program]} == ORIGINAL[program]


@pytest.mark.parametrize("program", ORIGINAL)
def test_a_bucket_is_refused(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"bertune.google.{program}").main
    needed = [f"--{name}=x" for name, default in ORIGINAL[program].items() if default == "required"]
    assert main([*needed, "--init_checkpoint=gs://b/bert_model.ckpt", "--vocab_file=gs://b/vocab.txt"]) == 2
    assert "--vocab_file=gs://b/vocab.txt: only local files" in capsys.readouterr().err

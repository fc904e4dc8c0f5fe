"""Headings under which `--help` lists options, which option belongs under which, and what stands for its value."""

REQUIRED, GENERAL, TASK = "required", "general", "task"
TRAINING = ("train", "pretrain", "sweep", "distill")
"""Commands that train."""

_GROUPS = {
    "data": "train validation validation_share group_column folds unlabelled scores data input text pair label "
    "text_column pair_column label_column negative_column tokens_column tags_column entities_column question_column "
    "context_column label_columns label_delimiter label_names tag_names scheme token_at tag_at lines encoding "
    "delimiter header sheet drop_unlabelled slice_column max_seq_length do_lower_case language adapt cache "
    "feature_cache workers next_sentence skip_short_documents short_sequences whole_words words mask_probability",
    "model": "task encoder model teacher encoder_config vocab add_tokens config_file vocab_file scope labels "
    "unanswerable layers frozen_layers reinitialize_layers pooling prompt_name normalize trust_task_file",
    "optimisation": "epochs learning_rate batch_size max_steps warmup_ratio lr_schedule weight_decay max_grad_norm "
    "layer_decay label_smoothing focal_gamma class_weights temperature alpha metric patience space ema average_last "
    "soup r_drop fgm freelb freelb_steps calibration gradient_accumulation activation_checkpointing adapt_epochs",
    "run": "preset time_limit seed seeds restarts runs trials final_seeds min_frequency resamples metric baselines "
    "baseline opinions strict tolerance max_loss batch_size threads precision device resume evaluate_every "
    "max_validation_sequences checkpoint_every keep_checkpoints max_skipped",
    "service": "host port api_key_file access_log max_batch_tokens max_queue_tokens max_body_bytes request_seconds "
    "drain_seconds",
    "output": "output json format require report texts explain apply threshold automate_at interval top_k "
    "all_scores track label_margins glue_submission columns keep_columns output_format skip_bad rows_per_part shard "
    "engine ray_address ray_actors",
}
"""Headings and their options, in the order of `--help`. An option under two of them is listed under the second by
commands that do not train."""

ORDER = (REQUIRED, *_GROUPS, TASK, GENERAL)
"""Headings in their order; before the last one come options of the task's own."""

_PLACES = {name: (heading, i) for heading, names in _GROUPS.items() for i, name in enumerate(names.split())}
_PLACES_IN_TRAINING = {
    name: (heading, i) for heading, names in reversed(_GROUPS.items()) for i, name in enumerate(names.split())
}

_VALUES = {
    "FILE": "train validation data input unlabelled adapt trust_task_file config_file vocab_file encoder_config vocab "
    "add_tokens space runs apply api_key_file",
    "DIR": "output model teacher cache",
    "SOURCE": "encoder student",
    "NAME": "task metric text_column pair_column label_column negative_column tokens_column tags_column "
    "entities_column question_column context_column label_columns group_column slice_column sheet encoding scope "
    "prompt_name track scores columns label_names tag_names labels label",
    "TIME": "time_limit",
    "SEEDS": "seeds",
    "I/N": "shard",
    "METRIC=X": "require",
    "ADDRESS": "host ray_address",
    "FORMAT": "output_format",
}
_PLACEHOLDERS = {name: shown for shown, names in _VALUES.items() for name in names.split()}


def place_of(name: str, *, required: bool, training: bool) -> tuple[str, int]:
    """The heading for an option, by its field's name, and its place there.

    training: whether the command trains.
    """
    if required:
        return REQUIRED, 0
    return (_PLACES_IN_TRAINING if training else _PLACES).get(name, (TASK, 0))


def placeholder(name: str) -> str:
    """What stands for an option's text in `--help`."""
    return _PLACEHOLDERS.get(name, "TEXT")

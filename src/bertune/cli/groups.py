"""Headings under which `--help` lists options, and which option belongs under which."""

REQUIRED = "required"
ORDER = (REQUIRED, "data", "model", "optimisation", "run", "service", "output", "task")
"""Headings in their order; options of the task's own come last."""

_DATA = (
    "train validation validation_share group_column folds data input text pair label encoding delimiter header sheet "
    "drop_unlabelled text_column pair_column label_column negative_column tokens_column tags_column entities_column "
    "question_column context_column label_columns label_delimiter label_names tag_names scheme token_at tag_at "
    "language scores adapt feature_cache max_seq_length do_lower_case unlabelled"
)
_MODEL = "task encoder model layers frozen_layers reinitialize_layers pooling trust_task_file teacher student"
_OPTIMISATION = (
    "batch_size learning_rate epochs max_steps warmup_ratio lr_schedule weight_decay max_grad_norm layer_decay ema "
    "average_last soup r_drop fgm freelb freelb_steps gradient_accumulation activation_checkpointing patience metric "
    "label_smoothing focal_gamma "
    "class_weights adapt_epochs temperature alpha space calibration"
)
_RUN = (
    "seed seeds restarts max_skipped baselines baseline precision device resume checkpoint_every keep_checkpoints "
    "runs config help preset time_limit trials final_seeds resamples opinions"
)
_SERVICE = (
    "host port api_key_file access_log max_batch_tokens max_queue_tokens max_body_bytes request_seconds drain_seconds"
)
_OUTPUT = (
    "output json require report apply track label_margins "
    "glue_submission shard keep_columns columns output_format rows_per_part skip_bad engine "
    "ray_address ray_actors"
)
_NAMES = {
    "data": _DATA,
    "model": _MODEL,
    "optimisation": _OPTIMISATION,
    "run": _RUN,
    "service": _SERVICE,
    "output": _OUTPUT,
}
_GROUPS = {name: heading for heading, names in _NAMES.items() for name in names.split()}


def heading_of(name: str, *, required: bool) -> str:
    """The heading for an option, by its field's name."""
    return REQUIRED if required else _GROUPS.get(name, "task")

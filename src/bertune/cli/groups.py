"""Headings under which `--help` lists options, and which option belongs under which."""

REQUIRED = "required"
ORDER = (REQUIRED, "data", "model", "optimisation", "run", "output", "task")
"""Headings in their order; options of the task's own come last."""

_DATA = (
    "train validation validation_share group_column data input encoding delimiter header sheet drop_unlabelled "
    "text_column pair_column label_column negative_column tokens_column tags_column entities_column question_column "
    "context_column label_columns label_delimiter label_names tag_names scheme token_at tag_at language "
    "feature_cache max_seq_length do_lower_case"
)
_MODEL = "task encoder model layers frozen_layers reinitialize_layers pooling trust_task_file"
_OPTIMISATION = (
    "batch_size learning_rate epochs max_steps warmup_ratio lr_schedule weight_decay max_grad_norm layer_decay "
    "gradient_accumulation activation_checkpointing patience metric label_smoothing focal_gamma class_weights"
)
_RUN = "seed seeds restarts max_skipped baselines precision device resume checkpoint_every keep_checkpoints config help"
_OUTPUT = "output json"
_NAMES = {"data": _DATA, "model": _MODEL, "optimisation": _OPTIMISATION, "run": _RUN, "output": _OUTPUT}
_GROUPS = {name: heading for heading, names in _NAMES.items() for name in names.split()}


def heading_of(name: str, *, required: bool) -> str:
    """The heading for an option, by its field's name."""
    return REQUIRED if required else _GROUPS.get(name, "task")

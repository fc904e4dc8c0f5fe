"""bertune: fine-tune BERT encoders for your task."""

__version__ = "0.1.0"

"""`bertune distill`: a small encoder learns from a large model's outputs on text without labels."""

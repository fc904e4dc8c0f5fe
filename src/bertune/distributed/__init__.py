"""Several processes as one: what torchrun starts, and how they agree."""

"""Measurements of bertune beside its peers, both sides interleaved in one run."""

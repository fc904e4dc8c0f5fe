"""Extractive question answering in SQuAD's manner, but for the network: reading, windows, decoding, metrics.

`reading` gives questions; `windows` and `decoding` are the way of this project, `google_exact` and `google_decoding`
that of google-research/bert, number for number; `metrics` are the official scripts'.
"""

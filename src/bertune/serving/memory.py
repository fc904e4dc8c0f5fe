"""Memory of a service that runs for months: what oneDNN and PyTorch keep of every shape of a batch is limited."""

import os
from collections.abc import MutableMapping

CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "32"}
"""Prepared products that oneDNN and PyTorch keep, each 1024 unless it is told: with texts of ever new lengths they grow
by hundreds of MiB. oneDNN's 256 hold the shapes of single texts; benchmarks/LOG.md has what they cost."""
_FORMER = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "DNNL_PRIMITIVE_CACHE_CAPACITY"}
"""A name that oneDNN reads as well."""


def limit_caches(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the limits for this process, where its environment has none; to call before anything is computed.

    Both libraries read them once, at their first product.
    """
    for name, value in CACHES.items():
        if _FORMER.get(name, name) not in environment:
            environment.setdefault(name, value)

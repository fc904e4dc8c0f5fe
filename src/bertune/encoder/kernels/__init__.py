"""CPU kernels: compiled at first use with the machine's own compiler."""

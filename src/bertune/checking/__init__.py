"""The data doctor: what is wrong with data before a model learns it."""

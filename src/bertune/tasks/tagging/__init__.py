"""Token classification's parts: tag schemes, words and entities, reading, decoding, metrics."""

"""Names of the pre-training heads' tensors in Hugging Face's folders."""

from bertune.checkpoints.names import Rename

MASKED_LM: list[Rename] = [
    Rename("masked_lm.transform.weight", ("cls.predictions.transform.dense.weight",)),
    Rename("masked_lm.transform.bias", ("cls.predictions.transform.dense.bias",)),
    Rename("masked_lm.norm.weight", ("cls.predictions.transform.LayerNorm.weight",)),
    Rename("masked_lm.norm.bias", ("cls.predictions.transform.LayerNorm.bias",)),
    Rename("masked_lm.output_bias", ("cls.predictions.bias",)),
]
OWN_VECTORS: list[Rename] = [
    Rename("masked_lm.table", ("cls.predictions.decoder.weight",)),
    Rename("masked_lm.output_bias", ("cls.predictions.decoder.bias",)),
]
"""The words' vectors of a head that does not share the encoder's; transformers then adds the bias beside them."""
NEXT_SENTENCE: list[Rename] = [
    Rename("next_sentence.weight", ("cls.seq_relationship.weight",)),
    Rename("next_sentence.bias", ("cls.seq_relationship.bias",)),
]
"""The heads' tensors, ours and BERT's in Hugging Face's folders; families spell them in their own ways."""

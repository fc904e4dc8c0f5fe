/* The element-wise half of a BERT layer on the CPU, and its attention, in a few large passes.
 *
 * Matrix products stay with PyTorch (oneDNN), but for those of few rows (first_token.c) and, in prediction, those of
 * AMX (tiles.c), whose sums would depend on the number of rows. What lies between them is memory traffic: here each stretch is one pass
 * that reads and writes every tensor once. Compiled for an instruction-set level (see build.py and bertune/processor.py), once
 * for float32 and once, with -DBFLOAT16, for bfloat16 tensors; arithmetic is float32 in both, but for some products (attention_bfloat16.h).
 *
 * One translation unit: every file below is a topic, and *.h what several topics share.
 *
 * Letters: T tokens (rows), H hidden size, D head size, S tokens of one sequence, Dp and Sp the same rounded up to
 * whole vectors.
 * Every sum runs in an order that depends on the number of threads alone, so equal runs give equal bits.
 */
#include "dropout.c"
#include "norm.c"
#include "activation.c"
#include "quantization.c"
#include "sums.c"
#include "attention.c"
#include "first_token.c"
#include "tiles.c"
#include "adamw.c"

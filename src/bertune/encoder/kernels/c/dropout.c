/* Dropout by itself. */
#include "random_mask.h"

/* out[i] = dropout(x[i]); the same call on the gradient is its backward. */
int bertune_dropout(int threads, int64_t n, const elem *x, double p, uint64_t seed, elem *out) {
    dropout_t d = dropout_make(seed, p);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i += LANES)
        store_part(out + i, load_part(x + i, n - i) * dropout_factors(d, (uint32_t)i), n - i);
    return 0;
}

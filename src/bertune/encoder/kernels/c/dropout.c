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

/* The same row by row (T, C), every row with a mask that begins at a number of its own. */
int bertune_dropout_rows(int threads, int64_t T, int64_t C, const elem *x, const int64_t *masks, double p,
                         uint64_t seed, elem *out) {
    dropout_t d = dropout_make(seed, p);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < C; c += LANES) {
            vec factors = dropout_factors(d, (uint32_t)masks[t] + (uint32_t)c);
            store_part(out + t * C + c, load_part(x + t * C + c, C - c) * factors, C - c);
        }
    return 0;
}

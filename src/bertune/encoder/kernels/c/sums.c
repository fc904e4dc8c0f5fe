/* Sums over a whole tensor or its columns. */
#include <stdlib.h>
#include <string.h>

#include "vectors.h"

/* Column sums of x (T, C). */
int bertune_column_sums(int threads, int64_t T, int64_t C, const elem *x, float *sums) {
    enum { STRIP = 256 };
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c0 = 0; c0 < C; c0 += STRIP) {
        int64_t width = C - c0 < STRIP ? C - c0 : STRIP;
        float sum[STRIP] = {0};
        for (int64_t t = 0; t < T; t++) {
            const elem *xt = x + t * C + c0;
#pragma omp simd
            for (int64_t c = 0; c < width; c++) sum[c] += up(xt[c]);
        }
        memcpy(sums + c0, sum, (size_t)width * sizeof(float));
    }
    return 0;
}

/* Sum of squares of n gradients, in double, in a fixed order. */
int bertune_sum_of_squares(int threads, int64_t n, const elem *x, double *out) {
    enum { CHUNK = 16384 };
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
    double *parts = malloc((size_t)(chunks ? chunks : 1) * sizeof(double));
    if (!parts) return 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t to = (k + 1) * CHUNK < n ? (k + 1) * CHUNK : n;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = k * CHUNK; i < to; i++) sum += up(x[i]) * up(x[i]);
        parts[k] = sum;
    }
    double total = 0.0;
    for (int64_t k = 0; k < chunks; k++) total += parts[k];
    *out = total;
    free(parts);
    return 0;
}

/* Sums over a whole tensor or its columns. */
#include <stdlib.h>

#include "vectors.h"

/* Column sums of x (T, C), strip by strip of columns. */
int bertune_column_sums(int threads, int64_t T, int64_t C, const elem *x, float *sums) {
    enum { STRIP = 64 }; /* columns whose sums stay in registers */
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c0 = 0; c0 < C; c0 += STRIP) {
        vec sum[STRIP / LANES] = {{0}};
        if (C - c0 >= STRIP) {
            for (int64_t t = 0; t < T; t++)
                for (int64_t i = 0; i < STRIP / LANES; i++) sum[i] += load(x + t * C + c0 + i * LANES);
        } else {
            for (int64_t t = 0; t < T; t++)
                for (int64_t i = 0; i * LANES < C - c0; i++)
                    sum[i] += load_part(x + t * C + c0 + i * LANES, C - c0 - i * LANES);
        }
        for (int64_t i = 0; i < STRIP / LANES && i * LANES < C - c0; i++)
            store_floats(sums + c0 + i * LANES, sum[i], C - c0 - i * LANES);
    }
    return 0;
}

/* Sum of squares of n gradients, in double, in a fixed order. */
int bertune_sum_of_squares(int threads, int64_t n, const elem *x, double *out) {
    enum { CHUNK = 4096, SUMS = 4 }; /* values summed in float; partial sums of them, so that none waits for another */
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
    double *parts = malloc((size_t)(chunks ? chunks : 1) * sizeof(double));
    if (!parts) return 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t i = k * CHUNK, to = (k + 1) * CHUNK < n ? (k + 1) * CHUNK : n;
        vec sum[SUMS] = {{0}};
        for (; i + SUMS * LANES <= to; i += SUMS * LANES)
            for (int s = 0; s < SUMS; s++) {
                vec value = load(x + i + s * LANES);
                sum[s] += value * value;
            }
        for (; i < to; i += LANES) {
            vec value = load_part(x + i, to - i);
            sum[0] += value * value;
        }
        parts[k] = sum_of((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
    double total = 0.0;
    for (int64_t k = 0; k < chunks; k++) total += parts[k];
    *out = total;
    free(parts);
    return 0;
}

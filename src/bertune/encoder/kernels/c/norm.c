/* Bias, dropout, residual and LayerNorm in one pass. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "random_mask.h"
#include "rows.h"

/* Sum of (row - mu)^2. */
static inline float squares_around(const float *row, int64_t H, float mu) {
    vec sum[4] = {{0}}; /* so that none waits for another */
    int64_t c = 0;
    for (; c + 4 * LANES <= H; c += 4 * LANES)
        for (int i = 0; i < 4; i++) {
            vec apart = *(const vec *)(row + c + i * LANES) - mu;
            sum[i] += apart * apart;
        }
    for (; c + LANES <= H; c += LANES) {
        vec apart = *(const vec *)(row + c) - mu;
        sum[0] += apart * apart;
    }
    float squares = sum_of((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (; c < H; c++) squares += (row[c] - mu) * (row[c] - mu);
    return squares;
}

/* z = residual + dropout(x + bias); out = LayerNorm(z). z, mean and rstd are kept for the way back when z is given.
 * masks, where not NULL, are the numbers that the rows' masks begin at.
 * Here and below row_scale, where not NULL, multiplies the rows of x first: products of quantized rows lack it. */
int bertune_add_norm_forward(int threads, int64_t T, int64_t H, const elem *x, const float *row_scale,
                             const float *bias, const elem *residual, const float *gamma, const float *beta, double eps,
                             const int64_t *masks, double p, uint64_t seed, elem *z, float *mean, float *rstd,
                             elem *out) {
    dropout_t d = dropout_make(seed, p);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *row = scratch((size_t)padded(H));
        int64_t from, to;
        share(T, omp_get_num_threads(), omp_get_thread_num(), &from, &to);
        if (!row) failed = 1, to = from;
        for (int64_t t = from; t < to; t++) {
            const elem *xt = x + t * H, *rt = residual + t * H;
            uint32_t base = (uint32_t)(masks ? masks[t] : t * H);
            float scale = row_scale ? row_scale[t] : 1.0f;
            vec sum = {0};
            for (int64_t c = 0; c < H; c += LANES) {
                vec value = load_part(xt + c, H - c) * scale + load_floats(bias + c, H - c);
                if (d.threshold) value *= dropout_factors(d, base + (uint32_t)c);
                value += load_part(rt + c, H - c);
                *(vec *)(row + c) = value;
                sum += value; /* zeros behind the row's end */
            }
            float mu = sum_of(sum) / (float)H;
            float r = 1.0f / sqrtf(squares_around(row, H, mu) / (float)H + (float)eps);
            for (int64_t c = 0; c < H; c += LANES) {
                vec value = *(vec *)(row + c);
                vec normal = (value - mu) * r * load_floats(gamma + c, H - c) + load_floats(beta + c, H - c);
                store_part(out + t * H + c, normal, H - c);
                if (z) store_part(z + t * H + c, value, H - c);
            }
            if (z) {
                mean[t] = mu;
                rstd[t] = r;
            }
        }
        free(row);
    }
    return failed;
}

/* From dy: dz (for the residual), dx (for x; may equal dz when p = 0), and column sums: sums[0..H) dgamma,
 * [H..2H) dbeta, [2H..3H) dbias. */
int bertune_add_norm_backward(int threads, int64_t T, int64_t H, const elem *dy, const elem *z, const float *mean,
                              const float *rstd, const float *gamma, const int64_t *masks, double p, uint64_t seed,
                              elem *dz, elem *dx, float *sums) {
    dropout_t d = dropout_make(seed, p);
    float *parts = scratch((size_t)threads * 3 * H);
    if (!parts) return 1;
    memset(parts, 0, (size_t)threads * 3 * H * sizeof(float));
    int used = 1, failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        int me = omp_get_thread_num();
#pragma omp single
        used = omp_get_num_threads();
        float *dgamma = parts + (size_t)me * 3 * H, *dbeta = dgamma + H, *dbias = dbeta + H;
        float *normal = scratch((size_t)(2 * padded(H))), *scaled = normal + padded(H);
        int64_t from, to;
        share(T, used, me, &from, &to);
        if (!normal) failed = 1, to = from;
        for (int64_t t = from; t < to; t++) {
            float mu = mean[t], r = rstd[t];
            vec plain = {0}, along = {0};
            for (int64_t c = 0; c < H; c += LANES) {
                vec n = (load_part(z + t * H + c, H - c) - mu) * r, g = load_part(dy + t * H + c, H - c);
                *(vec *)(normal + c) = n;
                add_floats(dgamma + c, g * n, H - c);
                add_floats(dbeta + c, g, H - c);
                g *= load_floats(gamma + c, H - c);
                *(vec *)(scaled + c) = g;
                plain += g;
                along += g * n;
            }
            float a = sum_of(plain) / (float)H, b = sum_of(along) / (float)H;
            uint32_t base = (uint32_t)(masks ? masks[t] : t * H);
            for (int64_t c = 0; c < H; c += LANES) {
                vec g = r * (*(vec *)(scaled + c) - a - *(vec *)(normal + c) * b);
                store_part(dz + t * H + c, g, H - c);
                if (d.threshold) {
                    g *= dropout_factors(d, base + (uint32_t)c);
                    store_part(dx + t * H + c, g, H - c);
                }
                add_floats(dbias + c, g, H - c);
            }
        }
        free(normal);
    }
    if (!d.threshold && dx != dz) memcpy(dx, dz, (size_t)(T * H) * sizeof(elem));
    for (int64_t c = 0; c < 3 * H; c++) {
        float sum = 0.0f;
        for (int i = 0; i < used; i++) sum += parts[(size_t)i * 3 * H + c];
        sums[c] = sum;
    }
    free(parts);
    return failed;
}

/* The optimizer: one pass over weight, moments and gradient. */
#include <math.h>

#include "vectors.h"

/* Adam with decoupled weight decay on n weights (Loshchilov & Hutter; Kingma & Ba).
 * grad: n elements of the compiled type, or NULL for zero gradients; grad_scale: clipping and unscaling in one factor.
 * bias1, bias2: 1 - beta^t, or 1 without bias correction. working: the copy used in computation, or NULL. */
int bertune_adamw(int threads, int64_t n, float *weight, float *m, float *v, const elem *grad, elem *working, double lr,
                  double beta1, double beta2, double eps, double decay, double bias1, double bias2, double grad_scale) {
    float b1 = (float)beta1, b2 = (float)beta2, c1 = (float)(1.0 - beta1), c2 = (float)(1.0 - beta2);
    float step = (float)(lr / bias1), root = (float)(1.0 / sqrt(bias2)), e = (float)eps, s = (float)grad_scale;
    float shrink = (float)(1.0 - lr * decay);
#define ADAM_STEP(GRADIENT)                                                                                            \
    {                                                                                                                  \
        float g = GRADIENT;                                                                                            \
        float mi = b1 * m[i] + c1 * g, vi = b2 * v[i] + c2 * g * g;                                                    \
        float w = weight[i] * shrink - step * mi / (sqrtf(vi) * root + e);                                             \
        m[i] = mi;                                                                                                     \
        v[i] = vi;                                                                                                     \
        weight[i] = w;                                                                                                 \
        if (working) working[i] = down(w);                                                                             \
    }
    if (grad) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
        for (int64_t i = 0; i < n; i++) ADAM_STEP(up(grad[i]) * s)
    } else {
#pragma omp parallel for simd num_threads(threads) schedule(static)
        for (int64_t i = 0; i < n; i++) ADAM_STEP(0.0f)
    }
    return 0;
}

/* The same on a table of rows of width H of which a batch touches few: gradient row slot[r] belongs to row r, -1 to
 * none; rows never touched so far (seen[r] = 0) have zero moments and only decay. */
int bertune_adamw_rows(int threads, int64_t rows, int64_t H, float *weight, float *m, float *v, const float *grad,
                       const int32_t *slot, uint8_t *seen, double lr, double beta1, double beta2, double eps,
                       double decay, double bias1, double bias2, double grad_scale) {
    float b1 = (float)beta1, b2 = (float)beta2, c1 = (float)(1.0 - beta1), c2 = (float)(1.0 - beta2);
    float step = (float)(lr / bias1), root = (float)(1.0 / sqrt(bias2)), e = (float)eps, s = (float)grad_scale;
    float shrink = (float)(1.0 - lr * decay);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float *w = weight + r * H, *mr = m + r * H, *vr = v + r * H;
        if (slot[r] >= 0) seen[r] = 1;
        if (!seen[r]) {
            if (shrink != 1.0f) {
#pragma omp simd
                for (int64_t c = 0; c < H; c++) w[c] *= shrink;
            }
            continue;
        }
        const float *g = slot[r] >= 0 ? grad + (int64_t)slot[r] * H : NULL;
        float gs = g ? s : 0.0f;
        if (!g) g = mr; /* any readable row: its factor is zero */
#pragma omp simd
        for (int64_t c = 0; c < H; c++) {
            float gc = g[c] * gs;
            float mi = b1 * mr[c] + c1 * gc, vi = b2 * vr[c] + c2 * gc * gc;
            w[c] = w[c] * shrink - step * mi / (sqrtf(vi) * root + e);
            mr[c] = mi;
            vr[c] = vi;
        }
    }
    return 0;
}

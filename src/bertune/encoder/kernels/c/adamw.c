/* The optimizer: one pass over weight, moments and gradient. */
#include "vectors.h"

/* The numbers of an update: Adam with decoupled weight decay (Loshchilov & Hutter; Kingma & Ba). */
typedef struct {
    float beta1, beta2, rest1, rest2; /* rest: 1 - beta */
    float step, root, eps, shrink, scale;
} adamw_t;

static inline adamw_t adamw_make(double lr, double beta1, double beta2, double eps, double decay, double bias1,
                                 double bias2, double grad_scale) {
    adamw_t a = {(float)beta1,         (float)beta2, (float)(1.0 - beta1),        (float)(1.0 - beta2), (float)(lr / bias1),
                 (float)(1.0 / sqrt(bias2)), (float)eps,   (float)(1.0 - lr * decay), (float)grad_scale};
    return a;
}

/* A vector of weights, or the `left` that are left of it; g: their gradient, already scaled. Returns the weights. */
static inline vec adamw_step(adamw_t a, float *weight, float *m, float *v, vec g, int64_t left) {
    vec mi = a.beta1 * load_floats(m, left) + a.rest1 * g, vi = a.beta2 * load_floats(v, left) + a.rest2 * g * g;
    vec w = load_floats(weight, left) * a.shrink - a.step * mi / (square_root(vi) * a.root + a.eps);
    store_floats(m, mi, left);
    store_floats(v, vi, left);
    store_floats(weight, w, left);
    return w;
}

/* n weights. grad: n elements of the compiled type, or NULL for zero gradients; grad_scale: clipping and unscaling in
 * one factor. bias1, bias2: 1 - beta^t, or 1 without bias correction. working: the copy used in computation, or NULL. */
int bertune_adamw(int threads, int64_t n, float *weight, float *m, float *v, const elem *grad, elem *working, double lr,
                  double beta1, double beta2, double eps, double decay, double bias1, double bias2, double grad_scale) {
    adamw_t a = adamw_make(lr, beta1, beta2, eps, decay, bias1, bias2, grad_scale);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i += LANES) {
        vec g = {0};
        if (grad) g = load_part(grad + i, n - i) * a.scale;
        vec w = adamw_step(a, weight + i, m + i, v + i, g, n - i);
        if (working) store_part(working + i, w, n - i);
    }
    return 0;
}

/* The same on a table of rows of width H of which a batch touches few: gradient row slot[r] belongs to row r, -1 to
 * none; rows never touched so far (seen[r] = 0) have zero moments and only decay. */
int bertune_adamw_rows(int threads, int64_t rows, int64_t H, float *weight, float *m, float *v, const float *grad,
                       const int32_t *slot, uint8_t *seen, double lr, double beta1, double beta2, double eps,
                       double decay, double bias1, double bias2, double grad_scale) {
    adamw_t a = adamw_make(lr, beta1, beta2, eps, decay, bias1, bias2, grad_scale);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float *w = weight + r * H, *mr = m + r * H, *vr = v + r * H;
        const float *g = slot[r] >= 0 ? grad + (int64_t)slot[r] * H : NULL;
        if (g) seen[r] = 1;
        if (!seen[r]) {
            for (int64_t c = 0; a.shrink != 1.0f && c < H; c += LANES)
                store_floats(w + c, load_floats(w + c, H - c) * a.shrink, H - c);
            continue;
        }
        for (int64_t c = 0; c < H; c += LANES) {
            vec gc = {0};
            if (g) gc = load_floats(g + c, H - c) * a.scale;
            adamw_step(a, w + c, mr + c, vr + c, gc, H - c);
        }
    }
    return 0;
}

/* Bias and activation in one pass. */
#include <omp.h>
#include <string.h>

#include "activations.h"
#include "rows.h"

/* out = activation(x + bias), rows of width I. */
int bertune_bias_activation_forward(int threads, int64_t T, int64_t I, const elem *x, const float *bias, int activation,
                                    elem *out) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
        const elem *xt = x + t * I;
        elem *ot = out + t * I;
        ACTIVATION_LOOPS(vec value = load_part(xt + c, I - c) + load_floats(bias + c, I - c);
                         store_part(ot + c, activate(value, kind), I - c);)
    }
    return 0;
}

/* dx = dy * activation'(x + bias), in place of dy; dbias[0..I) its column sums. */
int bertune_bias_activation_backward(int threads, int64_t T, int64_t I, const elem *x, const float *bias,
                                     int activation, elem *dy, float *dbias) {
    float *parts = scratch((size_t)threads * I);
    if (!parts) return 1;
    memset(parts, 0, (size_t)threads * I * sizeof(float));
    int used = 1;
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num();
#pragma omp single
        used = omp_get_num_threads();
        float *sum = parts + (size_t)me * I;
        int64_t from, to;
        share(T, used, me, &from, &to);
        for (int64_t t = from; t < to; t++) {
            const elem *xt = x + t * I;
            elem *dt = dy + t * I;
            ACTIVATION_LOOPS(vec value = load_part(xt + c, I - c) + load_floats(bias + c, I - c);
                             vec g = load_part(dt + c, I - c) * activation_slope(value, kind);
                             store_part(dt + c, g, I - c); add_floats(sum + c, g, I - c);)
        }
    }
    for (int64_t c = 0; c < I; c++) {
        float total = 0.0f;
        for (int i = 0; i < used; i++) total += parts[(size_t)i * I + c];
        dbias[c] = total;
    }
    free(parts);
    return 0;
}

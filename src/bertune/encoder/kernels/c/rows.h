/* Rows shared out among threads, and room for what each of them computes. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static inline void share(int64_t rows, int threads, int me, int64_t *from, int64_t *to) {
    *from = rows * me / threads;
    *to = rows * (me + 1) / threads;
}

static float *scratch(size_t floats) { return aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64); }

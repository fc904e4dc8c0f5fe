/* The compiled type of tensors, and sixteen values at a time. */
#pragma once
#include <stdint.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef float vec __attribute__((vector_size(64), aligned(64), may_alias));
typedef float loose_vec __attribute__((vector_size(64), aligned(4), may_alias));
enum { LANES = 16 };

#ifdef BFLOAT16
typedef uint16_t elem;
static inline float up(elem x) {
    union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
    return u.value;
}
static inline elem down(float x) { /* round to nearest even */
    union { float value; uint32_t bits; } u = {x};
    uint32_t rounded = (u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16;
    return (elem)((u.bits & 0x7fffffffu) > 0x7f800000u ? (u.bits >> 16) | 0x40u : rounded);
}
#else
typedef float elem;
static inline float up(elem x) { return x; }
static inline elem down(float x) { return x; }
#endif

typedef uint32_t bits_vec __attribute__((vector_size(64), may_alias));
typedef uint16_t short_vec __attribute__((vector_size(32), aligned(2), may_alias));

static inline vec spread(float x) { return x - (vec){0}; }

/* where `mask` (all ones or zeros) holds a, else b */
static inline vec choose(bits_vec mask, vec a, vec b) { return (vec)((mask & (bits_vec)a) | (~mask & (bits_vec)b)); }

/* Of two values; the second where either is not a number. */
#ifdef __AVX512F__
static inline vec larger(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
static inline vec smaller(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
#else
static inline vec larger(vec a, vec b) { return choose((bits_vec)(a > b), a, b); }
static inline vec smaller(vec a, vec b) { return choose((bits_vec)(a < b), a, b); }
#endif
static inline vec within(vec x, float low, float high) { return smaller(spread(high), larger(spread(low), x)); }
static inline vec magnitude(vec x) { return (vec)((bits_vec)x & 0x7fffffffu); }

#ifdef BFLOAT16
static inline vec load(const elem *from) {
    return (vec)(__builtin_convertvector(*(const short_vec *)from, bits_vec) << 16);
}
static inline void store(elem *to, vec x) {
#ifdef __AVX512BF16__
    *(short_vec *)to = (short_vec)_mm512_cvtneps_pbh((__m512)x);
#else
    for (int i = 0; i < LANES; i++) to[i] = down(x[i]);
#endif
}
#else
static inline vec load(const elem *from) { return *(const loose_vec *)from; }
static inline void store(elem *to, vec x) { *(loose_vec *)to = x; }
#endif

static inline int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* the next values of a row that has `left` more: sixteen, or fewer and zeros behind them */
static inline vec load_part(const elem *from, int64_t left) {
    if (left >= LANES) return load(from);
    vec x = {0};
    for (int64_t i = 0; i < left; i++) x[i] = up(from[i]);
    return x;
}
static inline vec load_floats(const float *from, int64_t left) {
    if (left >= LANES) return *(const loose_vec *)from;
    vec x = {0};
    for (int64_t i = 0; i < left; i++) x[i] = from[i];
    return x;
}
static inline void store_part(elem *to, vec x, int64_t left) {
    if (left >= LANES) store(to, x);
    else
        for (int64_t i = 0; i < left; i++) to[i] = down(x[i]);
}
static inline void store_floats(float *to, vec x, int64_t left) {
    if (left >= LANES) *(loose_vec *)to = x;
    else
        for (int64_t i = 0; i < left; i++) to[i] = x[i];
}

#ifdef __AVX512F__
static inline float sum_of(vec x) { return _mm512_reduce_add_ps((__m512)x); }
static inline float largest_of(vec x) { return _mm512_reduce_max_ps((__m512)x); }
#else
static inline float sum_of(vec x) {
    float sum = 0.0f;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}
static inline float largest_of(vec x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}
#endif

static inline void add_floats(float *to, vec x, int64_t left) { store_floats(to, load_floats(to, left) + x, left); }

/* (16, 16) in place */
static inline __attribute__((always_inline)) void transpose(vec row[LANES]) {
#if defined(__GNUC__) && !defined(__clang__)
#define SWAP_BLOCKS(BY) /* the blocks of this size beside the diagonal change places */                                \
    {                                                                                                                  \
        bits_vec left, right;                                                                                          \
        for (uint32_t j = 0; j < LANES; j++) {                                                                         \
            left[j] = j & BY ? j - BY + LANES : j;                                                                     \
            right[j] = j & BY ? j + LANES : j + BY;                                                                    \
        }                                                                                                              \
        _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) {                                                     \
            if (i & BY) continue;                                                                                      \
            vec upper = row[i], lower = row[i + BY];                                                                   \
            row[i] = (vec)__builtin_shuffle((bits_vec)upper, (bits_vec)lower, left);                                   \
            row[i + BY] = (vec)__builtin_shuffle((bits_vec)upper, (bits_vec)lower, right);                             \
        }                                                                                                              \
    }
    SWAP_BLOCKS(8)
    SWAP_BLOCKS(4)
    SWAP_BLOCKS(2)
    SWAP_BLOCKS(1)
#else
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < i; j++) {
            float upper = row[j][i];
            row[j][i] = row[i][j];
            row[i][j] = upper;
        }
#endif
}

/* The compiled type of tensors, and as many values at a time as a register holds: 16 with AVX-512, 8 with AVX2, else 4.
 *
 * Vectors of GCC and Clang do the arithmetic; intrinsics only what those cannot say. No vector is wider than a register
 * of the level compiled for: compilers split wider ones through memory, ten times slower. */
#pragma once
#include <math.h>
#include <stdint.h>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
enum { LANES = VECTOR_BYTES / 4 };

typedef float vec __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES), may_alias));
typedef float loose_vec __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef uint32_t bits_vec __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef uint16_t short_vec __attribute__((vector_size(VECTOR_BYTES / 2), aligned(2), may_alias));
typedef uint8_t byte_vec __attribute__((vector_size(VECTOR_BYTES / 4), aligned(1), may_alias));

static inline vec spread(float x) { return x - (vec){0}; }
static inline bits_vec spread_bits(uint32_t x) { return x - (bits_vec){0}; }

/* first, first + 1, first + 2, … */
static inline bits_vec numbers_from(uint32_t first) {
#if VECTOR_BYTES == 64
    bits_vec numbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif VECTOR_BYTES == 32
    bits_vec numbers = {0, 1, 2, 3, 4, 5, 6, 7};
#else
    bits_vec numbers = {0, 1, 2, 3};
#endif
    return numbers + first;
}

/* where `mask` (all ones or zeros) holds a, else b */
static inline vec choose(bits_vec mask, vec a, vec b) {
#if VECTOR_BYTES == 32
    return (vec)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask);
#else
    return (vec)((mask & (bits_vec)a) | (~mask & (bits_vec)b));
#endif
}

/* Of two values; the second where either is not a number. */
#if VECTOR_BYTES == 64
static inline vec larger(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
static inline vec smaller(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
#elif VECTOR_BYTES == 32
static inline vec larger(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }
static inline vec smaller(vec a, vec b) { return (vec)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(__SSE2__)
static inline vec larger(vec a, vec b) { return (vec)_mm_max_ps((__m128)a, (__m128)b); }
static inline vec smaller(vec a, vec b) { return (vec)_mm_min_ps((__m128)a, (__m128)b); }
#else
static inline vec larger(vec a, vec b) { return choose((bits_vec)(a > b), a, b); }
static inline vec smaller(vec a, vec b) { return choose((bits_vec)(a < b), a, b); }
#endif
static inline vec within(vec x, float low, float high) { return smaller(spread(high), larger(spread(low), x)); }
static inline vec magnitude(vec x) { return (vec)((bits_vec)x & 0x7fffffffu); }

static inline vec square_root(vec x) {
#if VECTOR_BYTES == 64
    return (vec)_mm512_sqrt_ps((__m512)x);
#elif VECTOR_BYTES == 32
    return (vec)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (vec)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
    return (vec)vsqrtq_f32((float32x4_t)x);
#else
    for (int i = 0; i < LANES; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

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
static inline vec load(const elem *from) {
    return (vec)(__builtin_convertvector(*(const short_vec *)from, bits_vec) << 16);
}
static inline void store(elem *to, vec x) {
#ifdef __AVX512BF16__
    *(short_vec *)to = (short_vec)_mm512_cvtneps_pbh((__m512)x);
#else
    bits_vec bits = (bits_vec)x, rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    rounded = (bits_vec)choose((bits_vec)(x == x), (vec)rounded, (vec)((bits >> 16) | 0x40u));
    *(short_vec *)to = __builtin_convertvector(rounded, short_vec);
#endif
}
#else
typedef float elem;
static inline float up(elem x) { return x; }
static inline elem down(float x) { return x; }
static inline vec load(const elem *from) { return *(const loose_vec *)from; }
static inline void store(elem *to, vec x) { *(loose_vec *)to = x; }
#endif

static inline int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* The next values of a row that has `left` more: a whole vector, or fewer and zeros behind them. Ends of rows go
 * through memory: a vector indexed by a variable would live there in the middle of rows too. */
static inline vec load_part(const elem *from, int64_t left) {
    if (left >= LANES) return load(from);
    float some[LANES] __attribute__((aligned(VECTOR_BYTES))) = {0};
    for (int64_t i = 0; i < left; i++) some[i] = up(from[i]);
    return *(vec *)some;
}
static inline vec load_floats(const float *from, int64_t left) {
    if (left >= LANES) return *(const loose_vec *)from;
    float some[LANES] __attribute__((aligned(VECTOR_BYTES))) = {0};
    for (int64_t i = 0; i < left; i++) some[i] = from[i];
    return *(vec *)some;
}
static inline void store_part(elem *to, vec x, int64_t left) {
    if (left >= LANES) {
        store(to, x);
        return;
    }
    float some[LANES] __attribute__((aligned(VECTOR_BYTES)));
    *(vec *)some = x;
    for (int64_t i = 0; i < left; i++) to[i] = down(some[i]);
}
static inline void store_floats(float *to, vec x, int64_t left) {
    if (left >= LANES) {
        *(loose_vec *)to = x;
        return;
    }
    float some[LANES] __attribute__((aligned(VECTOR_BYTES)));
    *(vec *)some = x;
    for (int64_t i = 0; i < left; i++) to[i] = some[i];
}

#if VECTOR_BYTES == 64
static inline float sum_of(vec x) { return _mm512_reduce_add_ps((__m512)x); }
static inline float largest_of(vec x) { return _mm512_reduce_max_ps((__m512)x); }
#elif VECTOR_BYTES == 32
static inline float sum_of(vec x) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
static inline float largest_of(vec x) {
    __m128 most = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    most = _mm_max_ps(most, _mm_movehl_ps(most, most));
    return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
}
#else
static inline float sum_of(vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }
static inline float largest_of(vec x) {
    float even = x[0] > x[2] ? x[0] : x[2], odd = x[1] > x[3] ? x[1] : x[3];
    return even > odd ? even : odd;
}
#endif

static inline void add_floats(float *to, vec x, int64_t left) { store_floats(to, load_floats(to, left) + x, left); }

/* (LANES, LANES) in place: blocks beside the diagonal change places, the largest first */
static inline __attribute__((always_inline)) void transpose(vec row[LANES]) {
#if defined(__GNUC__) && !defined(__clang__)
#define SWAP_BLOCKS(BY)                                                                                                \
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
#if VECTOR_BYTES == 64
    SWAP_BLOCKS(8)
#endif
#if VECTOR_BYTES >= 32
    SWAP_BLOCKS(4)
#endif
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

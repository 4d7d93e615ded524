/* Small networks, run as a list of steps over matrices that fit the first caches.
 *
 * Three forms of every step, chosen at run time: AVX-512, AVX2 with FMA, portable C (also arm64). All three give
 * the same bits. Lanes run along columns, so that one lane owns one sum: a product's terms i = k mod 4 are
 * accumulated in order by fused multiply-adds into chain k, chain 0 starts at the bias, and the result is
 * (c0 + c1) + (c2 + c3). Sums along a row go to lane (column mod 16) in order, then halve: 8, 4, 2, 1. Where the
 * machine has no fused multiply-add, `fused` computes it exactly. Integer sums are exact in any order.
 *
 * Rows are padded to 16 floats and start on a cache line; no step reads what stands in another's padding.
 */
#ifndef ANYTICK_DENSE_KERNEL_H
#define ANYTICK_DENSE_KERNEL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { DENSE_LANES = 16, DENSE_CHAINS = 4 };

typedef enum {
    DENSE_PORTABLE,
    DENSE_AVX2,
    DENSE_AVX512,
    DENSE_AVX512_VNNI,
    DENSE_VARIANTS
} DenseVariant;

typedef enum {
    DENSE_MATMUL,           /* out = a b + bias, at least `low`                                  */
    DENSE_ADD,
    DENSE_SUB,
    DENSE_MUL,
    DENSE_DIV,
    DENSE_CLIP,             /* out = min(max(a, low), high)                                      */
    DENSE_SQRT,
    DENSE_SOFTMAX,          /* along rows                                                        */
    DENSE_MEAN_COLUMNS,     /* (rows, cols) -> (rows, 1)                                         */
    DENSE_MEAN_ROWS,        /* (rows, cols) -> (1, cols)                                         */
    DENSE_TRANSPOSE,
    DENSE_RESHAPE,          /* row-major order kept                                              */
    DENSE_QUANTIZE,         /* out_u8 = clamp(round(a / scale)) + zero point, scale[0] and `low` */
    DENSE_QUANTIZE_DYNAMIC, /* the same with a scale and zero point of the row's own             */
    DENSE_INTEGER_MATMUL,   /* out_i32 = q weights + offset - zero point * column sums           */
    DENSE_REQUANTIZE,       /* out_u8 = clamp(round(acc * scale[j])) + zero point                */
    DENSE_RESCALE,          /* out = acc * (row scale * scale[j]) + bias[j]                      */
    DENSE_DEQUANTIZE        /* out = (q - zero point) * scale                                    */
} DenseKind;

/* One step. Pointers are borrowed from the tensors of the kernel; strides count elements, padding included. */
typedef struct {
    int32_t kind;            /* DenseKind                                                        */
    int32_t rows;            /* of the result                                                    */
    int32_t inner;           /* terms of a product; columns of the argument elsewhere            */
    int32_t cols;            /* of the result                                                    */
    int32_t a_stride;        /* 0 repeats the row                                                */
    int32_t b_stride;        /* 0 repeats the row                                                */
    int32_t out_stride;
    int32_t a_column;        /* 0 repeats the first column, else 1                               */
    int32_t b_column;        /* 0 repeats the first column, else 1                               */
    int32_t zero_point;      /* of the argument or the result, in 0..255                         */
    float low;
    float high;
    const void* a;           /* float, u8 or i32                                                 */
    const void* b;           /* float, or i8 weights packed for the variant                      */
    const float* bias;       /* one padded row                                                   */
    const float* scale;      /* one, or a padded row                                             */
    const int32_t* offset;   /* one padded row: bias of integer products                         */
    const int32_t* sums;     /* one padded row: sums of the weights' columns                     */
    float* row_scale;        /* of dynamic quantization: scale and zero point of each row        */
    void* out;               /* float, u8 or i32                                                 */
} DenseStep;

typedef void (*DenseRun)(const DenseStep* steps, int count);

static inline int32_t dense_padded(int32_t columns) {
    return (columns + DENSE_LANES - 1) / DENSE_LANES * DENSE_LANES;
}

/* a b + c rounded once. Without the instruction: the product of two floats is exact in a double, the sum is
 * rounded to odd, and a result rounded to odd with two spare bits rounds to float as if it were exact
 * (Boldo and Melquiond 2008). */
static inline float dense_fused(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    double product = (double)a * (double)b, addend = (double)c;
    double sum = product + addend;
    double kept = sum - product;
    double lost = (product - (sum - kept)) + (addend - kept);
    int64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    /* Away from zero when what was lost has the sum's sign, towards it otherwise; NaN compares false. */
    int64_t grow = (lost > 0.0) - (lost < 0.0);
    grow = bits < 0 ? -grow : grow;
    bits += (bits & 1) ? 0 : grow;
    memcpy(&sum, &bits, sizeof bits);
    return (float)sum;
#endif
}

/* Infinity and NaN have every bit of the exponent set; in integers, because a sum of floats would not vectorise. */
static inline int dense_finite(const float* values, int32_t count) {
    int32_t unfit = 0;
    for (int32_t at = 0; at < count; at++) {
        int32_t bits;
        memcpy(&bits, values + at, sizeof bits);
        unfit |= (bits & 0x7F800000) == 0x7F800000;
    }
    return !unfit;
}

/* Sixteen ones, then sixteen zeros: the mask of the first n lanes starts at 16 - n. */
static const int32_t DENSE_MASK[2 * DENSE_LANES] = {
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
};

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define DENSE_X86 1
#include <immintrin.h>
#else
#define DENSE_X86 0
#endif

#define DENSE_INLINE static inline __attribute__((always_inline))

#define DENSE_NAME_(name, suffix) name##_##suffix
#define DENSE_NAME(name, suffix) DENSE_NAME_(name, suffix)

#define DENSE_SUFFIX portable
#define DENSE_TARGET
#define DENSE_BLOCKS 1
#include "dense_lanes_portable.h"
#include "dense_steps.h"

#if DENSE_X86
#define DENSE_SUFFIX avx2
#define DENSE_TARGET __attribute__((target("avx2,fma")))
#define DENSE_BLOCKS 1
#include "dense_lanes_avx2.h"
#include "dense_steps.h"

#define DENSE_SUFFIX avx512
#define DENSE_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define DENSE_BLOCKS 4
#include "dense_lanes_avx512.h"
#include "dense_steps.h"

#define DENSE_SUFFIX vnni
#define DENSE_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")))
#define DENSE_BLOCKS 4
#define DENSE_VNNI 1
#include "dense_lanes_avx512.h"
#include "dense_steps.h"
#endif

/* Does this machine, and its operating system, run the variant? */
static inline int dense_supported(int variant) {
    if (variant == DENSE_PORTABLE) return 1;
#if DENSE_X86
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (variant == DENSE_AVX2) return avx2;
    if (variant == DENSE_AVX512) return avx512;
    if (variant == DENSE_AVX512_VNNI) return avx512 && __builtin_cpu_supports("avx512vnni");
#endif
    return 0;
}

static inline DenseRun dense_form(int variant) {
#if DENSE_X86
    if (variant == DENSE_AVX2) return dense_run_avx2;
    if (variant == DENSE_AVX512) return dense_run_avx512;
    if (variant == DENSE_AVX512_VNNI) return dense_run_vnni;
#endif
    return dense_run_portable;
}

#endif

/* The steps, written once over sixteen lanes; included by dense_kernel.h for every variant.
 *
 * DENSE_BLOCKS is how many blocks of sixteen columns a product keeps in registers at once: with four chains each,
 * 16 of AVX-512's 32 registers, 8 of AVX2's 16. It changes which sums run side by side, never their order.
 */

#define D(name) DENSE_NAME(name, DENSE_SUFFIX)
#define FLOATS DENSE_NAME(LanesF, DENSE_SUFFIX)
#define INTEGERS DENSE_NAME(LanesI, DENSE_SUFFIX)
#ifdef DENSE_VNNI
#define DENSE_GROUP 4 /* inputs of one integer product, and the bytes their 16 columns of weights take */
#else
#define DENSE_GROUP 2
#endif
#define DENSE_GROUP_BYTES 64

DENSE_TARGET DENSE_INLINE void D(product)(
    const float* a, const float* b, const float* bias, float* out, int inner, int b_stride, float low,
    const int blocks
) {
    FLOATS chain[DENSE_CHAINS][DENSE_BLOCKS];
    for (int block = 0; block < blocks; block++) {
        chain[0][block] = D(lanes_load)(bias + DENSE_LANES * block);
        for (int k = 1; k < DENSE_CHAINS; k++) chain[k][block] = D(lanes_set)(0.0f);
    }
    int i = 0;
    for (; i + DENSE_CHAINS <= inner; i += DENSE_CHAINS) {
        for (int k = 0; k < DENSE_CHAINS; k++) {
            FLOATS x = D(lanes_set)(a[i + k]);
            const float* row = b + (int64_t)(i + k) * b_stride;
            for (int block = 0; block < blocks; block++)
                chain[k][block] = D(lanes_fused)(x, D(lanes_load)(row + DENSE_LANES * block), chain[k][block]);
        }
    }
    for (int k = 0; k < DENSE_CHAINS - 1; k++) {
        if (i + k < inner) {
            FLOATS x = D(lanes_set)(a[i + k]);
            const float* row = b + (int64_t)(i + k) * b_stride;
            for (int block = 0; block < blocks; block++)
                chain[k][block] = D(lanes_fused)(x, D(lanes_load)(row + DENSE_LANES * block), chain[k][block]);
        }
    }
    for (int block = 0; block < blocks; block++) {
        FLOATS left = D(lanes_add)(chain[0][block], chain[1][block]);
        FLOATS right = D(lanes_add)(chain[2][block], chain[3][block]);
        FLOATS sum = D(lanes_max)(D(lanes_set)(low), D(lanes_add)(left, right));
        D(lanes_store)(out + DENSE_LANES * block, sum);
    }
}

DENSE_TARGET static void D(matmul)(const DenseStep* s) {
    const int padded = dense_padded(s->cols), wide = DENSE_LANES * DENSE_BLOCKS;
    for (int row = 0; row < s->rows; row++) {
        const float* a = (const float*)s->a + (int64_t)row * s->a_stride;
        const float* b = (const float*)s->b;
        float* out = (float*)s->out + (int64_t)row * s->out_stride;
        int column = 0;
        for (; column + wide <= padded; column += wide)
            D(product)(
                a, b + column, s->bias + column, out + column, s->inner, s->b_stride, s->low, DENSE_BLOCKS);
        for (; column < padded; column += DENSE_LANES)
            D(product)(a, b + column, s->bias + column, out + column, s->inner, s->b_stride, s->low, 1);
    }
}

DENSE_TARGET DENSE_INLINE FLOATS D(argument)(const float* row, int column, int moves) {
    return moves ? D(lanes_load)(row + column) : D(lanes_set)(*row);
}

#define DENSE_BINARY(name, op) \
    DENSE_TARGET static void D(name)(const DenseStep* s) { \
        for (int row = 0; row < s->rows; row++) { \
            const float* a = (const float*)s->a + (int64_t)row * s->a_stride; \
            const float* b = (const float*)s->b + (int64_t)row * s->b_stride; \
            float* out = (float*)s->out + (int64_t)row * s->out_stride; \
            for (int j = 0; j < s->cols; j += DENSE_LANES) \
                D(lanes_store)( \
                    out + j, D(op)(D(argument)(a, j, s->a_column), D(argument)(b, j, s->b_column))); \
        } \
    }

DENSE_BINARY(step_add, lanes_add)
DENSE_BINARY(step_sub, lanes_sub)
DENSE_BINARY(step_mul, lanes_mul)
DENSE_BINARY(step_div, lanes_div)

DENSE_TARGET static void D(step_clip)(const DenseStep* s) {
    FLOATS low = D(lanes_set)(s->low), high = D(lanes_set)(s->high);
    for (int row = 0; row < s->rows; row++) {
        const float* a = (const float*)s->a + (int64_t)row * s->a_stride;
        float* out = (float*)s->out + (int64_t)row * s->out_stride;
        for (int j = 0; j < s->cols; j += DENSE_LANES)
            D(lanes_store)(out + j, D(lanes_min)(high, D(lanes_max)(low, D(lanes_load)(a + j))));
    }
}

DENSE_TARGET static void D(step_sqrt)(const DenseStep* s) {
    for (int row = 0; row < s->rows; row++)
        for (int j = 0; j < s->cols; j += DENSE_LANES)
            D(lanes_store)(
                (float*)s->out + (int64_t)row * s->out_stride + j,
                D(lanes_sqrt)(D(lanes_load)((const float*)s->a + (int64_t)row * s->a_stride + j)));
}

/* Halving by position, so that every variant adds the same pairs. */
DENSE_TARGET DENSE_INLINE float D(halved)(FLOATS lanes) {
    float at[DENSE_LANES];
    D(lanes_store)(at, lanes);
    for (int width = DENSE_LANES / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++) at[lane] += at[lane + width];
    return at[0];
}

/* e to the power of x <= 0, to 2 units in the last place; below -87 as at -87. Cody and Waite reduction, then the
 * Taylor series: on |r| <= ln 2 / 2 its eighth term is below half a unit. */
DENSE_TARGET DENSE_INLINE FLOATS D(exponential)(FLOATS x) {
    FLOATS magic = D(lanes_set)(12582912.0f); /* 1.5 * 2^23: adding it leaves the nearest integer */
    x = D(lanes_max)(D(lanes_set)(-87.0f), x);
    FLOATS n = D(lanes_sub)(D(lanes_fused)(x, D(lanes_set)(1.44269504f), magic), magic);
    FLOATS r = D(lanes_fused)(n, D(lanes_set)(-0.693359375f), x);
    r = D(lanes_fused)(n, D(lanes_set)(2.12194440e-4f), r);
    FLOATS y = D(lanes_set)(1.0f / 5040.0f);
    y = D(lanes_fused)(y, r, D(lanes_set)(1.0f / 720.0f));
    y = D(lanes_fused)(y, r, D(lanes_set)(1.0f / 120.0f));
    y = D(lanes_fused)(y, r, D(lanes_set)(1.0f / 24.0f));
    y = D(lanes_fused)(y, r, D(lanes_set)(1.0f / 6.0f));
    y = D(lanes_fused)(y, r, D(lanes_set)(0.5f));
    y = D(lanes_fused)(y, r, D(lanes_set)(1.0f));
    y = D(lanes_fused)(y, r, D(lanes_set)(1.0f));
    return D(lanes_mul)(y, D(lanes_power)(n));
}

DENSE_TARGET static void D(step_softmax)(const DenseStep* s) {
    for (int row = 0; row < s->rows; row++) {
        const float* a = (const float*)s->a + (int64_t)row * s->a_stride;
        float* out = (float*)s->out + (int64_t)row * s->out_stride;
        float largest = a[0];
        for (int j = 1; j < s->cols; j++) largest = a[j] > largest ? a[j] : largest;
        FLOATS top = D(lanes_set)(largest), sum = D(lanes_set)(0.0f);
        for (int j = 0; j < s->cols; j += DENSE_LANES) {
            int count = s->cols - j < DENSE_LANES ? s->cols - j : DENSE_LANES;
            FLOATS e = D(exponential)(D(lanes_sub)(D(lanes_load)(a + j), top));
            e = D(lanes_first)(e, count);
            D(lanes_store)(out + j, e);
            sum = D(lanes_add)(sum, e);
        }
        FLOATS total = D(lanes_set)(D(halved)(sum));
        for (int j = 0; j < s->cols; j += DENSE_LANES)
            D(lanes_store)(out + j, D(lanes_div)(D(lanes_load)(out + j), total));
    }
}

DENSE_TARGET static void D(step_mean_columns)(const DenseStep* s) {
    for (int row = 0; row < s->rows; row++) {
        const float* a = (const float*)s->a + (int64_t)row * s->a_stride;
        FLOATS sum = D(lanes_set)(0.0f);
        for (int j = 0; j < s->inner; j += DENSE_LANES) {
            int count = s->inner - j < DENSE_LANES ? s->inner - j : DENSE_LANES;
            sum = D(lanes_add)(sum, D(lanes_first)(D(lanes_load)(a + j), count));
        }
        ((float*)s->out)[(int64_t)row * s->out_stride] = D(halved)(sum) / (float)s->inner;
    }
}

DENSE_TARGET static void D(step_mean_rows)(const DenseStep* s) {
    FLOATS count = D(lanes_set)((float)s->inner);
    for (int j = 0; j < s->cols; j += DENSE_LANES) {
        FLOATS sum = D(lanes_set)(0.0f);
        for (int row = 0; row < s->inner; row++)
            sum = D(lanes_add)(sum, D(lanes_load)((const float*)s->a + (int64_t)row * s->a_stride + j));
        D(lanes_store)((float*)s->out + j, D(lanes_div)(sum, count));
    }
}

DENSE_TARGET static void D(step_transpose)(const DenseStep* s) {
    for (int row = 0; row < s->rows; row++)
        for (int j = 0; j < s->cols; j++)
            ((float*)s->out)[(int64_t)row * s->out_stride + j] = ((const float*)s->a)[(int64_t)j * s->a_stride + row];
}

DENSE_TARGET static void D(step_reshape)(const DenseStep* s) {
    for (int64_t at = 0; at < (int64_t)s->rows * s->cols; at++)
        ((float*)s->out)[at / s->cols * s->out_stride + at % s->cols]
            = ((const float*)s->a)[at / s->inner * s->a_stride + at % s->inner];
}

DENSE_TARGET DENSE_INLINE void D(quantize_row)(const DenseStep* s, int row, float scale, int32_t zero_point) {
    const float* a = (const float*)s->a + (int64_t)row * s->a_stride;
    uint8_t* out = (uint8_t*)s->out + (int64_t)row * s->out_stride;
    FLOATS step = D(lanes_set)(scale);
    FLOATS low = D(lanes_set)((float)-zero_point), high = D(lanes_set)((float)(255 - zero_point));
    for (int j = 0; j < s->cols; j += DENSE_LANES) {
        /* In this order of arguments NaN becomes the lowest value in every variant. */
        FLOATS x = D(lanes_max)(D(lanes_div)(D(lanes_load)(a + j), step), low);
        D(lanes_store_bytes)(out + j, D(lanes_min)(x, high), zero_point);
    }
}

DENSE_TARGET static void D(step_quantize)(const DenseStep* s) {
    for (int row = 0; row < s->rows; row++) D(quantize_row)(s, row, s->scale[0], s->zero_point);
}

/* DynamicQuantizeLinear: the range is stretched to hold zero, so that zero is exact. */
DENSE_TARGET static void D(step_quantize_dynamic)(const DenseStep* s) {
    for (int row = 0; row < s->rows; row++) {
        const float* a = (const float*)s->a + (int64_t)row * s->a_stride;
        float low = 0.0f, high = 0.0f;
        for (int j = 0; j < s->cols; j++) {
            low = a[j] < low ? a[j] : low;
            high = a[j] > high ? a[j] : high;
        }
        float scale = high == low ? 1.0f : (high - low) / 255.0f;
        float zero = 0.0f - low / scale;
        zero = zero < 255.0f ? zero : 255.0f;
        zero = (zero + 12582912.0f) - 12582912.0f;
        s->row_scale[2 * row] = scale;
        s->row_scale[2 * row + 1] = zero;
        D(quantize_row)(s, row, scale, (int32_t)zero);
    }
}

DENSE_TARGET DENSE_INLINE void D(integer_product)(
    const uint8_t* q, const int8_t* weights, int groups, int64_t group_bytes, INTEGERS* sum, const int blocks
) {
    INTEGERS even[DENSE_BLOCKS], odd[DENSE_BLOCKS];
    int32_t zeros[DENSE_LANES] = {0};
    for (int block = 0; block < blocks; block++) even[block] = odd[block] = D(lanes_load_integers)(zeros);
    int group = 0;
    for (; group + 2 <= groups; group += 2) {
        const int8_t* w = weights + group * group_bytes;
        for (int block = 0; block < blocks; block++) {
            even[block]
                = D(lanes_products)(even[block], q + DENSE_GROUP * group, w + DENSE_GROUP_BYTES * block);
            odd[block] = D(lanes_products)(
                odd[block], q + DENSE_GROUP * (group + 1), w + group_bytes + DENSE_GROUP_BYTES * block);
        }
    }
    if (group < groups)
        for (int block = 0; block < blocks; block++)
            even[block] = D(lanes_products)(
                even[block], q + DENSE_GROUP * group,
                weights + group * group_bytes + DENSE_GROUP_BYTES * block);
    for (int block = 0; block < blocks; block++) sum[block] = D(lanes_add_integers)(even[block], odd[block]);
}

DENSE_TARGET static void D(step_integer_matmul)(const DenseStep* s) {
    const int padded = dense_padded(s->cols), wide = DENSE_LANES * DENSE_BLOCKS;
    const int groups = (s->inner + DENSE_GROUP - 1) / DENSE_GROUP;
    const int64_t group_bytes = (int64_t)padded / DENSE_LANES * DENSE_GROUP_BYTES;
    for (int row = 0; row < s->rows; row++) {
        const uint8_t* q = (const uint8_t*)s->a + (int64_t)row * s->a_stride;
        int32_t* out = (int32_t*)s->out + (int64_t)row * s->out_stride;
        int32_t zero_point = s->row_scale ? (int32_t)s->row_scale[2 * row + 1] : s->zero_point;
        for (int column = 0; column < padded;) {
            INTEGERS sum[DENSE_BLOCKS];
            int blocks = column + wide <= padded ? DENSE_BLOCKS : 1;
            const int8_t* weights = (const int8_t*)s->b + column / DENSE_LANES * DENSE_GROUP_BYTES;
            if (blocks == 1) D(integer_product)(q, weights, groups, group_bytes, sum, 1);
            else D(integer_product)(q, weights, groups, group_bytes, sum, DENSE_BLOCKS);
            for (int block = 0; block < blocks; block++, column += DENSE_LANES) {
                INTEGERS total = D(lanes_add_integers)(sum[block], D(lanes_load_integers)(s->offset + column));
                total = D(lanes_less)(total, zero_point, D(lanes_load_integers)(s->sums + column));
                D(lanes_store_integers)(out + column, total);
            }
        }
    }
}

/* As ONNX Runtime's integer kernels do it: one product in float, clamped, then rounded to the nearest even. */
DENSE_TARGET static void D(step_requantize)(const DenseStep* s) {
    FLOATS low = D(lanes_set)((float)-s->zero_point), high = D(lanes_set)((float)(255 - s->zero_point));
    for (int row = 0; row < s->rows; row++) {
        const int32_t* a = (const int32_t*)s->a + (int64_t)row * s->a_stride;
        uint8_t* out = (uint8_t*)s->out + (int64_t)row * s->out_stride;
        for (int j = 0; j < s->cols; j += DENSE_LANES) {
            FLOATS x = D(lanes_mul)(D(lanes_float)(D(lanes_load_integers)(a + j)), D(lanes_load)(s->scale + j));
            D(lanes_store_bytes)(out + j, D(lanes_min)(D(lanes_max)(x, low), high), s->zero_point);
        }
    }
}

DENSE_TARGET static void D(step_rescale)(const DenseStep* s) {
    for (int row = 0; row < s->rows; row++) {
        const int32_t* a = (const int32_t*)s->a + (int64_t)row * s->a_stride;
        float* out = (float*)s->out + (int64_t)row * s->out_stride;
        FLOATS own = D(lanes_set)(s->row_scale ? s->row_scale[2 * row] : 1.0f);
        for (int j = 0; j < s->cols; j += DENSE_LANES) {
            FLOATS scale = D(lanes_mul)(own, D(lanes_load)(s->scale + j));
            FLOATS x = D(lanes_mul)(D(lanes_float)(D(lanes_load_integers)(a + j)), scale);
            x = D(lanes_add)(x, D(lanes_load)(s->bias + j));
            D(lanes_store)(out + j, D(lanes_max)(D(lanes_set)(s->low), x));
        }
    }
}

DENSE_TARGET static void D(step_dequantize)(const DenseStep* s) {
    FLOATS zero = D(lanes_set)((float)s->zero_point), scale = D(lanes_set)(s->scale[0]);
    for (int row = 0; row < s->rows; row++) {
        const uint8_t* a = (const uint8_t*)s->a + (int64_t)row * s->a_stride;
        float* out = (float*)s->out + (int64_t)row * s->out_stride;
        for (int j = 0; j < s->cols; j += DENSE_LANES)
            D(lanes_store)(out + j, D(lanes_mul)(D(lanes_sub)(D(lanes_load_bytes)(a + j), zero), scale));
    }
}

DENSE_TARGET static void D(dense_run)(const DenseStep* steps, int count) {
    for (const DenseStep* s = steps; s < steps + count; s++) {
        switch (s->kind) {
            case DENSE_MATMUL: D(matmul)(s); break;
            case DENSE_ADD: D(step_add)(s); break;
            case DENSE_SUB: D(step_sub)(s); break;
            case DENSE_MUL: D(step_mul)(s); break;
            case DENSE_DIV: D(step_div)(s); break;
            case DENSE_CLIP: D(step_clip)(s); break;
            case DENSE_SQRT: D(step_sqrt)(s); break;
            case DENSE_SOFTMAX: D(step_softmax)(s); break;
            case DENSE_MEAN_COLUMNS: D(step_mean_columns)(s); break;
            case DENSE_MEAN_ROWS: D(step_mean_rows)(s); break;
            case DENSE_TRANSPOSE: D(step_transpose)(s); break;
            case DENSE_RESHAPE: D(step_reshape)(s); break;
            case DENSE_QUANTIZE: D(step_quantize)(s); break;
            case DENSE_QUANTIZE_DYNAMIC: D(step_quantize_dynamic)(s); break;
            case DENSE_INTEGER_MATMUL: D(step_integer_matmul)(s); break;
            case DENSE_REQUANTIZE: D(step_requantize)(s); break;
            case DENSE_RESCALE: D(step_rescale)(s); break;
            case DENSE_DEQUANTIZE: D(step_dequantize)(s); break;
            default: break;
        }
    }
}

#undef D
#undef FLOATS
#undef INTEGERS
#undef DENSE_BINARY
#undef DENSE_GROUP
#undef DENSE_GROUP_BYTES
#undef DENSE_SUFFIX
#undef DENSE_TARGET
#undef DENSE_BLOCKS
#ifdef DENSE_VNNI
#undef DENSE_VNNI
#endif

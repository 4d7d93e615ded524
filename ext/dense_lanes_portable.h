/* Sixteen lanes as plain loops; included by dense_kernel.h. The reference of the other two forms. */

typedef struct { float at[DENSE_LANES]; } LanesF_portable;
typedef struct { int32_t at[DENSE_LANES]; } LanesI_portable;

#define EACH_LANE for (int lane = 0; lane < DENSE_LANES; lane++)
#define LANES_OP(name, expression) \
    DENSE_INLINE LanesF_portable name##_portable(LanesF_portable x, LanesF_portable y) { \
        LanesF_portable out; \
        EACH_LANE out.at[lane] = expression; \
        return out; \
    }

LANES_OP(lanes_add, x.at[lane] + y.at[lane])
LANES_OP(lanes_sub, x.at[lane] - y.at[lane])
LANES_OP(lanes_mul, x.at[lane] * y.at[lane])
LANES_OP(lanes_div, x.at[lane] / y.at[lane])
/* As MAXPS and MINPS: the second argument when one is not a number, or when they are equal. */
LANES_OP(lanes_max, x.at[lane] > y.at[lane] ? x.at[lane] : y.at[lane])
LANES_OP(lanes_min, x.at[lane] < y.at[lane] ? x.at[lane] : y.at[lane])

DENSE_INLINE LanesF_portable lanes_load_portable(const float* from) {
    LanesF_portable out;
    memcpy(out.at, from, sizeof out.at);
    return out;
}

DENSE_INLINE void lanes_store_portable(float* to, LanesF_portable x) { memcpy(to, x.at, sizeof x.at); }

DENSE_INLINE LanesF_portable lanes_set_portable(float value) {
    LanesF_portable out;
    EACH_LANE out.at[lane] = value;
    return out;
}

DENSE_INLINE LanesF_portable lanes_fused_portable(LanesF_portable x, LanesF_portable y, LanesF_portable z) {
    LanesF_portable out;
    EACH_LANE out.at[lane] = dense_fused(x.at[lane], y.at[lane], z.at[lane]);
    return out;
}

DENSE_INLINE LanesF_portable lanes_sqrt_portable(LanesF_portable x) {
    EACH_LANE x.at[lane] = sqrtf(x.at[lane]);
    return x;
}

/* The first `count` lanes, zero in the others. */
DENSE_INLINE LanesF_portable lanes_first_portable(LanesF_portable x, int count) {
    EACH_LANE x.at[lane] = lane < count ? x.at[lane] : 0.0f;
    return x;
}

/* 2 to the power of an integral lane in [-126, 127]; anything for NaN. */
DENSE_INLINE LanesF_portable lanes_power_portable(LanesF_portable x) {
    LanesF_portable out;
    EACH_LANE {
        int32_t bits = (int32_t)((uint32_t)((x.at[lane] == x.at[lane] ? (int32_t)x.at[lane] : 0) + 127) << 23);
        memcpy(&out.at[lane], &bits, sizeof bits);
    }
    return out;
}

DENSE_INLINE LanesI_portable lanes_load_integers_portable(const int32_t* from) {
    LanesI_portable out;
    memcpy(out.at, from, sizeof out.at);
    return out;
}

DENSE_INLINE void lanes_store_integers_portable(int32_t* to, LanesI_portable x) { memcpy(to, x.at, sizeof x.at); }

DENSE_INLINE LanesI_portable lanes_add_integers_portable(LanesI_portable x, LanesI_portable y) {
    EACH_LANE x.at[lane] += y.at[lane];
    return x;
}

/* x - factor * y */
DENSE_INLINE LanesI_portable lanes_less_portable(LanesI_portable x, int32_t factor, LanesI_portable y) {
    EACH_LANE x.at[lane] -= factor * y.at[lane];
    return x;
}

DENSE_INLINE LanesF_portable lanes_float_portable(LanesI_portable x) {
    LanesF_portable out;
    EACH_LANE out.at[lane] = (float)x.at[lane];
    return out;
}

/* Rounds lanes in [-255, 255] to the nearest even, adds the zero point and stores bytes. */
DENSE_INLINE void lanes_store_bytes_portable(uint8_t* to, LanesF_portable x, int32_t zero_point) {
    EACH_LANE to[lane] = (uint8_t)((int32_t)((x.at[lane] + 12582912.0f) - 12582912.0f) + zero_point);
}

DENSE_INLINE LanesF_portable lanes_load_bytes_portable(const uint8_t* from) {
    LanesF_portable out;
    EACH_LANE out.at[lane] = (float)from[lane];
    return out;
}

/* Adds the products of one group of quantized inputs: a pair, widened to 16 bits. */
DENSE_INLINE LanesI_portable lanes_products_portable(LanesI_portable sum, const uint8_t* q, const void* weights) {
    const int16_t* w = (const int16_t*)weights;
    EACH_LANE sum.at[lane] += (int32_t)q[0] * w[2 * lane] + (int32_t)q[1] * w[2 * lane + 1];
    return sum;
}

#undef LANES_OP
#undef EACH_LANE

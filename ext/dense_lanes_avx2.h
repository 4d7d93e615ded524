/* Sixteen lanes as two AVX registers; included by dense_kernel.h. */

typedef struct { __m256 low, high; } LanesF_avx2;
typedef struct { __m256i low, high; } LanesI_avx2;

#define LANES_OP(name, instruction) \
    DENSE_TARGET DENSE_INLINE LanesF_avx2 name##_avx2(LanesF_avx2 x, LanesF_avx2 y) { \
        return (LanesF_avx2){instruction(x.low, y.low), instruction(x.high, y.high)}; \
    }

LANES_OP(lanes_add, _mm256_add_ps)
LANES_OP(lanes_sub, _mm256_sub_ps)
LANES_OP(lanes_mul, _mm256_mul_ps)
LANES_OP(lanes_div, _mm256_div_ps)
LANES_OP(lanes_max, _mm256_max_ps)
LANES_OP(lanes_min, _mm256_min_ps)

DENSE_TARGET DENSE_INLINE LanesF_avx2 lanes_load_avx2(const float* from) {
    return (LanesF_avx2){_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}

DENSE_TARGET DENSE_INLINE void lanes_store_avx2(float* to, LanesF_avx2 x) {
    _mm256_storeu_ps(to, x.low);
    _mm256_storeu_ps(to + 8, x.high);
}

DENSE_TARGET DENSE_INLINE LanesF_avx2 lanes_set_avx2(float value) {
    return (LanesF_avx2){_mm256_set1_ps(value), _mm256_set1_ps(value)};
}

DENSE_TARGET DENSE_INLINE LanesF_avx2 lanes_fused_avx2(LanesF_avx2 x, LanesF_avx2 y, LanesF_avx2 z) {
    return (LanesF_avx2){_mm256_fmadd_ps(x.low, y.low, z.low), _mm256_fmadd_ps(x.high, y.high, z.high)};
}

DENSE_TARGET DENSE_INLINE LanesF_avx2 lanes_sqrt_avx2(LanesF_avx2 x) {
    return (LanesF_avx2){_mm256_sqrt_ps(x.low), _mm256_sqrt_ps(x.high)};
}

DENSE_TARGET DENSE_INLINE LanesF_avx2 lanes_first_avx2(LanesF_avx2 x, int count) {
    const float* mask = (const float*)(DENSE_MASK + DENSE_LANES - count);
    return (LanesF_avx2){
        _mm256_and_ps(x.low, _mm256_loadu_ps(mask)), _mm256_and_ps(x.high, _mm256_loadu_ps(mask + 8))};
}

DENSE_TARGET DENSE_INLINE __m256 half_power_avx2(__m256 x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(
        _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127)), 23));
}

DENSE_TARGET DENSE_INLINE LanesF_avx2 lanes_power_avx2(LanesF_avx2 x) {
    return (LanesF_avx2){half_power_avx2(x.low), half_power_avx2(x.high)};
}

DENSE_TARGET DENSE_INLINE LanesI_avx2 lanes_load_integers_avx2(const int32_t* from) {
    return (LanesI_avx2){
        _mm256_loadu_si256((const __m256i*)from), _mm256_loadu_si256((const __m256i*)(from + 8))};
}

DENSE_TARGET DENSE_INLINE void lanes_store_integers_avx2(int32_t* to, LanesI_avx2 x) {
    _mm256_storeu_si256((__m256i*)to, x.low);
    _mm256_storeu_si256((__m256i*)(to + 8), x.high);
}

DENSE_TARGET DENSE_INLINE LanesI_avx2 lanes_add_integers_avx2(LanesI_avx2 x, LanesI_avx2 y) {
    return (LanesI_avx2){_mm256_add_epi32(x.low, y.low), _mm256_add_epi32(x.high, y.high)};
}

DENSE_TARGET DENSE_INLINE LanesI_avx2 lanes_less_avx2(LanesI_avx2 x, int32_t factor, LanesI_avx2 y) {
    __m256i times = _mm256_set1_epi32(factor);
    return (LanesI_avx2){
        _mm256_sub_epi32(x.low, _mm256_mullo_epi32(times, y.low)),
        _mm256_sub_epi32(x.high, _mm256_mullo_epi32(times, y.high))};
}

DENSE_TARGET DENSE_INLINE LanesF_avx2 lanes_float_avx2(LanesI_avx2 x) {
    return (LanesF_avx2){_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)};
}

DENSE_TARGET DENSE_INLINE void lanes_store_bytes_avx2(uint8_t* to, LanesF_avx2 x, int32_t zero_point) {
    __m256i zero = _mm256_set1_epi32(zero_point);
    __m256i words = _mm256_packs_epi32(
        _mm256_add_epi32(_mm256_cvtps_epi32(x.low), zero), _mm256_add_epi32(_mm256_cvtps_epi32(x.high), zero));
    words = _mm256_permute4x64_epi64(words, 0xD8); /* packing works within halves; this undoes it */
    _mm_storeu_si128(
        (__m128i*)to, _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

DENSE_TARGET DENSE_INLINE LanesF_avx2 lanes_load_bytes_avx2(const uint8_t* from) {
    return (LanesF_avx2){
        _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)from))),
        _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(from + 8))))};
}

/* VPMADDUBSW would add pairs of u8 x s8 in saturating 16 bits; on widened pairs VPMADDWD is exact. */
DENSE_TARGET DENSE_INLINE LanesI_avx2 lanes_products_avx2(LanesI_avx2 sum, const uint8_t* q, const void* weights) {
    __m256i pair = _mm256_set1_epi32((int32_t)q[0] | (int32_t)q[1] << 16);
    const __m256i* w = (const __m256i*)weights;
    return (LanesI_avx2){
        _mm256_add_epi32(sum.low, _mm256_madd_epi16(pair, _mm256_loadu_si256(w))),
        _mm256_add_epi32(sum.high, _mm256_madd_epi16(pair, _mm256_loadu_si256(w + 1)))};
}

#undef LANES_OP

/* Sixteen lanes as one AVX-512 register; included by dense_kernel.h, once without VNNI and once with. */

typedef __m512 DENSE_NAME(LanesF, DENSE_SUFFIX);
typedef __m512i DENSE_NAME(LanesI, DENSE_SUFFIX);

#define LANES(name) DENSE_TARGET DENSE_INLINE __m512 DENSE_NAME(lanes_##name, DENSE_SUFFIX)
#define LANES_I(name) DENSE_TARGET DENSE_INLINE __m512i DENSE_NAME(lanes_##name, DENSE_SUFFIX)
#define LANES_VOID(name) DENSE_TARGET DENSE_INLINE void DENSE_NAME(lanes_##name, DENSE_SUFFIX)

LANES(add)(__m512 x, __m512 y) { return _mm512_add_ps(x, y); }
LANES(sub)(__m512 x, __m512 y) { return _mm512_sub_ps(x, y); }
LANES(mul)(__m512 x, __m512 y) { return _mm512_mul_ps(x, y); }
LANES(div)(__m512 x, __m512 y) { return _mm512_div_ps(x, y); }
LANES(max)(__m512 x, __m512 y) { return _mm512_max_ps(x, y); }
LANES(min)(__m512 x, __m512 y) { return _mm512_min_ps(x, y); }
LANES(load)(const float* from) { return _mm512_loadu_ps(from); }
LANES(set)(float value) { return _mm512_set1_ps(value); }
LANES(fused)(__m512 x, __m512 y, __m512 z) { return _mm512_fmadd_ps(x, y, z); }
LANES(sqrt)(__m512 x) { return _mm512_sqrt_ps(x); }
LANES(first)(__m512 x, int count) { return _mm512_maskz_mov_ps((__mmask16)((1u << count) - 1u), x); }
LANES(float)(__m512i x) { return _mm512_cvtepi32_ps(x); }

LANES(power)(__m512 x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(
        _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(127)), 23));
}

LANES(load_bytes)(const uint8_t* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)from)));
}

LANES_I(load_integers)(const int32_t* from) { return _mm512_loadu_si512(from); }
LANES_I(add_integers)(__m512i x, __m512i y) { return _mm512_add_epi32(x, y); }

LANES_I(less)(__m512i x, int32_t factor, __m512i y) {
    return _mm512_sub_epi32(x, _mm512_mullo_epi32(_mm512_set1_epi32(factor), y));
}

LANES_VOID(store)(float* to, __m512 x) { _mm512_storeu_ps(to, x); }
LANES_VOID(store_integers)(int32_t* to, __m512i x) { _mm512_storeu_si512(to, x); }

LANES_VOID(store_bytes)(uint8_t* to, __m512 x, int32_t zero_point) {
    __m512i rounded = _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(zero_point));
    _mm_storeu_si128((__m128i*)to, _mm512_cvtepi32_epi8(rounded));
}

#ifdef DENSE_VNNI
/* Four inputs at once: VPDPBUSD adds u8 x s8 products in 32 bits without saturating in between. */
LANES_I(products)(__m512i sum, const uint8_t* q, const void* weights) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(four), _mm512_loadu_si512(weights));
}
#else
LANES_I(products)(__m512i sum, const uint8_t* q, const void* weights) {
    __m512i pair = _mm512_set1_epi32((int32_t)q[0] | (int32_t)q[1] << 16);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pair, _mm512_loadu_si512(weights)));
}
#endif

#undef LANES
#undef LANES_I
#undef LANES_VOID

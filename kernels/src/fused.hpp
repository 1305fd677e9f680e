// What attention needs beyond a vec_*.hpp: the fastest multiply-add, sums across lanes, turned blocks,
// masks, and products of pairs of bfloat16 where the processor has them. Not all round alike, so here
// the levels differ in the last bits, as float kernels do.
#pragma once

#include <cstdint>
#include <cstring>

namespace workbench {
namespace {

constexpr float INFINITE = __builtin_inff();

#if defined(__AVX512F__)
inline Floats fused(Floats a, Floats b, Floats c) { return fma(a, b, c); }
inline float across(Floats a) { return _mm512_reduce_add_ps(a); }
inline Floats allowed(const uint8_t *p) {  // 0 where a byte is true, else minus infinity
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return _mm512_mask_mov_ps(all(-INFINITE), _mm_test_epi8_mask(bytes, bytes),
                              _mm512_setzero_ps());
}
// Sixteen rows of sixteen words as columns: the first `count`, `stride` words apart.
inline void store_turned(const Floats (&rows)[16], int64_t count, float *to, int64_t stride) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        const __m512i x = _mm512_castps_si512(rows[i]), y = _mm512_castps_si512(rows[i + 1]);
        a[i] = _mm512_unpacklo_epi32(x, y);
        a[i + 1] = _mm512_unpackhi_epi32(x, y);
    }
    for (int i = 0; i < 16; i += 4)  // b[i + j]: of lane L, column 4 L + j of four rows
        for (int j = 0; j < 2; ++j) {
            b[i + 2 * j] = _mm512_unpacklo_epi64(a[i + j], a[i + 2 + j]);
            b[i + 2 * j + 1] = _mm512_unpackhi_epi64(a[i + j], a[i + 2 + j]);
        }
    for (int j = 0; j < 4; ++j) {
        const __m512i low = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x44);
        const __m512i high = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xee);
        const __m512i low2 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x44);
        const __m512i high2 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xee);
        a[j] = _mm512_shuffle_i32x4(low, low2, 0x88);
        a[4 + j] = _mm512_shuffle_i32x4(low, low2, 0xdd);
        a[8 + j] = _mm512_shuffle_i32x4(high, high2, 0x88);
        a[12 + j] = _mm512_shuffle_i32x4(high, high2, 0xdd);
    }
    for (int i = 0; i < count; ++i) _mm512_storeu_si512(to + i * stride, a[i]);
}
constexpr int QUERY_ROWS = 6;  // in a register block
constexpr int COLUMNS = 4;     // of sixteen
#elif defined(__AVX2__)
inline Floats fused(const Floats &a, const Floats &b, const Floats &c) { return fma(a, b, c); }
inline float across(const Floats &a) {
    float v[8], r = 0;
    _mm256_storeu_ps(v, _mm256_add_ps(a.a, a.b));
    for (float f : v) r += f;
    return r;
}
inline Floats allowed(const uint8_t *p) {
    const auto one = [](const uint8_t *q) {
        const __m256i wide =
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(q)));
        const __m256i none = _mm256_cmpeq_epi32(wide, _mm256_setzero_si256());
        return _mm256_and_ps(_mm256_castsi256_ps(none), _mm256_set1_ps(-INFINITE));
    };
    return {one(p), one(p + 8)};
}
constexpr int QUERY_ROWS = 3;
constexpr int COLUMNS = 2;
#else
inline Floats fused(const Floats &a, const Floats &b, const Floats &c) { return add(mul(a, b), c); }
inline float across(const Floats &a) {
    float r = 0;
    for (float f : a.v) r += f;
    return r;
}
inline Floats allowed(const uint8_t *p) {
    Floats r;
    for (int i = 0; i < 16; ++i) r.v[i] = p[i] ? 0.0f : -INFINITE;
    return r;
}
constexpr int QUERY_ROWS = 4;
constexpr int COLUMNS = 1;
#endif

#if !defined(__AVX512F__)
inline void store_turned(const Floats (&rows)[16], int64_t count, float *to, int64_t stride) {
    float block[16][16];
    for (int r = 0; r < 16; ++r) store(block[r], rows[r]);
    for (int64_t c = 0; c < count; ++c)
        for (int r = 0; r < 16; ++r) to[c * stride + r] = block[r][c];
}
#endif

#if defined(__AVX512BF16__)
constexpr bool HAS_PAIRS = true;  // of bfloat16, in words that are handled as Floats
inline Floats fused_pairs(Floats a, Floats b, Floats c) {  // c + the products of both
    const __m512i x = _mm512_castps_si512(a), y = _mm512_castps_si512(b);
    return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(y));
}
inline void store_pairs(float *p, Floats a) {  // sixteen numbers as eight words
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(p),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a)));
}
inline Floats paired(Floats first, Floats second) {  // of bfloat16 numbers, widened
    return _mm512_castsi512_ps(_mm512_or_si512(
        _mm512_srli_epi32(_mm512_castps_si512(first), 16), _mm512_castps_si512(second)));
}
#else
constexpr bool HAS_PAIRS = false;
inline Floats fused_pairs(const Floats &, const Floats &, const Floats &c) { return c; }
inline void store_pairs(float *, const Floats &) {}
inline Floats paired(const Floats &first, const Floats &) { return first; }
#endif

}  // namespace
}  // namespace workbench

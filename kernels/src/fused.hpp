// What attention needs beyond a vec_*.hpp: fused multiply-adds, sums across lanes, masks.
//
// A fused multiply-add rounds once, so here the levels differ in the last bits, as float kernels do.
#pragma once

#include <cstdint>
#include <cstring>

namespace workbench {
namespace {

constexpr float INFINITE = __builtin_inff();

#if defined(__AVX512F__)
inline Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline float across(Floats a) { return _mm512_reduce_add_ps(a); }
inline Floats allowed(const uint8_t *p) {  // 0 where a byte is true, else minus infinity
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return _mm512_mask_mov_ps(all(-INFINITE), _mm_test_epi8_mask(bytes, bytes),
                              _mm512_setzero_ps());
}
constexpr int QUERY_ROWS = 6;  // in a register block
constexpr int COLUMNS = 4;     // of sixteen
#elif defined(__AVX2__)
inline Floats fused(const Floats &a, const Floats &b, const Floats &c) {
    return {_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}
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

}  // namespace
}  // namespace workbench

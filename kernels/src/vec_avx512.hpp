// Sixteen numbers at once in AVX-512 with VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace workbench {
namespace {

using Ints = __m512i;
using Floats = __m512;
template <int BITS>
using Bytes = __m512i;  // of a line of weights
template <int BITS>
using Sums = __m512i;

template <int BITS>
inline Bytes<BITS> load_line(const uint8_t *p) {
    return _mm512_loadu_si512(p);
}
template <int BITS>
inline Bytes<BITS> field(Bytes<BITS> b, int index) {  // the index-th values of each byte
    if constexpr (BITS == 8) {
        return b;
    } else {
        // Bits that a 16-bit shift carries over from the neighbour are masked away.
        const __m512i mask = _mm512_set1_epi8((1 << BITS) - 1);
        return _mm512_and_si512(index ? _mm512_srli_epi16(b, index * BITS) : b, mask);
    }
}
template <int BITS>
inline Sums<BITS> start(int32_t value) {
    return _mm512_set1_epi32(value);
}
template <int BITS>
inline void multiply_add(Sums<BITS> &sums, Bytes<BITS> w, int32_t four) {
    sums = _mm512_dpbusd_epi32(sums, w, _mm512_set1_epi32(four));
}
inline Ints total(Ints s) { return s; }
inline Ints load_ints(const int32_t *p) { return _mm512_loadu_si512(p); }
inline Ints load_bytes(const int8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
}
inline void store_ints(int32_t *p, Ints a) { _mm512_storeu_si512(p, a); }
inline Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
inline Floats all(float value) { return _mm512_set1_ps(value); }
inline Floats load(const float *p) { return _mm512_loadu_ps(p); }
inline __mmask16 first(int count) { return static_cast<__mmask16>((1u << count) - 1); }
inline Floats load_some(const float *p, int count) {
    return _mm512_maskz_loadu_ps(first(count), p);
}
inline void store(float *p, Floats a) { _mm512_storeu_ps(p, a); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats absolute(Floats a) { return _mm512_abs_ps(a); }
inline Floats greater(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats lesser(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats numbers_or_zero(Floats a) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a);
}
inline Floats select_negative(Floats sign, Floats a, Floats b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(sign, _mm512_setzero_ps(), _CMP_LT_OQ), b, a);
}
inline float highest(Floats a) { return _mm512_reduce_max_ps(a); }
inline bool all_numbers(Floats a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) == 0; }
inline Ints rounded(Floats a) { return _mm512_cvtps_epi32(a); }
inline Floats two_to(Floats a) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(
        _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127)), 23));
}
inline Ints no_ints() { return _mm512_setzero_si512(); }
inline Ints plus(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints minus(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
inline Ints low_digit(Ints a) { return _mm512_srai_epi32(_mm512_slli_epi32(a, 24), 24); }
inline Ints shift_digit(Ints a) { return _mm512_srai_epi32(a, 8); }
inline int32_t sum(Ints a) { return _mm512_reduce_add_epi32(a); }
inline void store_bytes(int8_t *p, Ints a) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm512_cvtepi32_epi8(a));
}
inline Floats load_brain(const uint16_t *p) {
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}
inline Floats load_half(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
}
inline void store_brain(uint16_t *p, Floats a) {
#ifdef __AVX512BF16__
    // The instruction takes subnormal numbers for zero and keeps what is in a NaN.
    constexpr int QUIET = 0x01, SUBNORMAL = 0x20, SIGNALING = 0x80;
    if (__builtin_expect(_mm512_fpclass_ps_mask(a, QUIET | SUBNORMAL | SIGNALING) == 0, 1)) {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(p),
                            reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a)));
        return;
    }
#endif
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    up = _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q),
                               _mm512_set1_epi32(0x7fc00000));
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(p),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16)));
}
inline void store_half(uint16_t *p, Floats a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(p),
                        _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

template <int BITS>
constexpr int ROWS = 8;
template <int BITS>
constexpr bool IN_PAIRS = false;  // see vec_avx2.hpp
constexpr int PANELS = 3;
constexpr int SMALL_DIGITS = 3;  // of one row, whose sums fit into registers in four chains

}  // namespace
}  // namespace workbench

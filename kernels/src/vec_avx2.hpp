// Sixteen numbers at once in AVX2: two registers, and with VNNI in its 256-bit form if compiled so.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <type_traits>

namespace workbench {
namespace {

struct Ints {
    __m256i a, b;
};
struct Floats {
    __m256 a, b;
};

#define WB_BOTH(function, x, y) {function((x).a, (y).a), function((x).b, (y).b)}

struct Line {
    __m256i a, b;
};
inline __m256i load_bits(const uint8_t *p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
}
inline __m256i masked(__m256i v, int shift, int bits) {
    return _mm256_and_si256(_mm256_srli_epi16(v, shift),
                            _mm256_set1_epi8(static_cast<char>((1 << bits) - 1)));
}
inline Ints total(const Ints &s) { return s; }

#ifdef WB_AVXVNNI
template <int BITS>
using Bytes = Line;  // of a line of weights
template <int BITS>
using Sums = Ints;
template <int BITS>
inline Line load_line(const uint8_t *p) {
    return {load_bits(p), load_bits(p + 32)};
}
template <int BITS>
inline Line field(const Line &w, int index) {  // the index-th values of each byte
    if constexpr (BITS == 8) return w;
    return {masked(w.a, index * BITS, BITS), masked(w.b, index * BITS, BITS)};
}
template <int BITS>
inline Ints start(int32_t value) {
    return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)};
}
template <int BITS>
inline void multiply_add(Ints &s, const Line &w, int32_t four) {
    const __m256i a = _mm256_set1_epi32(four);
    s.a = _mm256_dpbusd_avx_epi32(s.a, w.a, a);
    s.b = _mm256_dpbusd_avx_epi32(s.b, w.b, a);
}
template <int BITS>
constexpr int ROWS = 6;
template <int BITS>
constexpr bool IN_PAIRS = false;
#else
// vpmaddubsw sums unsigned bytes times signed ones in pairs of 16 bits: exact for narrow weights, and
// so is the sum over the fields of a line; but it saturates on 8-bit weights. These are widened to 16
// bits: each register then holds four rows of four inputs, and its sums come in pairs.
struct Wide {
    __m256i v[4];
};
template <int BITS>
using Bytes = std::conditional_t<BITS == 8, Wide, Line>;  // of a line of weights
template <int BITS>
using Sums = std::conditional_t<BITS == 8, Wide, Ints>;

template <int BITS>
inline Bytes<BITS> load_line(const uint8_t *p) {
    if constexpr (BITS == 8) {
        const auto four = [p](int i) {
            return _mm256_cvtepu8_epi16(
                _mm_loadu_si128(reinterpret_cast<const __m128i *>(p + 16 * i)));
        };
        return {{four(0), four(1), four(2), four(3)}};
    } else {
        return {load_bits(p), load_bits(p + 32)};
    }
}
template <int BITS>
inline Bytes<BITS> field(const Bytes<BITS> &w, int index) {  // the index-th values of each byte
    if constexpr (BITS == 8) return w;
    else return {masked(w.a, index * BITS, BITS), masked(w.b, index * BITS, BITS)};
}
template <int BITS>
inline Sums<BITS> start(int32_t value) {
    if constexpr (BITS == 8) {  // of each pair the first
        const __m256i one = _mm256_set1_epi64x(static_cast<uint32_t>(value));
        return {{one, one, one, one}};
    } else {
        return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)};
    }
}
inline Line multiply_pairs(const Line &w, int32_t four) {
    const __m256i a = _mm256_set1_epi32(four);
    return {_mm256_maddubs_epi16(w.a, a), _mm256_maddubs_epi16(w.b, a)};
}
inline Line join_pairs(const Line &x, const Line &y) { return WB_BOTH(_mm256_add_epi16, x, y); }
inline void add_pairs(Ints &s, const Line &pairs) {
    const __m256i ones = _mm256_set1_epi16(1);
    s.a = _mm256_add_epi32(s.a, _mm256_madd_epi16(pairs.a, ones));
    s.b = _mm256_add_epi32(s.b, _mm256_madd_epi16(pairs.b, ones));
}
template <int BITS>
inline void multiply_add(Sums<BITS> &s, const Bytes<BITS> &w, int32_t four) {
    if constexpr (BITS == 8) {
        const __m256i a = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
        for (int i = 0; i < 4; ++i)
            s.v[i] = _mm256_add_epi32(s.v[i], _mm256_madd_epi16(w.v[i], a));
    } else {
        add_pairs(s, multiply_pairs(w, four));
    }
}
inline Ints total(const Wide &s) {
    const auto joined = [](__m256i low, __m256i high) {
        return _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
    };
    return {joined(s.v[0], s.v[1]), joined(s.v[2], s.v[3])};
}
template <int BITS>
constexpr int ROWS = BITS == 8 ? 2 : 4;
template <int BITS>
constexpr bool IN_PAIRS = BITS < 8;  // whether lines are multiplied by multiply_pairs
#endif
constexpr int PANELS = 1;
constexpr int SMALL_DIGITS = 1;  // of one row, whose sums fit into registers in four chains

inline Ints load_ints(const int32_t *p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p + 8))};
}
inline Ints load_bytes(const int8_t *p) {
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return {_mm256_cvtepi8_epi32(b), _mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))};
}
inline void store_ints(int32_t *p, const Ints &x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), x.a);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(p + 8), x.b);
}
inline Floats to_floats(const Ints &x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline Floats all(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Floats load(const float *p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline __m256i first(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Floats load_some(const float *p, int count) {
    return {_mm256_maskload_ps(p, first(count)),
            count > 8 ? _mm256_maskload_ps(p + 8, first(count - 8)) : _mm256_setzero_ps()};
}
inline void store(float *p, const Floats &x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
inline Floats add(const Floats &x, const Floats &y) { return WB_BOTH(_mm256_add_ps, x, y); }
inline Floats sub(const Floats &x, const Floats &y) { return WB_BOTH(_mm256_sub_ps, x, y); }
inline Floats mul(const Floats &x, const Floats &y) { return WB_BOTH(_mm256_mul_ps, x, y); }
inline Floats fma(const Floats &x, const Floats &y, const Floats &z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Floats divide(const Floats &x, const Floats &y) { return WB_BOTH(_mm256_div_ps, x, y); }
inline Floats greater(const Floats &x, const Floats &y) { return WB_BOTH(_mm256_max_ps, x, y); }
inline Floats lesser(const Floats &x, const Floats &y) { return WB_BOTH(_mm256_min_ps, x, y); }
inline Floats absolute(const Floats &x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline Floats numbers_or_zero(const Floats &x) {
    return {_mm256_and_ps(x.a, _mm256_cmp_ps(x.a, x.a, _CMP_ORD_Q)),
            _mm256_and_ps(x.b, _mm256_cmp_ps(x.b, x.b, _CMP_ORD_Q))};
}
inline Floats select_negative(const Floats &sign, const Floats &x, const Floats &y) {
    const __m256 zero = _mm256_setzero_ps();
    return {_mm256_blendv_ps(y.a, x.a, _mm256_cmp_ps(sign.a, zero, _CMP_LT_OQ)),
            _mm256_blendv_ps(y.b, x.b, _mm256_cmp_ps(sign.b, zero, _CMP_LT_OQ))};
}
inline float highest(const Floats &x) {
    float v[8];
    _mm256_storeu_ps(v, _mm256_max_ps(x.a, x.b));
    float r = v[0];
    for (float f : v) r = f > r ? f : r;
    return r;
}
inline bool all_numbers(const Floats &x) {
    return _mm256_movemask_ps(_mm256_cmp_ps(x.a, x.b, _CMP_UNORD_Q)) == 0;
}
inline Ints rounded(const Floats &x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline Floats two_to(const Floats &x) {
    const auto one = [](__m256 v) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(
            _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127)), 23));
    };
    return {one(x.a), one(x.b)};
}
inline Ints no_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Ints plus(const Ints &x, const Ints &y) { return WB_BOTH(_mm256_add_epi32, x, y); }
inline Ints minus(const Ints &x, const Ints &y) { return WB_BOTH(_mm256_sub_epi32, x, y); }
inline Ints low_digit(const Ints &x) {
    return {_mm256_srai_epi32(_mm256_slli_epi32(x.a, 24), 24),
            _mm256_srai_epi32(_mm256_slli_epi32(x.b, 24), 24)};
}
inline Ints shift_digit(const Ints &x) {
    return {_mm256_srai_epi32(x.a, 8), _mm256_srai_epi32(x.b, 8)};
}
inline int32_t sum(const Ints &x) {
    int32_t v[8], r = 0;
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(v), _mm256_add_epi32(x.a, x.b));
    for (int32_t i : v) r += i;
    return r;
}
inline void store_bytes(int8_t *p, const Ints &x) {
    const __m256i words =
        _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);  // 16 in order
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(p), bytes);
}
inline Floats load_brain(const uint16_t *p) {
    const auto one = [](const uint16_t *q) {
        const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i *>(q));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(b), 16));
    };
    return {one(p), one(p + 8)};
}
inline Floats load_half(const uint16_t *p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))),
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p + 8)))};
}
inline void store_brain(uint16_t *p, const Floats &x) {
    const auto one = [](__m256 v) {
        const __m256i bits = _mm256_castps_si256(v);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i up =
            _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
        return _mm256_srli_epi32(
            _mm256_blendv_epi8(up, _mm256_set1_epi32(0x7fc00000), _mm256_castps_si256(nan)), 16);
    };
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(one(x.a), one(x.b)), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), words);
}
inline void store_half(uint16_t *p, const Floats &x) {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm256_cvtps_ph(x.a, nearest));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(p + 8), _mm256_cvtps_ph(x.b, nearest));
}

#undef WB_BOTH

}  // namespace
}  // namespace workbench

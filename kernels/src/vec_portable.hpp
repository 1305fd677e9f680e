// Sixteen numbers at once in plain C++, for machines without the instruction sets below.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace workbench {
namespace {

struct Ints {
    int32_t v[16];
};
struct Floats {
    float v[16];
};
struct Line {
    uint8_t v[64];
};
template <int BITS>
using Bytes = Line;  // of weights
template <int BITS>
using Sums = Ints;

#define WB_EACH for (int i = 0; i < 16; ++i)

template <int BITS>
inline Bytes<BITS> load_line(const uint8_t *p) {
    Bytes<BITS> r;
    std::memcpy(r.v, p, 64);
    return r;
}
template <int BITS>
inline Bytes<BITS> field(const Bytes<BITS> &b, int index) {  // the index-th values of each byte
    if (BITS == 8) return b;
    Bytes<BITS> r;
    for (int i = 0; i < 64; ++i) r.v[i] = (b.v[i] >> (index * BITS)) & ((1 << (BITS & 7)) - 1);
    return r;
}
inline Ints all_ints(int32_t value) {
    Ints r;
    WB_EACH r.v[i] = value;
    return r;
}
template <int BITS>
inline Sums<BITS> start(int32_t value) {
    return all_ints(value);
}
template <int BITS>
inline void multiply_add(Sums<BITS> &sums, const Bytes<BITS> &w, int32_t four) {
    int8_t a[4];
    std::memcpy(a, &four, 4);
    WB_EACH for (int j = 0; j < 4; ++j)  // sums may pass through values beyond int32 and return
        sums.v[i] = static_cast<int32_t>(static_cast<uint32_t>(sums.v[i]) +
                                         static_cast<uint32_t>(w.v[4 * i + j] * a[j]));
}
inline Ints total(const Ints &s) { return s; }
inline Ints load_ints(const int32_t *p) {
    Ints r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
}
inline Ints load_bytes(const int8_t *p) {
    Ints r;
    WB_EACH r.v[i] = p[i];
    return r;
}
inline void store_ints(int32_t *p, const Ints &a) { std::memcpy(p, a.v, sizeof a.v); }
inline Floats to_floats(const Ints &a) {
    Floats r;
    WB_EACH r.v[i] = static_cast<float>(a.v[i]);
    return r;
}
inline Floats all(float value) {
    Floats r;
    WB_EACH r.v[i] = value;
    return r;
}
inline Floats load(const float *p) {
    Floats r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
}
inline Floats load_some(const float *p, int count) {
    Floats r = all(0);
    std::memcpy(r.v, p, sizeof(float) * count);
    return r;
}
inline void store(float *p, const Floats &a) { std::memcpy(p, a.v, sizeof a.v); }
inline Floats add(Floats a, const Floats &b) {
    WB_EACH a.v[i] += b.v[i];
    return a;
}
inline Floats sub(Floats a, const Floats &b) {
    WB_EACH a.v[i] -= b.v[i];
    return a;
}
inline Floats mul(Floats a, const Floats &b) {
    WB_EACH a.v[i] *= b.v[i];
    return a;
}
inline Floats fma(Floats a, const Floats &b, const Floats &c) {  // rounded once
    WB_EACH a.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
    return a;
}
inline Floats divide(Floats a, const Floats &b) {
    WB_EACH a.v[i] /= b.v[i];
    return a;
}
inline Floats absolute(Floats a) {
    WB_EACH a.v[i] = std::fabs(a.v[i]);
    return a;
}
inline Floats greater(Floats a, const Floats &b) {  // b where either is no number
    WB_EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
}
inline Floats lesser(Floats a, const Floats &b) {
    WB_EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
    return a;
}
inline Floats numbers_or_zero(Floats a) {
    WB_EACH a.v[i] = a.v[i] == a.v[i] ? a.v[i] : 0.0f;
    return a;
}
inline Floats select_negative(const Floats &sign, Floats a, const Floats &b) {
    WB_EACH a.v[i] = sign.v[i] < 0 ? a.v[i] : b.v[i];
    return a;
}
inline float highest(const Floats &a) {
    float r = a.v[0];
    WB_EACH r = a.v[i] > r ? a.v[i] : r;
    return r;
}
inline bool all_numbers(const Floats &a) {
    bool r = true;
    WB_EACH r = r && a.v[i] == a.v[i];
    return r;
}
inline Ints rounded(const Floats &a) {  // to nearest, ties to even; in the range of int32
    Ints r;
    WB_EACH r.v[i] = static_cast<int32_t>(std::nearbyint(a.v[i]));
    return r;
}
inline Floats two_to(const Floats &a) {  // 2^a for whole a in -126 .. 127
    Floats r;
    WB_EACH {
        const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(a.v[i]) + 127) << 23;
        std::memcpy(&r.v[i], &bits, 4);
    }
    return r;
}
inline Ints no_ints() { return all_ints(0); }
inline Ints plus(Ints a, const Ints &b) {
    WB_EACH a.v[i] += b.v[i];
    return a;
}
inline Ints minus(Ints a, const Ints &b) {
    WB_EACH a.v[i] -= b.v[i];
    return a;
}
inline Ints low_digit(Ints a) {  // the low byte, with its sign
    WB_EACH a.v[i] = static_cast<int8_t>(static_cast<uint8_t>(a.v[i] & 255));
    return a;
}
inline Ints shift_digit(Ints a) {  // divide by 256 what is a multiple of it
    WB_EACH a.v[i] /= 256;
    return a;
}
inline int32_t sum(const Ints &a) {
    int32_t r = 0;
    WB_EACH r += a.v[i];
    return r;
}
inline void store_bytes(int8_t *p, const Ints &a) {
    WB_EACH p[i] = static_cast<int8_t>(a.v[i]);
}

inline float half_to_float(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = (h >> 10) & 31;
    uint32_t fraction = h & 1023, bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000u | (fraction << 13);
    } else if (exponent) {
        bits = sign | ((exponent + 112) << 23) | (fraction << 13);
    } else {
        const float value = static_cast<float>(fraction) * 5.9604644775390625e-08f;  // 2^-24
        return sign ? -value : value;
    }
    float r;
    std::memcpy(&r, &bits, 4);
    return r;
}
inline uint16_t float_to_half(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return sign | 0x7e00;
    if (bits >= 0x477ff000) return sign | 0x7c00;  // rounds to infinity
    if (bits < 0x38800000) {                       // subnormal: let the float adder round
        float magnitude;
        std::memcpy(&magnitude, &bits, 4);
        magnitude += 0.5f;
        std::memcpy(&bits, &magnitude, 4);
        return sign | static_cast<uint16_t>(bits - 0x3f000000);
    }
    bits += 0xfff + ((bits >> 13) & 1);
    return sign | static_cast<uint16_t>((bits - 0x38000000) >> 13);
}
inline float brain_to_float(uint16_t b) {
    const uint32_t bits = static_cast<uint32_t>(b) << 16;
    float r;
    std::memcpy(&r, &bits, 4);
    return r;
}
inline uint16_t float_to_brain(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(0x7fc0);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline Floats load_brain(const uint16_t *p) {
    Floats r;
    WB_EACH r.v[i] = brain_to_float(p[i]);
    return r;
}
inline Floats load_half(const uint16_t *p) {
    Floats r;
    WB_EACH r.v[i] = half_to_float(p[i]);
    return r;
}
inline void store_brain(uint16_t *p, const Floats &a) { WB_EACH p[i] = float_to_brain(a.v[i]); }
inline void store_half(uint16_t *p, const Floats &a) { WB_EACH p[i] = float_to_half(a.v[i]); }

#undef WB_EACH

template <int BITS>
constexpr int ROWS = 4;    // of digits in a register block
template <int BITS>
constexpr bool IN_PAIRS = false;  // see vec_avx2.hpp
constexpr int PANELS = 1;  // and panels
constexpr int SMALL_DIGITS = 0;  // of one row, whose sums fit into registers in four chains

}  // namespace
}  // namespace workbench

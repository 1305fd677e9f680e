// Sixteen numbers of any float type, or fewer, to and from memory.
#pragma once

#include <cstring>

#include "layout.hpp"
#include "level.hpp"

namespace workbench {
namespace {

inline Floats load_any(const void *p, int dtype, int64_t at) {
    if (dtype == WB_F32) return load(static_cast<const float *>(p) + at);
    const uint16_t *q = static_cast<const uint16_t *>(p) + at;
    return dtype == WB_BF16 ? load_brain(q) : load_half(q);
}

inline Floats load_any_some(const void *p, int dtype, int64_t at, int count) {
    if (count == 16) return load_any(p, dtype, at);
    if (dtype == WB_F32) return load_some(static_cast<const float *>(p) + at, count);
    uint16_t all_of_it[16] = {};
    std::memcpy(all_of_it, static_cast<const uint16_t *>(p) + at, 2 * count);
    return load_any(all_of_it, dtype, 0);
}

inline void store_any(void *p, int dtype, int64_t at, Floats v, int count) {
    if (dtype == WB_F32) {
        float *q = static_cast<float *>(p) + at;
        if (count == 16) return store(q, v);
        float all_of_it[16];
        store(all_of_it, v);
        std::memcpy(q, all_of_it, 4 * count);
        return;
    }
    uint16_t *q = static_cast<uint16_t *>(p) + at, all_of_it[16];
    uint16_t *to = count == 16 ? q : all_of_it;
    if (dtype == WB_BF16) store_brain(to, v);
    else store_half(to, v);
    if (count != 16) std::memcpy(q, all_of_it, 2 * count);
}

}  // namespace
}  // namespace workbench

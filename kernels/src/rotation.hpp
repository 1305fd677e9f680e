// Rotary position embeddings: so few operations that a thread of its own would not pay.
#pragma once

#include "floats.hpp"

namespace workbench {
namespace {

inline void rotate(const wb_rotation &c) {
    const int dtype = static_cast<int>(c.dtype);
    const int64_t half = c.depth / 2;
    int64_t to = 0;
    for (int64_t batch = 0; batch < c.batch; ++batch)
        for (int64_t token = 0; token < c.tokens; ++token)
            for (int64_t head = 0; head < c.heads; ++head, to += c.depth)
                for (int64_t d = 0; d < half; d += 16) {
                    const int count = static_cast<int>(half - d < 16 ? half - d : 16);
                    const int64_t at = batch * c.strides[0] + token * c.strides[1] + d;
                    const int64_t from = batch * c.x_strides[0] + head * c.x_strides[1] +
                                         token * c.x_strides[2] + d;
                    const auto part = [&](const void *p, int64_t i) {
                        return load_any_some(p, dtype, i, count);
                    };
                    const Floats a = part(c.x, from), b = part(c.x, from + half);
                    const Floats first = sub(mul(a, part(c.cos, at)), mul(b, part(c.sin, at)));
                    const Floats second = add(mul(b, part(c.cos, at + half)),
                                              mul(a, part(c.sin, at + half)));
                    store_any(c.y, dtype, to + d, first, count);
                    store_any(c.y, dtype, to + half + d, second, count);
                }
}

}  // namespace
}  // namespace workbench

// The most that one core does: the loop of linear.hpp on what its first cache holds.
#pragma once

#include <chrono>
#include <cstring>

#include "linear.hpp"

namespace workbench {
namespace {

inline double peak_in_registers(double seconds) {
    constexpr int64_t DEEP = 64;  // lines, of each panel
    alignas(64) static uint8_t w[PANELS * DEEP * LINE + TILE];
    alignas(64) static int8_t x[DEEP / 16 * TILE + TILE];
    alignas(64) static int32_t sums[ROWS<8> * PANELS * LANES];
    std::memset(w, 1, sizeof w);  // untouched pages would all be one page of zeros
    std::memset(x, 1, sizeof x);
    const int32_t zero = 0;
    const int8_t *rows[ROWS<8>];
    const int32_t *starts[ROWS<8>];
    for (int r = 0; r < ROWS<8>; ++r) {
        rows[r] = x + r * 64;
        starts[r] = &zero;
    }
    const volatile int64_t deep = DEEP;  // or the loop is compiled anew for constants, and worse
    const auto now = [] { return std::chrono::steady_clock::now(); };
    const auto begin = now();
    double elapsed = 0, count = 0;
    while (elapsed < seconds) {
        for (int i = 0; i < 1000; ++i)
            multiply<ROWS<8>, PANELS, 8, false, false>(w, deep * LINE, 0, deep, rows, TILE, starts,
                                                       sums, nullptr, 0);
        count += 1000.0 * ROWS<8> * PANELS * DEEP * 64;
        elapsed = std::chrono::duration<double>(now() - begin).count();
    }
    return count / elapsed;
}

}  // namespace
}  // namespace workbench

// The most that one core does: independent sums in registers, nothing loaded.
#pragma once

#include <chrono>
#include <cstring>

namespace workbench {
namespace {

inline double peak_in_registers(double seconds) {
    uint8_t bytes[64];
    std::memset(bytes, 1, sizeof bytes);
    const Bytes w = field<8>(load_line(bytes), 0);
    constexpr int MANY = ROWS * PANELS;
    Sums sums[MANY];
    WB_EACH(s, MANY) sums[s] = start(s); WB_END  // equal ones would be summed once
    const auto now = [] { return std::chrono::steady_clock::now(); };
    const auto begin = now();
    double elapsed = 0, count = 0;
    while (elapsed < seconds) {
        for (int i = 0; i < 20000; ++i)
            WB_EACH(s, MANY) multiply_add(sums[s], w, 0x01010101); WB_END
        count += 20000.0 * MANY * 64;
        elapsed = std::chrono::duration<double>(now() - begin).count();
    }
    float kept[16];
    WB_EACH(s, MANY)
        store(kept, to_floats(total(sums[s])));
        asm volatile("" ::"m"(kept) :);  // so that no sum is left out
    WB_END
    return count / elapsed;
}

}  // namespace
}  // namespace workbench

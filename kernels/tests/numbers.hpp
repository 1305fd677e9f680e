// Random numbers, and arrays of any type with no byte to spare.
#pragma once

#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "workbench_kernels.h"

namespace {

std::mt19937 random_bits(0);
int any(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_bits); }
float normal() { return std::normal_distribution<float>()(random_bits); }
template <class T>
T one_of(std::initializer_list<T> these) {
    return these.begin()[any(0, static_cast<int>(these.size()) - 1)];
}

// Numbers in memory of their type, and nothing behind them.
struct Numbers {
    static constexpr int SIZE[] = {4, 2, 2, 1, 1};
    int dtype;
    std::vector<uint8_t> bytes;

    Numbers(int dtype, int64_t count)
        : dtype(dtype), bytes(static_cast<size_t>(count * SIZE[dtype])) {}
    explicit operator bool() const { return !bytes.empty(); }
    float operator[](int64_t i) const {
        if (dtype == WB_F32) return read<float>(i);
        if (dtype == WB_F16) return static_cast<float>(read<_Float16>(i));
        if (dtype >= WB_I8) return read<int8_t>(i);
        const uint32_t bits = static_cast<uint32_t>(read<uint16_t>(i)) << 16;
        float value;
        std::memcpy(&value, &bits, 4);
        return value;
    }
    void set(int64_t i, float value) {
        if (dtype == WB_F32) return write(i, value);
        if (dtype == WB_F16) return write(i, static_cast<_Float16>(value));
        if (dtype >= WB_I8) return write(i, static_cast<int8_t>(value));
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        if (value == value) bits += 0x7fff + ((bits >> 16) & 1);
        write(i, static_cast<uint16_t>(bits >> 16));
    }

   private:
    template <class T>
    T read(int64_t i) const {
        T value;
        std::memcpy(&value, bytes.data() + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
        return value;
    }
    template <class T>
    void write(int64_t i, T value) {
        std::memcpy(bytes.data() + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
    }
};

template <class T>
const T *or_null(const std::vector<T> &numbers) {
    return numbers.empty() ? nullptr : numbers.data();
}

// Equal to the bit, but for the sign of a NaN, which compilers do not keep.
bool same(const Numbers &a, const Numbers &b, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        const float one = a[i], other = b[i];
        if (std::memcmp(&one, &other, 4) && !(one != one && other != other)) return false;
    }
    return true;
}

}  // namespace

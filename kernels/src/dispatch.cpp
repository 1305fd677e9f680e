// The exported functions: which level runs, packing, and the checks that no kernel repeats.
#include <atomic>
#include <cstdlib>
#include <cstring>

#ifdef __x86_64__
#include <cpuid.h>
#endif
#ifdef __linux__
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "layout.hpp"
#include "level.hpp"
#include "vec_portable.hpp"
#include "workbench_kernels.h"

namespace workbench {
namespace {

const Level *const levels[] = {
#ifdef WB_X86
    &amx_emulated, &portable, &avx2, &avxvnni, &avx512vnni, &avx512bf16, &amx,
#else
    &portable,
#endif
};
constexpr int LEVELS = sizeof levels / sizeof *levels;

#ifdef WB_X86
struct Processor {
    bool avx2 = false, f16c = false, fma = false, avxvnni = false, avx512 = false, vnni = false;
    bool bf16 = false, amx = false;
    bool saves_ymm = false, saves_zmm = false, saves_tiles = false, grants_tiles = false;

    Processor() {
        unsigned a, b, c, d;
        if (!__get_cpuid(1, &a, &b, &c, &d)) return;
        f16c = c & (1u << 29);
        fma = c & (1u << 12);
        if (c & (1u << 27)) {  // OSXSAVE: what the system saves of each task
            unsigned low, high;
            __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
            saves_ymm = (low & 0x6) == 0x6;
            saves_zmm = saves_ymm && (low & 0xe0) == 0xe0;
            saves_tiles = (low & 0x60000) == 0x60000;
        }
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
        avx2 = b & (1u << 5);
        // F, DQ, BW and VL
        avx512 = (b & (1u << 16)) && (b & (1u << 17)) && (b & (1u << 30)) && (b & (1u << 31));
        vnni = c & (1u << 11);
        amx = (d & (1u << 24)) && (d & (1u << 25));  // TILE and INT8
        if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
            avxvnni = a & (1u << 4);
            bf16 = a & (1u << 5);
        }
#ifdef __linux__
        constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
        grants_tiles = amx && saves_tiles &&
                       syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#endif
    }
};

const Processor &processor() {
    static const Processor found;
    return found;
}

const char *obstacle(const Level &level) {
    const Processor &p = processor();
    if (&level == &portable) return nullptr;
    if (!p.avx2 || !p.f16c || !p.fma) return "the processor has no AVX2";
    if (!p.saves_ymm) return "the system does not save AVX registers";
    if (&level == &avx2) return nullptr;
    if (&level == &avxvnni) return p.avxvnni ? nullptr : "the processor has no AVX-VNNI";
    if (!p.avx512 || !p.vnni) return "the processor has no AVX-512 with VNNI";
    if (!p.saves_zmm) return "the system does not save AVX-512 registers";
    if (&level == &avx512vnni || &level == &amx_emulated) return nullptr;
    if (!p.bf16) return "the processor has no AVX-512 with bfloat16";
    if (&level == &avx512bf16) return nullptr;
    if (!p.amx) return "the processor has no AMX";
    return p.grants_tiles ? nullptr : "the system refuses the use of AMX tiles";
}
#else
const char *obstacle(const Level &) { return nullptr; }
#endif

int fastest() {
    const char *wanted = std::getenv("WORKBENCH_KERNELS");
    if (wanted)
        for (int i = 0; i < LEVELS; ++i)
            if (!std::strcmp(wanted, levels[i]->name) && !obstacle(*levels[i])) return i;
    int best = 0;
    for (int i = 0; i < LEVELS; ++i)
        if (!obstacle(*levels[i])) best = i;
    return best;
}

std::atomic<int> &current() {
    static std::atomic<int> level(fastest());
    return level;
}

// A forked child has none of its parent's threads, and OpenMP would wait for them.
std::atomic<bool> forked(false);

#ifdef __linux__
const int watches_forks = pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif

struct Scratch {
    void *memory[2] = {};
    int64_t bytes[2] = {};
    ~Scratch() {
        for (void *m : memory) std::free(m);
    }
};
thread_local Scratch own;

}  // namespace

void *scratch(int slot, int64_t bytes) {
    if (!own.memory[slot] || own.bytes[slot] < bytes) {
        const int64_t size = ceil_div(bytes + bytes / 4 + 1, 4096) * 4096;  // null is a failure
        std::free(own.memory[slot]);
        own.memory[slot] = nullptr;
        if (posix_memalign(&own.memory[slot], 4096, static_cast<size_t>(size)))
            own.memory[slot] = nullptr;
        own.bytes[slot] = own.memory[slot] ? size : 0;
    }
    return own.memory[slot];
}

}  // namespace workbench

using namespace workbench;

namespace {

bool known_bits(int64_t bits) { return bits == 2 || bits == 4 || bits == 8; }

// Groups end with whole lines, and sums of products stay within int32.
bool can_group(int64_t k, int64_t groups, int64_t bits) {
    if (groups < 1 || k / groups > 131071) return false;
    return groups == 1 || (k % groups == 0 && k / groups % inputs_per_line(bits) == 0);
}

float zero_at(const void *zero, int dtype, int64_t at) {
    if (!zero) return 0;
    return dtype == WB_I8 ? static_cast<const int8_t *>(zero)[at]
                          : static_cast<const float *>(zero)[at];
}

void write(void *y, int dtype, int64_t at, float value) {
    if (dtype == WB_F32) static_cast<float *>(y)[at] = value;
    else static_cast<uint16_t *>(y)[at] = dtype == WB_BF16 ? float_to_brain(value)
                                                           : float_to_half(value);
}

}  // namespace

extern "C" {

int wb_interface(void) { return WB_INTERFACE; }
int wb_levels(void) { return LEVELS; }
const char *wb_level_name(int level) {
    return level < 0 || level >= LEVELS ? nullptr : levels[level]->name;
}
const char *wb_level_obstacle(int level) {
    return level < 0 || level >= LEVELS ? "there is no such level" : obstacle(*levels[level]);
}
int wb_level(void) { return current(); }
int wb_set_level(int level) {
    if (level >= 0 && level < LEVELS && !obstacle(*levels[level])) current() = level;
    return current();
}

int64_t wb_packed_bytes(int64_t rows, int64_t columns, int bits) {
    return known_bits(bits) ? panels(rows) * panel_bytes(columns, bits) + TILE : 0;
}

void wb_pack(const int8_t *values, int64_t rows, int64_t columns, int bits, uint8_t *packed) {
    const int offset = 1 << (bits - 1);
    std::memset(packed, 0, static_cast<size_t>(wb_packed_bytes(rows, columns, bits)));
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t k = 0; k < columns; ++k) {
            const Place at = place(row, k, columns, bits);
            packed[at.byte] |= static_cast<uint8_t>((values[row * columns + k] + offset)
                                                    << at.shift);
        }
}

void wb_unpack(const uint8_t *packed, int64_t rows, int64_t columns, int bits, int8_t *values) {
    const int offset = 1 << (bits - 1), mask = (1 << bits) - 1;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t k = 0; k < columns; ++k) {
            const Place at = place(row, k, columns, bits);
            values[row * columns + k] =
                static_cast<int8_t>(((packed[at.byte] >> at.shift) & mask) - offset);
        }
}

static int checked_linears(Input in, const wb_output *outputs, int count) {
    if (!known_bits(in.bits) || in.digits < 1 || in.digits > 3) return 1;
    if (!can_group(in.k, in.groups, in.bits)) return 1;
    if (in.m == 0) return 0;
    if (forked) in.threads = 1;
    return levels[current()]->linears(in, outputs, count);
}

int wb_linears(const wb_input *input, const wb_output *outputs, int count) {
    return checked_linears({*input, nullptr}, outputs, count);
}

int wb_rows(const wb_source *source, float epsilon, int threads) {
    return levels[current()]->rows({*source, epsilon}, forked ? 1 : threads);
}

int wb_source_linears(const wb_source *source, float epsilon, const wb_input *input,
                      const wb_output *outputs, int count) {
    const Source rows = {*source, epsilon};
    Input in = {*input, &rows};
    in.x = source->y;
    in.x_dtype = source->dtype;
    in.x_stride = in.k = source->n;
    in.m = source->m;
    return checked_linears(in, outputs, count);
}

int wb_rotate(const wb_rotation *rotations, int count) {
    for (int i = 0; i < count; ++i) levels[current()]->rotate(rotations[i]);
    return 0;
}

int wb_attention(const struct wb_heads *heads, float scale, int threads) {
    const wb_heads &a = *heads;
    if (a.kv_heads < 1 || a.heads % a.kv_heads) return 1;
    return levels[current()]->attention(a, scale, forked ? 1 : threads);
}

static int call_of(const wb_call &call) {
    const auto *source = static_cast<const wb_source *>(call.structs[0]);
    const auto number = static_cast<float>(call.number);
    const int count = static_cast<int>(call.count);
    switch (call.function) {
        case WB_CALL_LINEARS:
            return wb_linears(static_cast<const wb_input *>(call.structs[0]),
                              static_cast<const wb_output *>(call.structs[1]), count);
        case WB_CALL_ROWS: return wb_rows(source, number, count);
        case WB_CALL_SOURCE_LINEARS:
            return wb_source_linears(source, number, static_cast<const wb_input *>(call.structs[1]),
                                     static_cast<const wb_output *>(call.structs[2]), count);
        case WB_CALL_ROTATE:
            return wb_rotate(static_cast<const wb_rotation *>(call.structs[0]), count);
        case WB_CALL_ATTENTION:
            return wb_attention(static_cast<const wb_heads *>(call.structs[0]), number, count);
        default: return 1;
    }
}

int wb_run(const wb_call *calls, int count) {
    for (int i = 0; i < count; ++i)
        if (call_of(calls[i])) return i + 1;
    return 0;
}

int wb_embedding(const int64_t *ids, int64_t count, const uint8_t *packed, int bits, int64_t rows,
                 int64_t columns, int64_t groups, const float *scale, int one_scale,
                 const void *zero, int zero_dtype, void *y, int y_dtype) {
    if (!known_bits(bits) || groups < 1 || columns % groups) return 1;
    for (int64_t i = 0; i < count; ++i)
        if (ids[i] < 0 || ids[i] >= rows) return 1;
    const int offset = 1 << (bits - 1), mask = (1 << bits) - 1;
    const int64_t size = columns / groups;
    for (int64_t i = 0; i < count; ++i)
        for (int64_t g = 0, k = 0; g < groups; ++g) {
            const int64_t number = one_scale ? 0 : number_at(ids[i], g, groups);
            const float by = scale[number], middle = zero_at(zero, zero_dtype, number);
            for (const int64_t end = k + size; k < end; ++k) {
                const Place at = place(ids[i], k, columns, bits);
                const int q = ((packed[at.byte] >> at.shift) & mask) - offset;
                write(y, y_dtype, i * columns + k, (static_cast<float>(q) - middle) * by);
            }
        }
    return 0;
}

double wb_peak(double seconds) { return levels[current()]->peak(seconds); }

}  // extern "C"

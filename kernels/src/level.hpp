// What each instruction set provides: one table of functions, filled by one translation unit.
#pragma once

#include "workbench_kernels.h"

namespace workbench {

struct Source : wb_source {
    float epsilon;
};

struct Input : wb_input {  // what the layers of one wb_linears share
    const Source *source;  // what computes x first, or NULL
};

struct Linear : Input, wb_output {};

struct Level {
    const char *name;
    int (*linears)(const Input &, const wb_output *, int count);
    double (*peak)(double seconds);
    int (*rows)(const Source &, int threads);
    void (*rotate)(const wb_rotation &);
    int (*attention)(const wb_heads &, float scale, int threads);
};

extern const Level portable, avx2, avxvnni, avx512vnni, avx512bf16, amx, amx_emulated;

// Memory of this thread that outlives the call, since page faults cost more than the product.
// NULL where there is none left.
void *scratch(int slot, int64_t bytes);

}  // namespace workbench

// What each instruction set provides: one table of functions, filled by one translation unit.
#pragma once

#include "workbench_kernels.h"

namespace workbench {

using Input = wb_input;

struct Linear : Input, wb_output {};

struct Level {
    const char *name;
    int (*linears)(const Input &, const wb_output *, int count);
    double (*peak)(double seconds);
};

extern const Level portable, avx2, avxvnni, avx512vnni, amx, amx_emulated;

// Memory of this thread that outlives the call, since page faults cost more than the product.
// NULL where there is none left.
void *scratch(int slot, int64_t bytes);

}  // namespace workbench

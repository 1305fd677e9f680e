#include "vec_avx2.hpp"

#include "attention.hpp"
#include "peak.hpp"
#include "rotation.hpp"

namespace workbench {
const Level avx2 = {"avx2", linears_in_registers, peak_in_registers,
                    rows_of_source, rotate, attention};
}  // namespace workbench

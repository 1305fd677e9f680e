#include "vec_portable.hpp"

#include "attention.hpp"
#include "peak.hpp"
#include "rotation.hpp"

namespace workbench {
const Level portable = {"portable", linears_in_registers, peak_in_registers,
                        rows_of_source, rotate, attention};
}  // namespace workbench

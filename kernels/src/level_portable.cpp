#include "vec_portable.hpp"

#include "linear.hpp"
#include "peak.hpp"

namespace workbench {
const Level portable = {"portable", linears_in_registers, peak_in_registers};
}  // namespace workbench

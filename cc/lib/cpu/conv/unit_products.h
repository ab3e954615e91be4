// The convolution of bfloat16 on matrix units (matrix_units.h). The column matrix is rounded to bfloat16, as they take
// no other; sums are float32, and results are rounded once more.
#ifndef DCNV2_CC_LIB_CPU_CONV_UNIT_PRODUCTS_H_
#define DCNV2_CC_LIB_CPU_CONV_UNIT_PRODUCTS_H_

#include "cc/lib/cpu/parallel.h"
#include "cc/lib/cpu/simd/matrix_units.h"
#include "cc/lib/deform_conv2d.h"

namespace dcnv2 {

// The units that multiply in this convolution; null if vectors do: where there are no units, or where the channels that
// a sample is read for are no whole blocks of theirs.
const MatrixUnits* MatrixUnitsFor(const DeformConv2DShape& shape);

void ForwardOnUnits(const MatrixUnits& units, const DeformConv2DShape& shape,
                    const DeformConv2DInputs<BFloat16>& inputs, BFloat16* y, const ParallelFor& parallel_for);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_CONV_UNIT_PRODUCTS_H_

// Ids out of range. A kernel that meets one leaves it out and reports it to its device; the host
// reads the report together with the next numbers that it waits for.
#pragma once
#include <cstdint>

namespace mmc {

// Words of a report, int64; all zero while nothing was refused.
enum IdReport : int { kIdArgument, kIdPlace, kIdValue, kIdLimit, kIdWords };

// What a report can name, its first word.
enum IdArgument : int {
  kNoIds, kFlattenIds, kIsectOffsets, kTileIds, kImageIds, kCameraIds, kGaussianIds, kIdArguments
};

}  // namespace mmc

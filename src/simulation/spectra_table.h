// Singular values of what a client has, at every site.
#pragma once
#include <span>
#include <vector>

#include "simulation/client_store.h"

namespace pf2lora {

// The adapted sites, and lengths of axes: common_index, client_index and total_index of results.h5. The total
// is of what a client adds to the frozen matrices: its own pair where that replaces the common one or is
// mixed with it, both where they add up, and the dense update where there is one.
struct SpectraShape {
  std::vector<Site> sites;
  int64_t common = 0, client = 0, total = 0;
};
SpectraShape spectra_shape(const Algorithm& algorithm, const ClientGroup& group);

// One client's spectra, site after site; all values are of the scaled terms.
struct ClientSpectra {
  int64_t client = 0;
  std::vector<double> common;                       // [sites, common]
  std::vector<double> own;                          // [sites, client]
  std::vector<double> total;                        // [sites, total] padded with zeros
  std::vector<double> overlap, norm_ratio, cosine;  // [sites]

  // As numbers, for the way to rank 0, and back.
  std::vector<double> pack() const;
  static ClientSpectra unpack(std::span<const double> numbers, const SpectraShape& shape);
};
ClientSpectra client_spectra(const Algorithm& algorithm, const ClientGroup& group);

}  // namespace pf2lora

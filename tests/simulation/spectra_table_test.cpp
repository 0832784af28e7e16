// Spectra of what clients deploy, against the SVD of the dense matrices that their adapters make.
#include "simulation/spectra_table.h"

#include <gtest/gtest.h>

#include "algorithm/methods.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// Of the group's first client at a site: all that stands beside the frozen matrix.
Tensor deployed(const AdapterSet& adapters, size_t site) {
  const LowRankPair& pair = adapters.pairs[site];
  const Tensor product = pair.up[0].matmul(pair.down[0]);
  return adapters.dense.empty() ? product : product + adapters.dense[site];
}

// Two sites of 12 x 12 and 20 x 12: no matrix has more than 12 singular values.
TEST(ClientSpectra, TotalIsOfAllThatTheClientDeploys) {
  const SmallProblem problem(two_sites());
  Options options = small_options();
  options.clients = 5;
  struct Case {
    std::string name;
    int64_t length;
  };
  for (const auto& [name, length] : {Case{"pf2lora", 5}, Case{"homlora", 3}, Case{"hetlora", 3},
                                     Case{"ditto", 3}, Case{"flora", 12}, Case{"fedex-lora", 12}}) {
    SCOPED_TRACE(name);
    const auto algorithm = make_method(name, options, problem);
    ClientGroup group = random_group(*algorithm, problem, {2});
    RandomTensors random(9);
    for (const Tensor& update : algorithm->base_delta(group.common))
      update.copy_(random.normal({update.size(0), update.size(1)}, 0.3));
    const SpectraShape shape = spectra_shape(*algorithm, group);
    ASSERT_EQ(shape.total, length);
    const ClientSpectra spectra = client_spectra(*algorithm, group);
    ASSERT_EQ(spectra.total.size(), size_t(2 * length));
    for (size_t site = 0; site < 2; ++site) {
      const Tensor values = torch::linalg_svdvals(deployed(algorithm->personal_model(group), site));
      for (int64_t i = 0; i < length; ++i)
        EXPECT_NEAR(spectra.total[site * size_t(length) + size_t(i)], values[i].item<double>(), 1e-12);
      if (length < 12) {
        EXPECT_LT(values[length].item<double>(), 1e-12);
      } else {
        EXPECT_GT(values[length - 1].item<double>(), 1e-6);
      }
    }
    const ClientSpectra again = ClientSpectra::unpack(spectra.pack(), shape);
    EXPECT_EQ(again.client, 2);
    EXPECT_EQ(again.total, spectra.total);
    EXPECT_EQ(again.common, spectra.common);
  }
}

}  // namespace
}  // namespace pf2lora

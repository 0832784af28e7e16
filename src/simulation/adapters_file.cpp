#include "simulation/adapters_file.h"

#include <torch/types.h>

#include <numeric>
#include <optional>

#include "io/atomic_file.h"
#include "io/hdf5_file.h"
#include "io/results.h"

namespace pf2lora {
namespace {

const std::array<std::string, 3> kCombinationNames = {"adds", "replaces", "gated"};

// Attributes of each pair's group: the factor of the product, and how it acts beside the frozen matrix.
void describe_pairs(Hdf5File& file, const std::string& group, const Level& level,
                    Combination combination = Combination::adds) {
  if (level.rank() == 0) return;
  for (const Site& site : level.sites()) {
    file.set_attribute(group + "/" + site.name, "scale", level.scale());
    file.set_attribute(group + "/" + site.name, "combines", kCombinationNames[size_t(combination)]);
  }
}

void write_slices(Hdf5File& file, const std::string& group, const Level& level, const torch::Tensor& row) {
  for (const Slice& slice : level.layout().slices()) {
    const std::string path = group + "/" + slice.name;
    const auto values = row.narrow(0, slice.offset, slice.size).contiguous();
    if (row.scalar_type() == torch::kFloat64)
      file.write<double>(path, {values.data_ptr<double>(), size_t(slice.size)}, slice.shape);
    else
      file.write<float>(path, {values.data_ptr<float>(), size_t(slice.size)}, slice.shape);
  }
  describe_pairs(file, group, level);
}

void write_base_delta(Hdf5File& file, const Level& level, const std::vector<torch::Tensor>& updates) {
  for (size_t site = 0; site < updates.size(); ++site) {
    const auto values = updates[site].to(torch::kFloat64).contiguous();
    file.write<double>("common/" + level.sites()[site].name + "/base_delta",
                       {values.data_ptr<double>(), size_t(values.numel())},
                       {level.sites()[site].rows, level.sites()[site].columns});
  }
}

// The clients' own level, client by client from 0, written in blocks of them.
class ClientSlices {
 public:
  ClientSlices(Hdf5File& file, const Level& level, Combination combination, int64_t clients,
               torch::ScalarType type)
      : file_(file), layout_(level.layout()), wide_(type == torch::kFloat64) {
    for (const Slice& slice : layout_.slices()) {
      Shape shape = {clients};
      shape.insert(shape.end(), slice.shape.begin(), slice.shape.end());
      const std::string path = "client/" + slice.name;
      wide_ ? file.create_rows<double>(path, shape) : file.create_rows<float>(path, shape);
    }
    describe_pairs(file, "client", level, combination);
  }

  void add(const torch::Tensor& row) {
    block_.push_back(row.clone());
    if (int64_t(block_.size()) * int64_t(row.nbytes()) >= kBlockBytes) flush();
  }

  void flush() {
    if (block_.empty()) return;
    const torch::Tensor rows = torch::stack(block_);
    wide_ ? write<double>(rows) : write<float>(rows);
    first_ += rows.size(0);
    block_.clear();
  }

 private:
  static constexpr int64_t kBlockBytes = int64_t{4} << 20;

  template <class T>
  void write(const torch::Tensor& rows) {
    for (const Slice& slice : layout_.slices()) {
      const auto values = rows.narrow(1, slice.offset, slice.size).contiguous();
      file_.write_rows<T>("client/" + slice.name, first_, {values.data_ptr<T>(), size_t(values.numel())});
    }
  }

  Hdf5File& file_;
  const ParameterLayout& layout_;
  const bool wide_;
  int64_t first_ = 0;  // client of the block
  std::vector<torch::Tensor> block_;
};

}  // namespace

void write_adapters(const Communicator& comm, const RunState& state, const Algorithm& algorithm,
                    const std::string& path) {
  const ClientGroup start = state.clients.group({0}, state.common);
  const LevelRows common = algorithm.common_level(start), client = algorithm.client_level(start);
  std::vector<int64_t> clients(client.level->size() > 0 ? size_t(state.placement.clients()) : 0);
  std::iota(clients.begin(), clients.end(), 0);

  std::optional<Hdf5File> file;
  std::optional<ClientSlices> slices;
  comm.together([&] {
    if (!comm.is_root()) return;
    file.emplace(Hdf5File::create(partial_path(path)));
    file->set_attribute("/", "format", std::string("pf2lora-adapters"));
    file->set_attribute("/", "format_version", kResultsFormatVersion);
    file->set_attribute("/", "round", state.round);
    write_slices(*file, "common", *common.level, common.rows[0]);
    write_base_delta(*file, *common.level, algorithm.base_delta(start.common));
    if (!clients.empty())
      slices.emplace(*file, *client.level, algorithm.combination(), state.placement.clients(),
                     state.common.scalar_type());
  });
  stream_rows(comm, state, clients, [&](int64_t id, const torch::Tensor& row) {
    const ClientGroup group{{id}, state.common.unsqueeze(0), row.unsqueeze(0)};
    slices->add(algorithm.client_level(group).rows[0]);
  });
  comm.together([&] {
    if (!file) return;
    if (slices) slices->flush();
    file->close();
    file.reset();
    commit_partial(path);
  });
}

}  // namespace pf2lora

// Rates of the native backend's primitives on one thread, beside LibTorch's matrix product in the same
// minutes: kernel_benchmark [results.json]. Every figure is the median of interleaved repetitions in
// processor time of the thread, so a machine that is busy with other things matters little.
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "native/kernels.h"
#include "own_product.h"

namespace pf2lora::native {
namespace {

using nlohmann::json;
using torch::Tensor;

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

// Programs that do the same or belong side by side in the table: a row of it.
struct Row {
  std::string name;
  double work;                                 // of one call, in units of the section
  std::vector<std::function<void()>> columns;  // empty: nothing to measure
};

// Median seconds of a call, by column.
std::vector<std::optional<double>> measure(const Row& row) {
  constexpr int repetitions = 25;
  constexpr double least = 1e-3;  // seconds of a repetition
  std::vector<int64_t> calls(row.columns.size());
  std::vector<std::vector<double>> times(row.columns.size());
  for (size_t i = 0; i < row.columns.size(); ++i) {
    if (!row.columns[i]) continue;
    row.columns[i]();
    const double start = thread_seconds();
    row.columns[i]();
    calls[i] = 1 + int64_t(least / (thread_seconds() - start));
  }
  for (int repetition = 0; repetition < repetitions; ++repetition)
    for (size_t i = 0; i < row.columns.size(); ++i) {
      if (!row.columns[i]) continue;
      const double start = thread_seconds();
      for (int64_t call = 0; call < calls[i]; ++call) row.columns[i]();
      times[i].push_back((thread_seconds() - start) / double(calls[i]));
    }
  std::vector<std::optional<double>> medians(row.columns.size());
  for (size_t i = 0; i < times.size(); ++i) {
    if (times[i].empty()) continue;
    std::nth_element(times[i].begin(), times[i].begin() + repetitions / 2, times[i].end());
    medians[i] = times[i][repetitions / 2];
  }
  return medians;
}

// Prints a section as it is measured; `figure` is of work and seconds.
class Section {
 public:
  Section(const std::string& title, std::vector<std::string> columns, double (*figure)(double, double))
      : columns_(std::move(columns)), figure_(figure) {
    std::cout << "\n" << std::left << std::setw(34) << title << std::right;
    for (const std::string& column : columns_) std::cout << std::setw(12) << column;
    std::cout << std::endl;
  }
  void add(const Row& row) {
    std::cout << std::left << std::setw(34) << row.name << std::right << std::fixed;
    const auto seconds = measure(row);
    json figures;
    for (size_t i = 0; i < columns_.size(); ++i) {
      std::cout << std::setw(12) << std::setprecision(i < seconds.size() && seconds[i] ? 2 : 0);
      if (i < seconds.size() && seconds[i]) {
        figures[columns_[i]] = figure_(row.work, *seconds[i]);
        std::cout << figure_(row.work, *seconds[i]);
      } else {
        std::cout << "-";
      }
    }
    std::cout << std::endl;
    all_[row.name] = figures;
  }
  const json& figures() const { return all_; }

 private:
  std::vector<std::string> columns_;
  double (*figure_)(double, double);
  json all_;
};

double giga_per_second(double work, double seconds) {
  return 1e-9 * work / seconds;
}
double nanoseconds_each(double work, double seconds) {
  return 1e9 * seconds / work;
}
double microseconds(double, double seconds) {
  return 1e6 * seconds;
}

std::vector<Processor> processors() {
  std::vector<Processor> found;
  for (const Processor processor : {Processor::avx512, Processor::avx2, Processor::plain})
    if (supported(processor)) found.push_back(processor);
  return found;
}

std::vector<std::string> names(std::vector<std::string> before) {
  for (const Processor processor : processors()) before.push_back(kernels<float>(processor).name);
  return before;
}

float* data(const Tensor& x) {
  return x.data_ptr<float>();
}

// The same with b in bf16 numbers; empty where the processor has no such products.
std::function<void()> bf16_product(const Bf16Kernels* kernels, const Tensor& x, const Tensor& b,
                                   const Tensor& c) {
  if (kernels == nullptr) return {};
  const int64_t in = b.size(0), out = b.size(1), rows = x.size(0);
  const Tensor panels = torch::empty({kernels->panels_size(in, out)}, torch::kInt16);
  const Tensor scratch = torch::empty({kernels->scratch(rows, in)});
  const auto bf16 = [](const Tensor& numbers) {
    return reinterpret_cast<Bf16*>(numbers.data_ptr<int16_t>());
  };
  kernels->pack_panels(data(b), b.stride(0), b.stride(1), in, out, bf16(panels));
  return [=] {
    const Bf16Term term{data(x), in, in, bf16(panels)};
    kernels->product(term, {}, rows, out, {data(c), out}, nullptr, false, data(scratch));
  };
}

json products() {
  Section section("product, GFLOP/s", names({"torch mm", "bf16", "bf16x3"}), giga_per_second);
  const auto add = [&](const std::string& name, const Tensor& x, const Tensor& b) {
    const Tensor c = torch::empty({x.size(0), b.size(1)});
    const Kernels<float>& best = kernels<float>();
    Row row{name, 2.0 * double(x.size(0) * b.size(0) * b.size(1)), {[=] {
              at::mm_out(const_cast<Tensor&>(c), x, b);
            }}};
    for (const Bf16Kernels* bf16 : {best.bf16, best.bf16x3})
      row.columns.push_back(x.stride(1) == 1 ? bf16_product(bf16, x, b, c) : nullptr);
    for (const Processor processor : processors())
      row.columns.push_back(own_product(kernels<float>(processor), x, b, c));
    section.add(row);
  };
  for (const auto& [in, out] :
       {std::pair{128, 128}, {128, 512}, {512, 128}, {384, 384}, {384, 1536}, {1536, 384}})
    for (const int64_t rows : {217, 2048}) {
      std::ostringstream name;
      name << rows << " x " << in << " x " << out;
      add(name.str(), torch::randn({rows, in}), torch::randn({in, out}));
    }
  for (const int64_t rows : {217, 2048}) {
    const std::string prefix = std::to_string(rows);
    add(prefix + " x 384 x 10 (down)", torch::randn({rows, 384}), torch::randn({384, 10}));
    add(prefix + " x 10 x 384 (up)", torch::randn({rows, 10}), torch::randn({10, 384}));
    add("10 x " + prefix + " x 384 (gradient)", torch::randn({rows, 10}).t(), torch::randn({rows, 384}));
  }
  return section.figures();
}

json norms() {
  Section section("norm, ns a number", names({}), nanoseconds_each);
  for (const int64_t width : {128, 384}) {
    constexpr int64_t rows = 217;
    const auto matrix = [&] { return torch::randn({rows, width}); };
    const Tensor a = matrix(), b = matrix(), d = matrix(), t_d = matrix(), normal = matrix(), out = matrix();
    const Tensor t_normal = matrix(), t_out = matrix(), d_x = matrix(), t_d_x = matrix();
    const Tensor gain = torch::randn({width}), shift = torch::randn({width});
    const Tensor scale = torch::ones({rows}), t_scale = torch::ones({rows});
    Row value{"add_norm " + std::to_string(width), double(rows * width), {}};
    Row gradient{"  gradient", value.work, {}}, tangent{"  tangent", value.work, {}};
    Row both{"  tangent of gradient", value.work, {}};
    for (const Processor processor : processors()) {
      const Kernels<float>& table = kernels<float>(processor);
      value.columns.push_back([&, rows] {
        table.add_norm(rows, width, data(a), data(b), data(gain), data(shift), 1e-12, data(normal),
                       data(scale), data(out));
      });
      gradient.columns.push_back([&, rows] {
        table.add_norm_gradient(rows, width, data(d), data(gain), data(normal), data(scale), data(d_x));
      });
      tangent.columns.push_back([&, rows] {
        table.add_norm_tangent(rows, width, data(a), data(b), data(gain), data(normal), data(scale),
                               data(t_normal), data(t_scale), data(t_out));
      });
      both.columns.push_back([&, rows] {
        table.add_norm_gradient_tangent(rows, width, data(d), data(t_d), data(gain), data(normal),
                                        data(t_normal), data(scale), data(t_scale), data(d_x), data(t_d_x));
      });
    }
    for (const Row* row : {&value, &gradient, &tangent, &both}) section.add(*row);
  }
  return section.figures();
}

json elementwise() {
  Section section("elementwise, ns a number", names({}), nanoseconds_each);
  constexpr int64_t count = 217 * 512;
  const auto numbers = [] { return torch::randn({count}); };
  const Tensor x = numbers(), y = numbers(), out = numbers(), slope = numbers(), curvature = numbers();
  const auto add = [&](const std::string& name, const std::function<void(const Kernels<float>&)>& call) {
    Row row{name, double(count), {}};
    for (const Processor processor : processors())
      row.columns.push_back([&call, &table = kernels<float>(processor)] { call(table); });
    section.add(row);
  };
  for (const auto& [kind, name] : {std::pair{Activation::gelu, "gelu"},
                                   {Activation::gelu_tanh, "gelu_tanh"},
                                   {Activation::relu, "relu"},
                                   {Activation::silu, "silu"},
                                   {Activation::tanh, "tanh"}})
    for (int derivatives = 0; derivatives < 3; ++derivatives)
      add(name + std::string(derivatives, '\''), [&, kind = kind](const Kernels<float>& table) {
        table.activation(kind, count, data(x), data(out), derivatives > 0 ? data(slope) : nullptr,
                         derivatives > 1 ? data(curvature) : nullptr);
      });
  add("a * b", [&](const Kernels<float>& table) {
    table.multiply(count, data(x), data(y), nullptr, nullptr, nullptr, data(out));
  });
  add("a * b + c * d * e", [&](const Kernels<float>& table) {
    table.multiply(count, data(x), data(y), data(slope), data(x), data(y), data(out));
  });
  add("softmax", [&](const Kernels<float>& table) { table.softmax(count, data(x), 1, data(out)); });
  add("softmax'",
      [&](const Kernels<float>& table) { table.softmax_tangent(count, data(x), data(y), 1, data(out)); });
  add("rotary, 8 x 64", [&](const Kernels<float>& table) {
    table.rotate({8, 64, 32}, 217, data(x), data(slope), data(curvature), false, data(out));
  });
  const Tensor row = numbers(), moment1 = torch::zeros({count}), moment2 = torch::zeros({count});
  add("AdamW", [&](const Kernels<float>& table) {
    table.adamw(count, {1e-3, 1, 0.9, 0.999, 1e-8, 1, 1}, data(x), data(row), data(moment1), data(moment2));
  });
  return section.figures();
}

json attentions() {
  Section section("attention of 16 examples, us", names({}), microseconds);
  const std::vector<int64_t> sentences{5, 9, 24, 13, 7, 3, 19, 31, 12, 8, 10, 4, 22, 15, 6, 20};  // mean 13
  for (const auto& [heads, width] : {std::pair{2, 64}, {12, 32}})
    for (const bool short_ones : {true, false}) {
      std::vector<int64_t> offsets{0};
      for (const int64_t length : sentences) offsets.push_back(offsets.back() + (short_ones ? length : 64));
      const AttentionShape shape{offsets, heads, width};
      const int64_t tokens = offsets.back(), hidden = heads * width;
      Tensor x[16];
      for (Tensor& matrix : x) matrix = torch::randn({tokens, hidden});
      const auto in = [&](int i) { return Rows<const float>{data(x[i]), hidden}; };
      const auto out = [&](int i) { return Rows<float>{data(x[i]), hidden}; };
      const int64_t size = kernels<float>(Processor::plain).attention_weights(shape) * 16;  // enough for all
      const Tensor weights = torch::empty({size}), t_weights = torch::empty({size}),
                   scores = torch::empty({size});
      const Tensor scratch = torch::empty({1 << 18});
      std::ostringstream name;
      name << "lengths " << (short_ones ? "around 13" : "64") << ", " << heads << " x " << width;
      Row value{name.str(), 1, {}}, gradient{"  gradient", 1, {}}, tangent{"  tangent", 1, {}};
      Row both{"  tangent of gradient", 1, {}};
      for (const Processor processor : processors()) {
        const Kernels<float>& table = kernels<float>(processor);
        value.columns.push_back(
            [&] { table.attention(shape, in(0), in(1), in(2), data(weights), out(3), data(scratch)); });
        gradient.columns.push_back([&] {
          table.attention_gradient(shape, in(0), in(1), in(2), data(weights), in(4), data(scores), out(5),
                                   out(6), out(7), data(scratch));
        });
        tangent.columns.push_back([&] {
          table.attention_tangent(shape, in(0), in(1), in(2), in(8), in(9), in(10), data(weights),
                                  data(t_weights), out(11), data(scratch));
        });
        both.columns.push_back([&] {
          table.attention_gradient_tangent(shape, in(0), in(1), in(2), in(8), in(9), in(10), data(weights),
                                           data(t_weights), data(scores), in(4), in(12), out(13), out(14),
                                           out(15), data(scratch));
        });
      }
      for (const Row* row : {&value, &gradient, &tangent, &both}) section.add(*row);
    }
  return section.figures();
}

}  // namespace
}  // namespace pf2lora::native

int main(int count, char** arguments) {
  torch::set_num_threads(1);
  using namespace pf2lora::native;
  const nlohmann::json all{{"product_gflops", products()},
                           {"norm_ns", norms()},
                           {"elementwise_ns", elementwise()},
                           {"attention_us", attentions()}};
  if (count > 1) std::ofstream(arguments[1]) << all.dump(2) << "\n";
}

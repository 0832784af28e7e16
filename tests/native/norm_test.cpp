#include <gtest/gtest.h>

#include <cmath>

#include "native/oracle.h"

namespace pf2lora::native {
namespace {

class Norm : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, Norm, testing::ValuesIn(supported_processors()), processor_name);

constexpr double kEpsilon = 1e-3;  // large enough to be seen

enum class Kind { layer, rms };

// A norm of a + b with its gradient, tangent and tangent of the gradient, by one table.
template <class T>
struct NormResults {
  Tensor out, normal, scale, d_x, t_out, t_normal, t_scale, t_d_x;

  NormResults(const Kernels<T>& table, const Tensor& a, const Tensor& b, const Tensor& t_a, const Tensor& t_b,
              const Tensor& gain, const Tensor& shift, const Tensor& d_out, const Tensor& t_d_out,
              Kind kind = Kind::layer) {
    const bool rms = kind == Kind::rms;
    const int64_t rows = a.size(0), width = a.size(1);
    for (Tensor* matrix : {&out, &normal, &d_x, &t_out, &t_normal, &t_d_x})
      *matrix = torch::full_like(a, NAN);
    for (Tensor* numbers : {&scale, &t_scale}) *numbers = torch::full({rows}, NAN, a.options());
    const auto value = rms ? table.add_rms_norm : table.add_norm;
    value(rows, width, data<T>(a), data<T>(b), data<T>(gain), rms ? nullptr : data<T>(shift), kEpsilon,
          data<T>(normal), data<T>(scale), data<T>(out));
    const auto gradient = rms ? table.add_rms_norm_gradient : table.add_norm_gradient;
    gradient(rows, width, data<T>(d_out), data<T>(gain), data<T>(normal), data<T>(scale), data<T>(d_x));
    const auto tangent = rms ? table.add_rms_norm_tangent : table.add_norm_tangent;
    tangent(rows, width, data<T>(t_a), data<T>(t_b), data<T>(gain), data<T>(normal), data<T>(scale),
            data<T>(t_normal), data<T>(t_scale), data<T>(t_out));
    const auto both = rms ? table.add_rms_norm_gradient_tangent : table.add_norm_gradient_tangent;
    both(rows, width, data<T>(d_out), data<T>(t_d_out), data<T>(gain), data<T>(normal), data<T>(t_normal),
         data<T>(scale), data<T>(t_scale), data<T>(d_x), data<T>(t_d_x));
  }
};

// Of all results, against autograd in double.
template <class T>
double worst_norm(const Kernels<T>& table, Kind kind) {
  double worst = 0;
  for (const int64_t width : {3, 7, 16, 33, 128, 384, 1027})
    for (const int64_t rows : {0, 1, 6})
      for (const bool with_b : {false, true}) {
        const auto matrix = [&] { return draw({rows, width}, type_of<T>()); };
        const auto vector = [&] { return draw({width}, type_of<T>()); };
        const Tensor a = 3 + matrix(), b = with_b ? matrix() : Tensor();
        const Tensor t_a = matrix(), t_b = with_b ? matrix() : Tensor();
        const Tensor gain = vector(), d_out = matrix(), t_d_out = matrix();
        const Tensor shift = kind == Kind::rms ? torch::zeros({width}, type_of<T>()) : vector();
        const NormResults<T> ours(table, a, b, t_a, t_b, gain, shift, d_out, t_d_out, kind);
        const auto exact = [](const Tensor& x) { return x.to(torch::kFloat64); };
        const Tensor x = with_b ? exact(a) + exact(b) : exact(a);
        const Tensor t_x = with_b ? exact(t_a) + exact(t_b) : exact(t_a);
        const auto centred = [&](const Tensor& in) { return kind == Kind::rms ? in : in - in.mean(1, true); };
        const auto norm = [&](const std::vector<Tensor>& in) {
          const Tensor distance = centred(in[0]);
          return distance / (distance.square().mean(1, true) + kEpsilon).sqrt() * exact(gain) + exact(shift);
        };
        const Derivatives theirs = differentiate(norm, {x}, {t_x}, exact(d_out), exact(t_d_out));
        const Tensor scale = (centred(x).square().mean(1) + kEpsilon).rsqrt();
        for (const double off :
             {difference(ours.out, theirs.value), difference(ours.d_x, theirs.gradient[0]),
              difference(ours.t_out, theirs.tangent), difference(ours.t_d_x, theirs.gradient_tangent[0]),
              difference(ours.scale, scale), difference(ours.normal * gain + shift, theirs.value),
              difference(ours.t_normal * gain, theirs.tangent)}) {
          EXPECT_TRUE(std::isfinite(off)) << "width " << width << ", " << rows << " rows";
          worst = std::max(worst, off);
        }
      }
  return worst;
}

TEST_P(Norm, AgreesWithAutogradInDouble) {
  EXPECT_LT(worst_norm(table<double>(), Kind::layer), 1e-13);
  EXPECT_LT(worst_norm(table<double>(), Kind::rms), 1e-13);
}

TEST_P(Norm, AgreesWithAutogradInFloat) {
  EXPECT_LT(worst_norm(table<float>(), Kind::layer), 2e-5);
  EXPECT_LT(worst_norm(table<float>(), Kind::rms), 2e-5);
}

TEST_P(Norm, TangentAlongOneAddendIsThatAlongTheSumWithZero) {
  const Tensor a = draw({3, 37}), b = draw({3, 37}), t = draw({3, 37}), none, zero = torch::zeros({3, 37});
  const Tensor gain = draw({37}), shift = draw({37}), d = draw({3, 37}), t_d = draw({3, 37});
  const auto results = [&](const Tensor& t_a, const Tensor& t_b) {
    return NormResults<double>(table(), a, b, t_a, t_b, gain, shift, d, t_d);
  };
  const Tensor zeros = zero.to(torch::kFloat64), expected = results(t, zeros).t_d_x;
  EXPECT_TRUE(torch::equal(results(t, none).t_d_x, expected));
  EXPECT_TRUE(torch::equal(results(none, t).t_d_x, expected));
  EXPECT_TRUE(torch::equal(results(none, none).t_out, zeros));
}

// A row far from 0 beside its spread: mean of squares less square of mean would have no digits left.
TEST_P(Norm, KeepsItsDigitsFarFromZero) {
  const Tensor x = 1e4 + draw({5, 384}, torch::kFloat32), one = torch::ones({384}), none;
  const Tensor zero = torch::zeros({384}), d = torch::ones_like(x);
  const Tensor ours = NormResults<float>(table<float>(), x, none, d, none, one, zero, d, d).out;
  const Tensor exact = x.to(torch::kFloat64);
  const Tensor scale = (exact.var(1, false) + kEpsilon).rsqrt().unsqueeze(1);
  EXPECT_LT(difference(ours, (exact - exact.mean(1, true)) * scale), 1e-3);
}

TEST_P(Norm, RowHasTheSameBitsInAnyCompany) {
  constexpr int64_t rows = 9, width = 45;
  const auto matrix = [] { return draw({rows, width}, torch::kFloat32); };
  const Tensor gain = draw({width}, torch::kFloat32), shift = draw({width}, torch::kFloat32);
  const std::vector inputs{matrix(), matrix(), matrix(), matrix(), matrix(), matrix()};
  const auto results = [&](Kind kind, int64_t first, int64_t count) {
    const auto part = [&](size_t i) { return inputs[i].narrow(0, first, count); };
    return NormResults<float>(table<float>(), part(0), part(1), part(2), part(3), gain, shift, part(4),
                              part(5), kind);
  };
  for (const Kind kind : {Kind::layer, Kind::rms}) {
    const NormResults<float> all = results(kind, 0, rows);
    for (int64_t i = 0; i < rows; ++i) {
      const NormResults<float> own = results(kind, i, 1);
      for (const auto member :
           {&NormResults<float>::out, &NormResults<float>::d_x, &NormResults<float>::t_out,
            &NormResults<float>::t_d_x, &NormResults<float>::scale})
        ASSERT_TRUE(same_bits(own.*member, (all.*member).narrow(0, i, 1)));
    }
  }
}

}  // namespace
}  // namespace pf2lora::native

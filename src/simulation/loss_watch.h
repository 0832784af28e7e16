// Training that diverges without an overflow: told once, in words.
#pragma once
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

#include "core/text.h"

namespace pf2lora {

class LossWatch {
 public:
  // `classes`: 0 where there are none.
  explicit LossWatch(int64_t classes) : classes_(classes) {}

  // A sentence for the first round whose mean training loss is above 10 times that of guessing among the
  // classes, log(classes); without classes, 10 times that of the first round seen. Divergence within the
  // first round would hide behind that round's own loss.
  std::optional<std::string> round(int64_t round, double loss) {
    if (!first_loss_) first_round_ = round, first_loss_ = loss;
    const double usual = classes_ > 1 ? std::log(double(classes_)) : *first_loss_;
    if (told_ || !(loss > 10 * usual)) return std::nullopt;
    told_ = true;
    const std::string of = classes_ > 1 ? "guessing among " + std::to_string(classes_) + " classes has "
                                        : "round " + std::to_string(first_round_) + " had ";
    return "training diverges: the mean training loss of round " + std::to_string(round) + " is " +
           format_significant(loss, 4) + ", while " + of + format_significant(usual, 4) +
           "; lower --learning-rate or --client-learning-rate, or set --clip";
  }

 private:
  int64_t classes_;
  std::optional<double> first_loss_;
  int64_t first_round_ = 0;
  bool told_ = false;
};

}  // namespace pf2lora

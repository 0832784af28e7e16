#include "data/apportion.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

namespace pf2lora {
namespace {

constexpr double kExcluded = -std::numeric_limits<double>::infinity();

// exp(log_weights) over the classes that still have supply, scaled so that the largest is 1; empty when none
// has.
std::vector<double> open_weights(std::span<const double> log_weights, std::span<const int64_t> supply) {
  double largest = kExcluded;
  for (std::size_t c = 0; c < supply.size(); ++c)
    if (supply[c] > 0) largest = std::max(largest, log_weights[c]);
  if (largest == kExcluded) return {};
  std::vector<double> weights(supply.size());
  for (std::size_t c = 0; c < supply.size(); ++c)
    if (supply[c] > 0) weights[c] = std::exp(log_weights[c] - largest);
  return weights;
}

// Sizes of sets with given proportions, and what of each class is set aside for them: sum over the clients of
// given <= supply.
struct Sizes {
  std::vector<int64_t> size;  // [clients]
  Table<double> given;        // [clients, classes]
};

// The level L with sum over the growing clients k of min(share_k, L) * size_k = supply; infinity when all
// fit.
double common_level(const Table<double>& shares, int64_t c, const std::vector<int64_t>& growing,
                    const std::vector<int64_t>& size, double supply) {
  std::vector<std::pair<double, double>> users;  // share, size
  double demand = 0;
  double open = 0;  // sizes of those not yet found below the level
  for (const int64_t k : growing) {
    const double share = shares.row(k)[c];
    if (share == 0 || size[k] == 0) continue;
    users.emplace_back(share, static_cast<double>(size[k]));
    demand += share * users.back().second;
    open += users.back().second;
  }
  // Products of shares and sizes carry rounding; a demand that is over by less is not over.
  if (demand <= supply + 1e-9 * (1 + demand)) return std::numeric_limits<double>::infinity();
  std::sort(users.begin(), users.end());
  double left = std::max(supply, 0.0);
  for (const auto& [share, user_size] : users) {
    if (share * open >= left) break;
    left -= share * user_size;
    open -= user_size;
  }
  return std::max(left, 0.0) / open;
}

// Whether `size` examples in proportions `shares` differ by no more than the tolerance when there are only
// given[c] of class c.
bool fits(std::span<const double> shares, std::span<const double> given, int64_t size) {
  double changed = 0;
  for (std::size_t c = 0; c < shares.size(); ++c)
    changed += std::max(0.0, shares[c] * static_cast<double>(size) - given[c]);
  return changed <= kProportionTolerance * static_cast<double>(size) + 1e-9;
}

// Progressive filling (max-min fairness; Bertsekas, Gallager: Data networks. 1992, 6.5.2): all sets grow
// together, as parts of their targets, and a set stops where its proportions could no longer be kept.
Sizes grow_together(const Table<double>& shares, const std::vector<int64_t>& target,
                    std::span<const int64_t> supply, std::span<const int64_t> priority) {
  constexpr double kGrowth = 1.02;
  constexpr int kMostPasses = 1000;
  const int64_t classes = shares.classes();
  Sizes sizes{.size = {}, .given = Table<double>(shares.clients(), classes)};
  for (const int64_t own : target) sizes.size.push_back(std::min<int64_t>(own, 1));
  std::vector<int64_t> growing(priority.begin(), priority.end());
  std::vector<double> left(supply.begin(), supply.end());  // not set aside for a set that stopped growing
  const auto stop = [&](int64_t k) {
    for (int64_t c = 0; c < classes; ++c) left[c] -= sizes.given.row(k)[c];
  };

  // The first pass tries the targets themselves.
  const double largest =
      static_cast<double>(std::max<int64_t>(1, *std::max_element(target.begin(), target.end())));
  double part = 1;
  for (int pass = 0; pass < kMostPasses && !growing.empty(); ++pass) {
    std::vector<int64_t> wanted = sizes.size;
    for (const int64_t k : growing)
      wanted[k] =
          std::clamp(static_cast<int64_t>(part * static_cast<double>(target[k])), sizes.size[k], target[k]);
    Table<double> given(shares.clients(), classes);
    for (int64_t c = 0; c < classes; ++c) {
      const double level = common_level(shares, c, growing, wanted, left[c]);
      for (const int64_t k : growing)
        given.row(k)[c] = std::min(shares.row(k)[c], level) * static_cast<double>(wanted[k]);
    }
    const auto too_large = [&](int64_t k) { return !fits(shares.row(k), given.row(k), wanted[k]); };
    const auto first_too_large =
        std::stable_partition(growing.begin(), growing.end(), std::not_fn(too_large));
    if (first_too_large != growing.end()) {
      if (pass == 0) {
        part = 1 / largest;
        continue;
      }
      std::for_each(first_too_large, growing.end(), stop);
      growing.erase(first_too_large, growing.end());
      continue;
    }
    for (const int64_t k : growing) {
      sizes.size[k] = wanted[k];
      std::copy(given.row(k).begin(), given.row(k).end(), sizes.given.row(k).begin());
    }
    if (part >= 1) break;
    part = std::min(part * kGrowth, 1.0);
  }
  std::for_each(growing.begin(), growing.end(), stop);

  // The steps were coarse: what is left goes to those that can use it.
  for (const int64_t k : priority) {
    std::vector<double> most(sizes.given.row(k).begin(), sizes.given.row(k).end());
    for (int64_t c = 0; c < classes; ++c) most[c] += std::max(0.0, left[c]);
    int64_t low = sizes.size[k];
    int64_t high =
        target[k] + 1;  // the excess over the tolerance is convex in the size: what fits is an interval
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (fits(shares.row(k), most, middle) ? low : high) = middle;
    }
    sizes.size[k] = low;
    for (int64_t c = 0; c < classes; ++c) {
      const double use = std::min(most[c], shares.row(k)[c] * static_cast<double>(low));
      left[c] -= std::max(0.0, use - sizes.given.row(k)[c]);
      sizes.given.row(k)[c] = std::max(use, sizes.given.row(k)[c]);
    }
  }
  return sizes;
}

}  // namespace

int64_t sum(std::span<const int64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

std::vector<int64_t> largest_remainder(std::span<const double> weights, int64_t total) {
  double sum = 0;
  for (const double weight : weights) {
    if (!(weight >= 0) || !std::isfinite(weight))
      throw std::invalid_argument("a weight is not a finite number >= 0");
    sum += weight;
  }
  std::vector<int64_t> shares(weights.size());
  if (total <= 0) return shares;
  if (!(sum > 0) || !std::isfinite(sum))
    throw std::invalid_argument("cannot share out " + std::to_string(total) + " by weights that are all 0");
  struct Remainder {
    double size;
    std::size_t index;
  };
  std::vector<Remainder> remainders;
  int64_t left = total;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    const double exact = weights[i] / sum * static_cast<double>(total);
    shares[i] = std::min(left, static_cast<int64_t>(exact));
    left -= shares[i];
    remainders.push_back({exact - static_cast<double>(shares[i]), i});
  }
  std::stable_sort(remainders.begin(), remainders.end(),
                   [](const Remainder& a, const Remainder& b) { return a.size > b.size; });
  for (std::size_t i = 0; left > 0; i = (i + 1) % remainders.size(), --left) ++shares[remainders[i].index];
  return shares;
}

std::vector<int64_t> largest_remainder(std::span<const int64_t> weights, int64_t total) {
  return largest_remainder(std::vector<double>(weights.begin(), weights.end()), total);
}

std::vector<int64_t> capped_largest_remainder(std::span<const int64_t> weights, std::span<const int64_t> caps,
                                              int64_t total) {
  Table<double> log_weights(1, static_cast<int64_t>(weights.size()));
  for (std::size_t i = 0; i < weights.size(); ++i)
    log_weights.row(0)[i] = std::log(static_cast<double>(weights[i]));
  std::vector<int64_t> supply(caps.begin(), caps.end());
  const int64_t only = 0;
  const Filled filled = fill(log_weights, {total}, supply, std::span(&only, 1));
  if (filled.missing[0] > 0)
    throw std::invalid_argument(std::to_string(total) + " do not fit under caps that sum to " +
                                std::to_string(total - filled.missing[0]));
  return {filled.counts.row(0).begin(), filled.counts.row(0).end()};
}

Filled fill(const Table<double>& log_weights, std::vector<int64_t> need, std::vector<int64_t>& supply,
            std::span<const int64_t> priority) {
  const int64_t clients = log_weights.clients();
  const int64_t classes = log_weights.classes();
  Filled filled{.counts = Counts(clients, classes), .missing = {}};
  std::vector<int64_t> waiting(priority.begin(), priority.end());
  for (bool first_pass = true;; first_pass = false) {
    std::erase_if(
        waiting, [&](int64_t k) { return need[k] == 0 || open_weights(log_weights.row(k), supply).empty(); });
    if (waiting.empty()) break;
    Counts wanted(static_cast<int64_t>(waiting.size()), classes);  // rows in the order of `waiting`
    std::vector<int64_t> demand(classes);
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      const int64_t k = waiting[i];
      const std::vector<int64_t> shares =
          largest_remainder(open_weights(log_weights.row(k), supply), need[k]);
      std::copy(shares.begin(), shares.end(), wanted.row(i).begin());
      for (int64_t c = 0; c < classes; ++c) demand[c] += shares[c];
    }
    // Whoever is still waiting afterwards was cut in a class that is now empty, so the passes come to an end.
    for (int64_t c = 0; c < classes; ++c) {
      if (demand[c] <= supply[c]) continue;
      std::vector<int64_t> column(waiting.size());
      for (std::size_t i = 0; i < waiting.size(); ++i) column[i] = wanted.row(i)[c];
      column = largest_remainder(column, supply[c]);
      for (std::size_t i = 0; i < waiting.size(); ++i) wanted.row(i)[c] = column[i];
    }
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      const int64_t k = waiting[i];
      for (int64_t c = 0; c < classes; ++c) {
        const int64_t count = wanted.row(i)[c];
        filled.counts.row(k)[c] += count;
        supply[c] -= count;
        need[k] -= count;
        if (!first_pass) filled.moved += count;
      }
    }
  }
  filled.missing = std::move(need);
  return filled;
}

Filled fill_in_proportion(const Counts& model, const std::vector<int64_t>& target,
                          std::vector<int64_t>& supply, std::span<const int64_t> priority) {
  const int64_t clients = model.clients();
  const int64_t classes = model.classes();
  Table<double> shares(clients, classes);
  Table<double> log_shares(clients, classes);
  for (int64_t k = 0; k < clients; ++k) {
    int64_t sum = 0;
    for (int64_t c = 0; c < classes; ++c)
      if (supply[c] > 0) sum += model.row(k)[c];
    for (int64_t c = 0; c < classes; ++c) {
      if (supply[c] > 0 && sum > 0)
        shares.row(k)[c] = static_cast<double>(model.row(k)[c]) / static_cast<double>(sum);
      log_shares.row(k)[c] = std::log(shares.row(k)[c]);
    }
  }
  const Sizes sizes = grow_together(shares, target, supply, priority);

  const auto whole = [&](int64_t k, int64_t c) {
    const double wanted = shares.row(k)[c] * static_cast<double>(sizes.size[k]);
    // The small addend keeps 2.9999999999 from being taken for 2.
    return static_cast<int64_t>(std::min(wanted, sizes.given.row(k)[c]) + 1e-9);
  };
  // One example each for those too small for a whole one of any class, so that nobody is left with none while
  // others round up. Then the whole parts, which fit into the supply but for these. Then single examples,
  // largest remainder first.
  std::vector<int64_t> one(clients);
  for (int64_t k = 0; k < clients; ++k) {
    int64_t sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += whole(k, c);
    one[k] = sum == 0 ? sizes.size[k] > 0 : 0;
  }
  Filled filled = fill(log_shares, std::move(one), supply, priority);
  filled.missing = target;

  struct Remainder {
    double size;
    int64_t client;
    int64_t c;
  };
  std::vector<Remainder> remainders;
  std::vector<int64_t> need = sizes.size;
  for (const int64_t k : priority) {
    for (int64_t c = 0; c < classes; ++c) {
      const int64_t count = std::min(supply[c], whole(k, c));
      supply[c] -= count;
      filled.counts.row(k)[c] += count;
      need[k] -= filled.counts.row(k)[c];
      const double remainder = shares.row(k)[c] * static_cast<double>(sizes.size[k]) -
                               static_cast<double>(filled.counts.row(k)[c]);
      if (remainder > 1e-9) remainders.push_back({remainder, k, c});
    }
  }
  std::stable_sort(remainders.begin(), remainders.end(),
                   [](const Remainder& a, const Remainder& b) { return a.size > b.size; });
  for (const Remainder& r : remainders) {
    if (need[r.client] == 0 || supply[r.c] == 0) continue;
    ++filled.counts.row(r.client)[r.c];
    --supply[r.c];
    --need[r.client];
  }
  const Filled rest = fill(log_shares, std::move(need), supply, priority);
  filled.moved = 0;
  for (int64_t k = 0; k < clients; ++k) {
    const std::span<int64_t> counts = filled.counts.row(k);
    for (int64_t c = 0; c < classes; ++c) counts[c] += rest.counts.row(k)[c];
    const int64_t size = sum(counts);
    filled.missing[k] -= size;
    for (int64_t c = 0; c < classes; ++c) {
      const double rounded_up = std::ceil(shares.row(k)[c] * static_cast<double>(size) - 1e-9);
      filled.moved += std::max(int64_t{0}, counts[c] - static_cast<int64_t>(rounded_up));
    }
  }
  return filled;
}

}  // namespace pf2lora

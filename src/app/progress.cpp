#include "app/progress.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <ostream>
#include <vector>

#include "core/text.h"

namespace pf2lora {
namespace {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string quantity(const std::string& name, const std::optional<double>& accuracy,
                     const std::optional<double>& loss) {
  if (accuracy) return name + " " + format_percent(*accuracy);
  if (loss) return name + " loss " + format_significant(*loss, 4);
  return "";
}

// "loss 1.234", "common 66.1%", ...: what was measured, in the order in which a narrow terminal may drop it.
std::vector<std::string> describe(const RoundReport& report, bool with_evaluation) {
  std::vector<std::string> fields;
  if (!std::isnan(report.train_loss)) fields.push_back("loss " + format_significant(report.train_loss, 4));
  if (with_evaluation) {
    fields.push_back(quantity("common", report.common_accuracy, report.common_loss));
    fields.push_back(quantity("personal", report.personal_accuracy, report.personal_loss));
    fields.push_back(quantity("adapted", report.adapted_accuracy, std::nullopt));
    fields.push_back(quantity("held out", report.held_out_accuracy, report.held_out_loss));
  }
  fields.push_back(format_duration(report.seconds) + " a round");
  if (std::isfinite(report.seconds_left)) fields.push_back(format_duration(report.seconds_left) + " left");
  std::erase(fields, "");
  return fields;
}

std::string describe_plan(const RunPlan& plan) {
  std::string text =
      plan.algorithm + ", " + describe_rounds(plan) + ", " + format_count(plan.clients) + " clients";
  if (plan.clients_per_round < plan.clients - plan.held_out_clients) {
    text += " (" + format_count(plan.clients_per_round) + " a round)";
  }
  text += ", ranks: " + std::to_string(plan.ranks) + ", threads a rank: " + std::to_string(plan.threads);
  if (!plan.backend.empty()) text += ", " + plan.backend;
  return text;
}

class Lines : public Observer {
 public:
  Lines(std::ostream& out, std::function<double()> clock) : out_(out), clock_(std::move(clock)) {}

  void begin(const RunPlan& plan) override {
    plan_ = plan;
    out_ << describe_plan(plan) << std::endl;
  }

  void note(std::string_view message) override { out_ << message << std::endl; }

  void end_round(const RoundReport& report) override {
    const double now = clock_();
    const double pause = report.evaluated ? 1 : 10;
    const bool edge = report.round == plan_.first_round || report.round >= plan_.rounds;
    if (!edge && now - last_line_ < pause) {
      unprinted_ = report;
      return;
    }
    print(report);
    last_line_ = now;
  }

  // A run that was stopped early has a last round that nobody foresaw.
  void end(const RunSummary&) override {
    if (unprinted_) print(*unprinted_);
  }

 private:
  void print(const RoundReport& report) {
    const std::string total = std::to_string(plan_.rounds);
    std::string round = std::to_string(report.round);
    round.insert(0, total.size() - std::min(total.size(), round.size()), ' ');
    out_ << "round " << round << '/' << total << "  " << join(describe(report, report.evaluated), "  ")
         << std::endl;
    unprinted_.reset();
  }

  std::ostream& out_;
  std::function<double()> clock_;
  RunPlan plan_;
  double last_line_ = -std::numeric_limits<double>::infinity();
  std::optional<RoundReport> unprinted_;
};

class Bar : public Observer {
 public:
  Bar(std::ostream& out, std::function<double()> clock, int64_t columns)
      : out_(out),
        clock_(std::move(clock)),
        columns_(static_cast<std::size_t>(std::max<int64_t>(columns, 20))) {}

  ~Bar() override { leave_line(); }

  void begin(const RunPlan& plan) override {
    plan_ = plan;
    rounds_done_ = static_cast<double>(plan.first_round - 1);
    out_ << describe_plan(plan) << '\n';
    draw();
  }

  void note(std::string_view message) override {
    if (drawn_) out_ << "\r\x1b[K";
    out_ << message << '\n';
    draw();
  }

  void group_done(const GroupProgress& progress) override {
    if (progress.total <= 0) return;
    const double share = static_cast<double>(progress.done) / static_cast<double>(progress.total);
    rounds_done_ = static_cast<double>(progress.round - 1) + share;
    draw_if_due();
  }

  void end_round(const RoundReport& report) override {
    last_ = report;
    rounds_done_ = static_cast<double>(report.round);
    if (report.round >= plan_.rounds) {
      draw();
    } else {
      draw_if_due();
    }
  }

  void end(const RunSummary&) override {
    draw();
    leave_line();
  }

 private:
  void draw_if_due() {
    if (clock_() - last_drawn_ >= 0.1) draw();
  }

  void draw() {
    const double share =
        plan_.rounds > 0 ? std::clamp(rounds_done_ / static_cast<double>(plan_.rounds), 0.0, 1.0) : 1;
    const std::string head = std::to_string(last_ ? last_->round : plan_.first_round - 1) + "/" +
                             std::to_string(plan_.rounds) + " " +
                             std::to_string(static_cast<int>(share * 100)) + "%";
    std::vector<std::string> fields =
        last_ ? describe(*last_, /*with_evaluation=*/true) : std::vector<std::string>();
    // The last column stays empty: some terminals break the line when it is written.
    const auto text_width = [&] {
      return head.size() + (fields.empty() ? 0 : 2) + join(fields, "  ").size();
    };
    while (!fields.empty() && text_width() + narrowest_bar + 3 > columns_ - 1) drop_least(fields);
    const std::size_t room = columns_ - 1 - std::min(columns_ - 1, text_width() + 3);
    const std::size_t width = std::min(room, widest_bar);
    const auto filled = static_cast<std::size_t>(share * static_cast<double>(width));
    std::string line =
        width == 0 ? "" : "[" + std::string(filled, '#') + std::string(width - filled, '.') + "] ";
    line += head;
    if (!fields.empty()) line += "  " + join(fields, "  ");
    out_ << '\r' << line.substr(0, columns_ - 1) << "\x1b[K" << std::flush;
    drawn_ = true;
    last_drawn_ = clock_();
  }

  // The time a round goes first, then what stands last but for the time left.
  static void drop_least(std::vector<std::string>& fields) {
    const auto time =
        std::ranges::find_if(fields, [](const auto& field) { return field.ends_with(" a round"); });
    if (time != fields.end()) {
      fields.erase(time);
    } else {
      const bool keep_last = fields.size() > 1 && fields.back().ends_with(" left");
      fields.erase(fields.end() - (keep_last ? 2 : 1));
    }
  }

  void leave_line() {
    if (drawn_) out_ << std::endl;
    drawn_ = false;
  }

  static constexpr std::size_t narrowest_bar = 8, widest_bar = 30;

  std::ostream& out_;
  std::function<double()> clock_;
  std::size_t columns_;
  RunPlan plan_;
  std::optional<RoundReport> last_;
  double rounds_done_ = 0;
  double last_drawn_ = -std::numeric_limits<double>::infinity();
  bool drawn_ = false;
};

}  // namespace

std::unique_ptr<Observer> make_progress(const ProgressStyle& style, std::ostream& out,
                                        std::function<double()> clock) {
  if (!clock) clock = steady_seconds;
  switch (style.form) {
    case ProgressStyle::Form::bar:
      return std::make_unique<Bar>(out, std::move(clock), style.columns);
    case ProgressStyle::Form::lines:
      return std::make_unique<Lines>(out, std::move(clock));
    case ProgressStyle::Form::off:
      break;
  }
  return std::make_unique<Observer>();
}

}  // namespace pf2lora

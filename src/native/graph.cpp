#include "native/graph.h"

#include <algorithm>

#include "core/profile.h"

namespace pf2lora::native {

template <class T>
Destination<T> Operation<T>::destination(std::vector<Numbers<T>>& of, Pass<T>& pass, size_t i,
                                         int64_t count) const {
  Numbers<T>& there = of[size_t(inputs[i])];
  if (there == nullptr) {
    there = pass.take(count);
    return {there.get(), false};
  }
  if (there.use_count() > 1) {
    Numbers<T> own = pass.take(count);
    std::copy_n(there.get(), count, own.get());
    there = std::move(own);
  }
  return {there.get(), true};
}

template <class T>
void Operation<T>::add(std::vector<Numbers<T>>& of, Pass<T>& pass, size_t i, const Numbers<T>& numbers,
                       int64_t count) const {
  Numbers<T>& there = of[size_t(inputs[i])];
  if (there == nullptr) {
    there = numbers;
    return;
  }
  T* sum = destination(of, pass, i, count).data;
  pass.kernels.add(count, sum, numbers.get(), sum);
}

template <class T>
ValueId Graph<T>::input(Per per, int64_t width) {
  places_.push_back({nullptr, per, width, false});
  return ValueId(places_.size()) - 1;
}

template <class T>
ValueId Graph<T>::add(std::unique_ptr<Operation<T>> operation, std::vector<ValueId> inputs, Per per,
                      int64_t width) {
  const ValueId id = ValueId(places_.size());
  bool active = operation->adapted();
  for (ValueId input : inputs) {
    active = active || places_[size_t(input)].active;
    operation->input_is_active.push_back(places_[size_t(input)].active);
  }
  for (ValueId input : inputs) {
    Place& place = places_[size_t(input)];
    place.last_reader = id;
    place.value_is_reread = place.value_is_reread || (active && operation->rereads_inputs());
    place.tangent_is_reread = place.tangent_is_reread || operation->rereads_tangents();
  }
  operation->id = id;
  operation->inputs = std::move(inputs);
  operation->per = per;
  operation->width = width;
  operation->active = active;
  places_.push_back({std::move(operation), per, width, active});
  return id;
}

template <class T>
void Graph<T>::prepare(Pass<T>& pass) const {
  for (auto* numbers : {&pass.value, &pass.gradient, &pass.tangent, &pass.gradient_tangent})
    numbers->resize(places_.size());
  pass.kept.resize(places_.size());
}

template <class T>
void Graph<T>::value(Pass<T>& pass, std::span<const ValueId> read) const {
  const auto is_read = [&](ValueId id) { return std::find(read.begin(), read.end(), id) != read.end(); };
  const ValueId last = *std::max_element(read.begin(), read.end());
  for (ValueId id = 0; id <= last; ++id) {
    const Place& place = places_[size_t(id)];
    if (place.operation == nullptr) continue;
    const Operation<T>& operation = *place.operation;
    const auto ends = [&](ValueId input) {
      const Place& source = places_[size_t(input)];
      return source.last_reader == id && !is_read(input) &&
             (pass.reach == Reach::value || !source.value_is_reread);
    };
    if (operation.overwrites() && ends(operation.inputs[0]))
      pass.value[size_t(id)] = pass.value[size_t(operation.inputs[0])];
    {
      const ProfileSpan span("value", operation.name());
      operation.value(pass);
    }
    if (pass.reach == Reach::value || !place.active) pass.kept[size_t(id)].clear();
    for (ValueId input : operation.inputs)
      if (ends(input)) pass.value[size_t(input)].reset();
  }
}

template <class T>
void Graph<T>::gradient(Pass<T>& pass) const {
  for (auto place = places_.rbegin(); place != places_.rend(); ++place) {
    if (!place->active) continue;
    const Operation<T>& operation = *place->operation;
    {
      const ProfileSpan span("gradient", operation.name());
      operation.gradient(pass);
    }
    if (pass.reach != Reach::tangent || !operation.rereads_gradient())
      pass.gradient[size_t(operation.id)].reset();
  }
}

template <class T>
void Graph<T>::tangent(Pass<T>& pass) const {
  for (const Place& place : places_) {
    if (!place.active) continue;
    const Operation<T>& operation = *place.operation;
    {
      const ProfileSpan span("tangent", operation.name());
      operation.tangent(pass);
    }
    for (ValueId input : operation.inputs) {
      const Place& source = places_[size_t(input)];
      if (source.last_reader == operation.id && !source.tangent_is_reread)
        pass.tangent[size_t(input)].reset();
    }
  }
}

template <class T>
void Graph<T>::gradient_tangent(Pass<T>& pass) const {
  for (auto place = places_.rbegin(); place != places_.rend(); ++place) {
    if (!place->active) continue;
    {
      const ProfileSpan span("gradient tangent", place->operation->name());
      place->operation->gradient_tangent(pass);
    }
    pass.gradient_tangent[size_t(place->operation->id)].reset();
  }
}

template class Operation<float>;
template class Operation<double>;
template class Graph<float>;
template class Graph<double>;

}  // namespace pf2lora::native

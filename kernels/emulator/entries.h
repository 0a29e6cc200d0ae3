/* The kernels that this library was built with, by name. */
#ifndef SENTEI_ENTRIES_H
#define SENTEI_ENTRIES_H

#include <functional>
#include <tuple>
#include <utility>
#include <vector>

struct Entry {
    const char *name;
    /* The kernel with a copy of its parameters, which come as addresses, as cuLaunchKernel takes them. */
    std::function<void()> (*bind)(void **parameters);
};

extern const std::vector<Entry> entries;

/* For each kernel file: adds its entries to a list. */
using Register = void(std::vector<Entry> &);

template <auto kernel> struct Binder;

template <class... Parameters, void (*kernel)(Parameters...)> struct Binder<kernel> {
    static std::function<void()> bind(void **parameters) {
        return bind(parameters, std::index_sequence_for<Parameters...>());
    }

  private:
    template <size_t... I> static std::function<void()> bind(void **parameters, std::index_sequence<I...>) {
        std::tuple<Parameters...> copies(*static_cast<Parameters *>(parameters[I])...);
        return [copies] { std::apply(kernel, copies); };
    }
};

#endif

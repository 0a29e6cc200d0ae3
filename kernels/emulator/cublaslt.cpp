/* cuBLASLt for tests: libcublasLt.so.13 with the functions that the backend calls, beside the emulated driver. It computes fp32
 * products in the emulated streams, and is stricter than the real one:
 *
 * - Layouts, attributes and sizes must fit each other exactly; a leading dimension, an alignment or a workspace that was
 *   promised is held against the memory that comes.
 * - No algorithm is chosen while a stream captures, which some versions refuse.
 * - c is not read unless it is added to.
 *
 * Environment: SENTEI_EMULATED_FAILURE as in driver.cpp, with a cublasStatus_t; of "no algorithm", a heuristic finds none.
 *
 * sentei_emulated_blas_count says how many products ran and what is open. */
#include "driver.h"

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <set>

namespace {

using Status = int;

enum { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, INTERNAL_ERROR = 14, NOT_SUPPORTED = 15 };
enum { COMPUTE_32F = 68, REAL_32F = 0 };
enum { OPERATION_TRANSPOSE_A = 3, OPERATION_TRANSPOSE_B = 4, OPERATION_EPILOGUE = 7, OPERATION_BIAS = 8 };
enum { EPILOGUE_NONE = 1, EPILOGUE_BIAS = 4 };
enum { PREFERENCE_WORKSPACE = 1, PREFERENCE_ALIGNMENT_A = 5, PREFERENCE_ALIGNMENT_D = 8 };
enum { OPERANDS = 4, MAGIC = 0x5e47e1 };

struct Handle {};

struct Operation {
    int32_t transpose_a = 0, transpose_b = 0, epilogue = EPILOGUE_NONE;
    uint64_t bias = 0;
};

struct Layout {
    uint64_t rows, cols;
    int64_t leading;

    uint64_t bytes() const { return ((cols - 1) * static_cast<uint64_t>(leading) + rows) * sizeof(float); }
};

struct Preference {
    uint64_t workspace = 0;
    uint32_t alignment[OPERANDS] = {256, 256, 256, 256}; /* as the real one takes for granted */
};

struct Algorithm { /* cublasLtMatmulAlgo_t */
    uint64_t magic, workspace, rows, cols, depth;
    uint32_t alignment[OPERANDS];
    uint64_t reserved;
};

struct Result { /* cublasLtMatmulHeuristicResult_t */
    Algorithm algorithm;
    size_t workspace;
    Status state;
    float waves;
    int reserved[4];
};

static_assert(sizeof(Algorithm) == 64 && sizeof(Result) == 96 && offsetof(Result, workspace) == 64 &&
              offsetof(Result, state) == 72);

std::recursive_mutex lock;
uint64_t products;
std::set<Handle *> handles;
std::set<Operation *> operations;
std::set<Layout *> layouts;
std::set<Preference *> preferences;

Status wrong(const char *what) {
    std::fprintf(stderr, "emulated cuBLASLt: %s\n", what);
    return INVALID_VALUE;
}

#define ENTER(function)                                                                                                \
    std::lock_guard<std::recursive_mutex> guard(lock);                                                                 \
    if (const Status planned = sentei_emulated_planned(function)) {                                                    \
        return planned;                                                                                                \
    }                                                                                                                  \
    if (!sentei_emulated_ready()) {                                                                                    \
        return NOT_INITIALIZED;                                                                                        \
    }

template <class T> Status destroy(std::set<T *> &all, T *one) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (all.erase(one) == 0) {
        return wrong("what is destroyed does not exist");
    }
    delete one;
    return SUCCESS;
}

template <class T> Status assign(T &to, const void *from, size_t bytes) {
    if (from == nullptr || bytes != sizeof to) {
        return wrong("an attribute has another size");
    }
    std::memcpy(&to, from, sizeof to);
    return SUCCESS;
}

/* Rows and columns of a product, or a complaint. */
Status shapes(const Operation &operation, const Layout &a, const Layout &b, const Layout &c, const Layout &d, Algorithm &algorithm) {
    if (operation.transpose_b != 0) {
        return wrong("the second operand is transposed, which the backend has no use for");
    }
    algorithm.rows = operation.transpose_a ? a.cols : a.rows;
    algorithm.depth = operation.transpose_a ? a.rows : a.cols;
    algorithm.cols = b.cols;
    if (b.rows != algorithm.depth || c.rows != algorithm.rows || c.cols != algorithm.cols || d.rows != c.rows ||
        d.cols != c.cols || d.leading != c.leading) {
        return wrong("the layouts do not fit each other");
    }
    return SUCCESS;
}

} // namespace

extern "C" {

size_t cublasLtGetVersion(void) { return 130002; }

Status cublasLtCreate(Handle **handle) {
    ENTER("cublasLtCreate");
    handles.insert(*handle = new Handle);
    return SUCCESS;
}

Status cublasLtDestroy(Handle *handle) { return destroy(handles, handle); }

Status cublasLtMatmulDescCreate(Operation **operation, int compute, int scale) {
    ENTER("cublasLtMatmulDescCreate");
    if (compute != COMPUTE_32F || scale != REAL_32F) {
        return NOT_SUPPORTED;
    }
    operations.insert(*operation = new Operation);
    return SUCCESS;
}

Status cublasLtMatmulDescDestroy(Operation *operation) { return destroy(operations, operation); }

Status cublasLtMatmulDescSetAttribute(Operation *operation, int attribute, const void *value, size_t bytes) {
    ENTER("cublasLtMatmulDescSetAttribute");
    if (operations.count(operation) == 0) {
        return wrong("no such operation");
    }
    switch (attribute) {
    case OPERATION_TRANSPOSE_A: return assign(operation->transpose_a, value, bytes);
    case OPERATION_TRANSPOSE_B: return assign(operation->transpose_b, value, bytes);
    case OPERATION_EPILOGUE: return assign(operation->epilogue, value, bytes);
    case OPERATION_BIAS: return assign(operation->bias, value, bytes);
    default: return wrong("no such attribute of an operation");
    }
}

Status cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t cols, int64_t leading) {
    ENTER("cublasLtMatrixLayoutCreate");
    if (type != REAL_32F) {
        return NOT_SUPPORTED;
    }
    if (rows == 0 || cols == 0 || leading < 0 || static_cast<uint64_t>(leading) < rows) {
        return wrong("a layout is empty, or its columns overlap");
    }
    layouts.insert(*layout = new Layout{rows, cols, leading});
    return SUCCESS;
}

Status cublasLtMatrixLayoutDestroy(Layout *layout) { return destroy(layouts, layout); }

Status cublasLtMatmulPreferenceCreate(Preference **preference) {
    ENTER("cublasLtMatmulPreferenceCreate");
    preferences.insert(*preference = new Preference);
    return SUCCESS;
}

Status cublasLtMatmulPreferenceDestroy(Preference *preference) { return destroy(preferences, preference); }

Status cublasLtMatmulPreferenceSetAttribute(Preference *preference, int attribute, const void *value, size_t bytes) {
    ENTER("cublasLtMatmulPreferenceSetAttribute");
    if (preferences.count(preference) == 0) {
        return wrong("no such preference");
    }
    if (attribute == PREFERENCE_WORKSPACE) {
        return assign(preference->workspace, value, bytes);
    }
    return attribute >= PREFERENCE_ALIGNMENT_A && attribute <= PREFERENCE_ALIGNMENT_D
               ? assign(preference->alignment[attribute - PREFERENCE_ALIGNMENT_A], value, bytes)
               : wrong("no such attribute of a preference");
}

Status cublasLtMatmulAlgoGetHeuristic(Handle *handle, Operation *operation, Layout *a, Layout *b, Layout *c, Layout *d,
                                      Preference *preference, int wanted, Result *results, int *found) {
    ENTER("cublasLtMatmulAlgoGetHeuristic");
    if (sentei_emulated_capturing()) {
        return INTERNAL_ERROR;
    }
    if (handles.count(handle) == 0 || operations.count(operation) == 0 || layouts.count(a) == 0 ||
        layouts.count(b) == 0 || layouts.count(c) == 0 || layouts.count(d) == 0 || preferences.count(preference) == 0 ||
        wanted < 1 || found == nullptr) {
        return wrong("the heuristic is asked about what does not exist");
    }
    *found = 0;
    if (sentei_emulated_planned("no algorithm")) {
        return SUCCESS;
    }
    if (operation->epilogue == EPILOGUE_BIAS && operation->bias == 0) {
        return wrong("the epilogue has no bias");
    }
    Result result = {};
    if (const Status status = shapes(*operation, *a, *b, *c, *d, result.algorithm)) {
        return status;
    }
    for (int i = 0; i < OPERANDS; i++) {
        const uint32_t alignment = preference->alignment[i];
        if (alignment < sizeof(float) || (alignment & (alignment - 1)) != 0) {
            return wrong("an alignment is no power of two, or below that of a float");
        }
        result.algorithm.alignment[i] = alignment;
    }
    result.algorithm.magic = MAGIC;
    /* Like the real one's split sums: nothing for little work, otherwise all that it may have. */
    result.algorithm.workspace = result.workspace = result.algorithm.depth < 64 ? 0 : preference->workspace;
    result.waves = 1;
    *results = result;
    *found = 1;
    return SUCCESS;
}

Status cublasLtMatmul(Handle *handle, Operation *operation, const float *alpha, uint64_t a, Layout *a_layout, uint64_t b,
                      Layout *b_layout, const float *beta, uint64_t c, Layout *c_layout, uint64_t d, Layout *d_layout,
                      const Algorithm *algorithm, uint64_t workspace, size_t workspace_bytes, void *stream) {
    ENTER("cublasLtMatmul");
    if (handles.count(handle) == 0 || operations.count(operation) == 0 || layouts.count(a_layout) == 0 ||
        layouts.count(b_layout) == 0 || layouts.count(c_layout) == 0 || layouts.count(d_layout) == 0) {
        return wrong("a product of what does not exist");
    }
    Algorithm now = {};
    if (const Status status = shapes(*operation, *a_layout, *b_layout, *c_layout, *d_layout, now)) {
        return status;
    }
    if (algorithm == nullptr || algorithm->magic != MAGIC || algorithm->rows != now.rows || algorithm->cols != now.cols ||
        algorithm->depth != now.depth) {
        return wrong("the algorithm was not chosen for this product");
    }
    const uint64_t matrices[OPERANDS] = {a, b, c, d};
    const Layout *of[OPERANDS] = {a_layout, b_layout, c_layout, d_layout};
    for (int i = 0; i < OPERANDS; i++) {
        if (matrices[i] % algorithm->alignment[i] != 0 || !sentei_emulated_holds(matrices[i], of[i]->bytes())) {
            return wrong("a matrix is not aligned as promised, or not memory of the device");
        }
    }
    if (c != d || workspace % 256 != 0 || workspace_bytes < algorithm->workspace ||
        (algorithm->workspace > 0 && !sentei_emulated_holds(workspace, algorithm->workspace))) {
        return wrong("the workspace is not aligned, too small, or not memory of the device");
    }
    const bool biased = operation->epilogue == EPILOGUE_BIAS;
    if (biased && !sentei_emulated_holds(operation->bias, now.rows * sizeof(float))) {
        return wrong("the bias is not memory of the device");
    }
    const float *x = reinterpret_cast<const float *>(a), *y = reinterpret_cast<const float *>(b);
    const float *bias = biased ? reinterpret_cast<const float *>(operation->bias) : nullptr;
    float *to = reinterpret_cast<float *>(d), *scratch = reinterpret_cast<float *>(workspace);
    const bool transposed = operation->transpose_a != 0, uses_workspace = algorithm->workspace >= sizeof(float);
    const float scale = *alpha, kept = *beta; /* as they are now: the real one copies them too */
    const int64_t a_leading = a_layout->leading, b_leading = b_layout->leading, d_leading = d_layout->leading;
    const auto work = [=] {
        products++;
        for (uint64_t col = 0; col < now.cols; col++) {
            for (uint64_t row = 0; row < now.rows; row++) {
                float sum = 0;
                for (uint64_t k = 0; k < now.depth; k++) {
                    const uint64_t at = transposed ? k + row * a_leading : row + k * a_leading;
                    sum = std::fma(x[at], y[k + col * b_leading], sum);
                }
                if (uses_workspace) {
                    *scratch = sum;
                }
                float &place = to[row + col * d_leading];
                const float before = kept == 0 ? 0 : kept * place;
                place = scale * sum + before + (bias == nullptr ? 0 : bias[row]);
            }
        }
    };
    return sentei_emulated_submit(stream, work) == 0 ? SUCCESS : EXECUTION_FAILED;
}

/* For tests: 0 products that ran, 1 handles, operations, layouts and preferences that are open. */
uint64_t sentei_emulated_blas_count(int kind) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return kind == 0 ? products : handles.size() + operations.size() + layouts.size() + preferences.size();
}

} // extern "C"

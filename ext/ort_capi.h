/* ONNX Runtime's C interface, as much of it as a forecast needs.
 *
 * `OrtApi` is a table of functions that only ever grows at its end, so positions and signatures of a version hold
 * in every later one; those below are of version 20 and older. A function returns NULL, or a status that the caller
 * must release. The library is opened at run time: its header is not needed to build, nor the library to start.
 */
#ifndef ANYTICK_ORT_CAPI_H
#define ANYTICK_ORT_CAPI_H

#include <stddef.h>
#include <stdint.h>

enum { ORT_API_VERSION = 20 };

enum {
    ORT_GET_ERROR_MESSAGE = 2,
    ORT_CREATE_ENV = 3,
    ORT_CREATE_SESSION_FROM_ARRAY = 8,
    ORT_RUN = 9,
    ORT_CREATE_SESSION_OPTIONS = 10,
    ORT_DISABLE_CPU_MEM_ARENA = 19,
    ORT_SET_SESSION_LOG_SEVERITY_LEVEL = 22,
    ORT_SET_SESSION_GRAPH_OPTIMIZATION_LEVEL = 23,
    ORT_SET_INTRA_OP_NUM_THREADS = 24,
    ORT_SET_INTER_OP_NUM_THREADS = 25,
    ORT_CREATE_RUN_OPTIONS = 39,
    ORT_RUN_OPTIONS_SET_TERMINATE = 46,
    ORT_RUN_OPTIONS_UNSET_TERMINATE = 47,
    ORT_CREATE_TENSOR_WITH_DATA = 49,
    ORT_CREATE_CPU_MEMORY_INFO = 69,
    ORT_RELEASE_STATUS = 93,
    ORT_RELEASE_MEMORY_INFO = 94,
    ORT_RELEASE_SESSION = 95,
    ORT_RELEASE_VALUE = 96,
    ORT_RELEASE_RUN_OPTIONS = 97,
    ORT_RELEASE_SESSION_OPTIONS = 100
};

enum { ORT_FATAL = 4, ORT_OPTIMIZE_ALL = 99, ORT_DEVICE_ALLOCATOR = 0, ORT_DEFAULT_MEMORY = 0, ORT_FLOAT = 1 };

typedef void (*OrtFunction)(void);
typedef const OrtFunction* OrtTable;
typedef void OrtObject; /* status, environment, session, options, value, memory info */

typedef struct {
    OrtTable (*get_api)(uint32_t version);
    const char* (*get_version)(void);
} OrtBase;
typedef const OrtBase* (*OrtGetBase)(void);

static inline const char* ort_message(OrtTable api, const OrtObject* status) {
    return ((const char* (*)(const OrtObject*))api[ORT_GET_ERROR_MESSAGE])(status);
}

static inline void ort_release(OrtTable api, int slot, OrtObject* object) {
    ((void (*)(OrtObject*))api[slot])(object);
}

static inline OrtObject* ort_create_env(OrtTable api, const char* name, OrtObject** out) {
    return ((OrtObject* (*)(int, const char*, OrtObject**))api[ORT_CREATE_ENV])(ORT_FATAL, name, out);
}

/* CREATE_SESSION_OPTIONS, CREATE_RUN_OPTIONS */
static inline OrtObject* ort_create(OrtTable api, int slot, OrtObject** out) {
    return ((OrtObject* (*)(OrtObject**))api[slot])(out);
}

/* DISABLE_CPU_MEM_ARENA, RUN_OPTIONS_SET_TERMINATE, RUN_OPTIONS_UNSET_TERMINATE */
static inline OrtObject* ort_apply(OrtTable api, int slot, OrtObject* object) {
    return ((OrtObject* (*)(OrtObject*))api[slot])(object);
}

/* The SET_ functions above that take a number. */
static inline OrtObject* ort_set(OrtTable api, int slot, OrtObject* options, int value) {
    return ((OrtObject* (*)(OrtObject*, int))api[slot])(options, value);
}

static inline OrtObject* ort_create_session(
    OrtTable api, const OrtObject* env, const void* model, size_t model_bytes, const OrtObject* options,
    OrtObject** out
) {
    typedef OrtObject* (*Function)(const OrtObject*, const void*, size_t, const OrtObject*, OrtObject**);
    return ((Function)api[ORT_CREATE_SESSION_FROM_ARRAY])(env, model, model_bytes, options, out);
}

static inline OrtObject* ort_create_cpu_memory_info(OrtTable api, OrtObject** out) {
    typedef OrtObject* (*Function)(int, int, OrtObject**);
    return ((Function)api[ORT_CREATE_CPU_MEMORY_INFO])(ORT_DEVICE_ALLOCATOR, ORT_DEFAULT_MEMORY, out);
}

/* A tensor of floats over memory that stays the caller's. */
static inline OrtObject* ort_create_tensor(
    OrtTable api, const OrtObject* memory, float* data, size_t data_bytes, const int64_t* shape, size_t rank,
    OrtObject** out
) {
    typedef OrtObject* (*Function)(const OrtObject*, void*, size_t, const int64_t*, size_t, int, OrtObject**);
    return ((Function)api[ORT_CREATE_TENSOR_WITH_DATA])(memory, data, data_bytes, shape, rank, ORT_FLOAT, out);
}

/* One input, one output, both made before. */
static inline OrtObject* ort_run(
    OrtTable api, OrtObject* session, const OrtObject* options, const char* input_name, const OrtObject* input,
    const char* output_name, OrtObject* output
) {
    typedef OrtObject* (*Function)(
        OrtObject*, const OrtObject*, const char* const*, const OrtObject* const*, size_t, const char* const*,
        size_t, OrtObject**);
    return ((Function)api[ORT_RUN])(session, options, &input_name, &input, 1, &output_name, 1, &output);
}

#endif

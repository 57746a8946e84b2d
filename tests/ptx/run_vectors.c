/* Runs the test vectors through a libcuda.so.1: the stand-in's, to test the PTX machine; a real
 * one's, to test the vectors and to record what that GPU answers.
 *
 *     run_vectors LIBRARY DIRECTORY [record]
 *
 * NAME.ptx has kernels; NAME.txt, which vectors/derive.py writes, has their inputs and what the
 * PTX ISA says must come out; NAME.recorded, which `record` writes, has what a GPU answered. Each
 * case runs in a process of its own, so that one that goes wrong spoils no other. */

#include "cuda/driver_api.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS_MAX = 16384, NAME_MAX_BYTES = 64, CASES_MAX = 64, CASE_SECONDS = 60 };

/* Words as they lie in the file. */
struct words {
    uint32_t *at;
    size_t count;
};

struct vector {
    char name[NAME_MAX_BYTES];
    unsigned threads;
    struct words in, low, out, recorded; /* low: only of kind f32, else empty */
};

/* What a child hands back. */
struct answer {
    char fault[512]; /* empty: it ran */
    char device[128];
    int driver;
    uint32_t words[WORDS_MAX];
};

_Noreturn static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

// --- files -------------------------------------------------------------------------------------

/* NULL: there is none. */
static char *file_read(const char *directory, const char *name, const char *suffix) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s%s", directory, name, suffix);
    FILE *file = fopen(path, "r");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    const long length = ftell(file);
    rewind(file);
    char *text = calloc(1, (size_t)length + 1);
    if (!text || fread(text, 1, (size_t)length, file) != (size_t)length)
        fail("cannot read %s", path);
    fclose(file);
    return text;
}

static bool line_is_hexadecimal(const char *line) {
    return strspn(line, "0123456789abcdef") == 8;
}

/* Reads lines of words from *rest on. */
static struct words words_read(char **rest) {
    struct words words = {calloc(WORDS_MAX, sizeof(uint32_t)), 0};
    for (char *line = *rest; line && line_is_hexadecimal(line); line = *rest) {
        char *end = strchr(line, '\n');
        if (!end) fail("the last line has no end");
        for (char *at = line; at < end && words.count < WORDS_MAX;) {
            words.at[words.count++] = (uint32_t)strtoul(at, &at, 16);
            while (at < end && *at == ' ') at++;
        }
        *rest = end + 1;
    }
    return words;
}

static char *line_next(char **rest) {
    char *line = *rest, *end = strchr(line, '\n');
    if (!*line) return NULL;
    *rest = end ? end + 1 : line + strlen(line);
    if (end) *end = 0;
    return line;
}

static size_t vectors_read(const char *file, char *text, struct vector *vectors) {
    size_t count = 0;
    struct vector *v = NULL;
    size_t inputs = 0, outputs = 0;
    for (char *rest = text, *line; (line = line_next(&rest));) {
        if (strncmp(line, "case ", 5) == 0) {
            if (count == CASES_MAX) fail("%s: more than %d cases", file, CASES_MAX);
            v = &vectors[count++];
            memset(v, 0, sizeof *v);
            if (sscanf(line, "case %63s %u %zu %zu", v->name, &v->threads, &inputs, &outputs) != 4)
                fail("%s: %s", file, line);
            if (inputs > WORDS_MAX || outputs > WORDS_MAX) fail("%s: %s is too large", file, line);
        } else if (v && strcmp(line, "in") == 0) {
            v->in = words_read(&rest);
        } else if (v && strcmp(line, "low") == 0) {
            v->low = words_read(&rest);
        } else if (v && (strcmp(line, "out") == 0 || strcmp(line, "high") == 0)) {
            v->out = words_read(&rest);
            if (v->in.count != inputs || v->out.count != outputs ||
                (v->low.count && v->low.count != outputs))
                fail("%s: %s has the wrong number of words", file, v->name);
        } else if (*line && *line != '#') {
            fail("%s: '%s' is not understood", file, line);
        }
    }
    return count;
}

/* Of cases that are still there. */
static void recorded_read(char *text, struct vector *vectors, size_t count) {
    for (char *rest = text, *line; (line = line_next(&rest));) {
        if (strncmp(line, "case ", 5) != 0) continue;
        const struct words words = words_read(&rest);
        for (size_t i = 0; i < count; i++)
            if (strcmp(vectors[i].name, line + 5) == 0 && words.count == vectors[i].out.count)
                vectors[i].recorded = words;
    }
}

// --- the driver --------------------------------------------------------------------------------

static const char *library_path;

/* In a child: what fails goes to the answer. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        const int result_ = (call);                                                                \
        if (result_) {                                                                             \
            snprintf(answer->fault, sizeof answer->fault, "%s: error %d %s", #call, result_, log); \
            return;                                                                                \
        }                                                                                          \
    } while (0)

static void kernel_run(const struct vector *v, const char *ptx, struct answer *answer) {
    struct cuda_api api;
    char log[256] = "";
    void *library = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(answer->fault, sizeof answer->fault, "%s", dlerror());
        return;
    }
#define LOAD(name, version, parameters)                                                            \
    do {                                                                                           \
        void *symbol = dlsym(library, #name);                                                      \
        memcpy(&api.name, &symbol, sizeof symbol);                                                 \
    } while (0);
    CUDA_CALLS(LOAD)
#undef LOAD
    struct cu_context *context;
    struct cu_module *module;
    struct cu_function *function;
    uint64_t in, out;
    int options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)sizeof log};
    void *parameters[] = {&in, &out};
    const size_t in_bytes = v->in.count * 4, out_bytes = v->out.count * 4;
    TRY(api.cuInit(0));
    TRY(api.cuDriverGetVersion(&answer->driver));
    TRY(api.cuDeviceGetName(answer->device, sizeof answer->device, 0));
    TRY(api.cuDevicePrimaryCtxRetain(&context, 0));
    TRY(api.cuCtxSetCurrent(context));
    TRY(api.cuModuleLoadDataEx(&module, ptx, 2, options, values));
    TRY(api.cuModuleGetFunction(&function, module, v->name));
    TRY(api.cuMemAlloc_v2(&in, in_bytes));
    TRY(api.cuMemAlloc_v2(&out, out_bytes));
    TRY(api.cuMemcpyHtoD_v2(in, v->in.at, in_bytes));
    TRY(api.cuMemsetD8Async(out, 0, out_bytes, NULL));
    TRY(api.cuLaunchKernel(function, 1, 1, 1, v->threads, 1, 1, 0, NULL, parameters, NULL));
    TRY(api.cuCtxSynchronize());
    TRY(api.cuMemcpyDtoH_v2(answer->words, out, out_bytes));
}

static void vector_run(const struct vector *v, const char *ptx, struct answer *answer) {
    memset(answer, 0, sizeof *answer);
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(CASE_SECONDS);
        kernel_run(v, ptx, answer);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        snprintf(answer->fault, sizeof answer->fault, "signal %d", WTERMSIG(status));
}

// --- comparison --------------------------------------------------------------------------------

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Zeros of either sign are different numbers where both bounds are zeros. */
static bool is_between(uint32_t low, uint32_t high, uint32_t word) {
    const float l = float_of(low), h = float_of(high), x = float_of(word);
    if (l != l) return x != x;
    if (l == 0 && h == 0) return word == low || word == high;
    return x >= l && x <= h;
}

/* Says which words are wrong, the first few of them. */
static bool answer_check(const struct vector *v, const struct answer *answer) {
    enum { SHOWN = 4 };
    size_t wrong = 0;
    if (answer->fault[0]) {
        printf("    %s\n", answer->fault);
        return false;
    }
    for (size_t i = 0; i < v->out.count; i++) {
        const uint32_t got = answer->words[i];
        const bool derived =
            v->low.count ? is_between(v->low.at[i], v->out.at[i], got) : got == v->out.at[i];
        const bool recorded = v->low.count || !v->recorded.count || got == v->recorded.at[i];
        if (derived && recorded) continue;
        if (wrong++ >= SHOWN) continue;
        printf("    output %zu, thread %zu: %08x, ", i / v->threads, i % v->threads, got);
        if (!derived && v->low.count)
            printf("not from %08x to %08x\n", v->low.at[i], v->out.at[i]);
        else if (!derived)
            printf("not %08x, as the PTX ISA has it\n", v->out.at[i]);
        else
            printf("not %08x, as a GPU has it\n", v->recorded.at[i]);
    }
    if (wrong > SHOWN) printf("    %zu words are wrong\n", wrong);
    return wrong == 0;
}

// --- recording ---------------------------------------------------------------------------------

static FILE *record_begin(const char *directory, const char *name, const struct answer *answer) {
    char path[512], date[32];
    if (strstr(answer->device, "test double")) fail("what a test double answers is not recorded");
    const time_t now = time(NULL);
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
    snprintf(path, sizeof path, "%s/%s.recorded", directory, name);
    FILE *file = fopen(path, "w");
    if (!file) fail("cannot write %s", path);
    fprintf(file, "# Recorded on %s, CUDA %d.%d, %s.\n", answer->device, answer->driver / 1000,
            answer->driver % 1000 / 10, date);
    return file;
}

static void record_add(FILE *file, const struct vector *v, const struct answer *answer) {
    enum { PER_LINE = 8 };
    fprintf(file, "\ncase %s\n", v->name);
    for (size_t i = 0; i < v->out.count; i++)
        fprintf(file, "%08x%c", answer->words[i],
                i % PER_LINE == PER_LINE - 1 || i + 1 == v->out.count ? '\n' : ' ');
}

// --- the whole ---------------------------------------------------------------------------------

struct totals {
    int passed, failed;
};

static void file_run(const char *directory, const char *name, bool record, struct answer *answer,
                     struct totals *totals) {
    static struct vector vectors[CASES_MAX];
    char *text = file_read(directory, name, ".txt"), *ptx = file_read(directory, name, ".ptx");
    if (!text || !ptx) fail("%s/%s: .txt or .ptx is missing", directory, name);
    const size_t count = vectors_read(name, text, vectors);
    char *recorded = record ? NULL : file_read(directory, name, ".recorded");
    if (recorded) recorded_read(recorded, vectors, count);
    FILE *file = NULL;
    for (size_t i = 0; i < count; i++) {
        vector_run(&vectors[i], ptx, answer);
        const bool good = answer_check(&vectors[i], answer);
        printf("%s %s_%s\n", good ? "ok  " : "FAIL", name, vectors[i].name);
        *(good ? &totals->passed : &totals->failed) += 1;
        if (!record || answer->fault[0]) continue;
        if (!file) file = record_begin(directory, name, answer);
        record_add(file, &vectors[i], answer);
    }
    if (file) fclose(file);
    free(text);
    free(ptx);
    free(recorded);
}

static int is_vector_file(const struct dirent *entry) {
    const size_t length = strlen(entry->d_name);
    return length > 4 && strcmp(entry->d_name + length - 4, ".txt") == 0;
}

int main(int argc, char **argv) {
    const bool record = argc == 4 && strcmp(argv[3], "record") == 0;
    if (argc != 3 && !record) fail("usage: run_vectors LIBRARY DIRECTORY [record]");
    library_path = argv[1];
    struct answer *answer =
        mmap(NULL, sizeof *answer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct dirent **entries;
    const int count = scandir(argv[2], &entries, is_vector_file, alphasort);
    if (answer == MAP_FAILED || count <= 0) fail("no vectors in %s", argv[2]);
    struct totals totals = {0, 0};
    for (int i = 0; i < count; i++) {
        entries[i]->d_name[strlen(entries[i]->d_name) - 4] = 0;
        file_run(argv[2], entries[i]->d_name, record, answer, &totals);
    }
    printf("%d passed, %d failed, 0 skipped\n", totals.passed, totals.failed);
    return totals.failed != 0;
}

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/config.h"
#include "block_rig.h"
#include "cpu/cpu.h"
#include "cpu/isa.h"
#include "tiny_model.h"

enum { CTX = 96, PAGES = 16, ROWS = 64, VOCAB = 64, TOKENS = 41 };

static const struct tiny_shape shape_llama = {"llama", 2, 256, 256, 4, 2, 64, VOCAB, false, false};
static const struct tiny_shape shape_qwen2 = {"qwen2", 2, 256, 192, 8, 1, 32, VOCAB, true, true};
static const struct tiny_shape shape_odd = {"llama", 2, 40, 44, 5, 5, 8, VOCAB, false, false};

static struct tiny_model tiny;
static struct batch batch;
static bool mapped; /* weights= of the next backend */
static uint32_t context = CTX;

static void fill(const struct model_tensor *t, uint64_t *state) {
    if (t->data == NULL || t->rows < 2) return;
    block_rig_fill(t->type, (uint8_t *)(uintptr_t)t->data, (size_t)t->rows * t->cols, state);
}

/* A model of that shape with random matrices of `type`. */
static void model_make(const struct tiny_shape *shape, enum quant_type type) {
    struct fault fault = {0};
    uint64_t state = 99;
    tiny_init(&tiny, shape);
    for (uint32_t i = 0; i < tiny.n_tensors; i++)
        if (tiny.tensor[i].n_dims == 2) tiny.tensor[i].type = type;
    cr_assert(tiny_bind(&tiny, &fault), "%s", fault.text);
    fill(&tiny.model.token_embd, &state);
    if (!shape->tied) fill(&tiny.model.output, &state);
    for (uint32_t l = 0; l < shape->layers; l++) {
        const struct model_layer *layer = &tiny.model.layer[l];
        const struct model_tensor *all[] = {&layer->q,    &layer->k,  &layer->v,   &layer->attn_out,
                                            &layer->gate, &layer->up, &layer->down};
        for (size_t i = 0; i < 7; i++) fill(all[i], &state);
    }
}

static struct backend *backend_make(const char *isa, uint32_t threads, uint32_t kv_type) {
    struct fault fault;
    struct arena arena;
    struct backend_limits limits = {.n_pages = context > CTX ? context / 16 : PAGES,
                                    .ctx = context,
                                    .rows_max = ROWS,
                                    .logits_max = ROWS,
                                    .threads = threads,
                                    .kv_type = kv_type,
                                    .mapped = mapped};
    arena_measure(&arena);
    cr_assert_null(cpu_carve(isa, &tiny.model, &limits, &arena));
    size_t bytes = arena.used;
    cr_assert(arena_map(&arena, bytes, &fault));
    struct backend *backend = cpu_carve(isa, &tiny.model, &limits, &arena);
    cr_assert_eq(arena.used, bytes, "the plan is what is taken");
    uint32_t percent = 0;
    while (backend->ops->load(backend, clock_ns() + 100000, &percent, &fault) == BACKEND_PENDING)
        cr_assert_leq(percent, 100);
    cr_assert_eq(percent, 100);
    return backend;
}

static void step(struct backend *backend) {
    struct fault fault;
    backend->ops->begin(backend, &batch);
    while (backend->ops->advance(backend, clock_ns() + 20000, &fault) == BACKEND_PENDING) {
    }
}

static int32_t token_at(uint32_t position, uint32_t sequence) {
    return (int32_t)((position * 37 + sequence * 11 + 5) % VOCAB);
}

/* Sequence 0 in shuffled pages, `chunk` rows a step, beside `neighbours` other sequences that are
 * at other positions; the logits of its last row. */
static void run(struct backend *backend, uint32_t chunk, uint32_t neighbours, float *logits) {
    uint32_t pages[4][3];
    for (uint32_t s = 0; s < 4; s++)
        for (uint32_t p = 0; p < 3; p++) pages[s][p] = (s * 3 + p) * 5 % PAGES;
    for (uint32_t at = 0; at < TOKENS;) {
        uint32_t n = TOKENS - at < chunk ? TOKENS - at : chunk;
        batch.n_rows = 0;
        for (uint32_t s = 1; s <= neighbours; s++)
            batch.row[batch.n_rows++] =
                (struct batch_row){token_at(at, s), at, pages[s], ROW_LOGITS, 0};
        for (uint32_t i = 0; i < n; i++, at++)
            batch.row[batch.n_rows++] = (struct batch_row){
                token_at(at, 0), at, pages[0], at + 1 == TOKENS ? ROW_LOGITS : ROW_NOTHING, 0};
        /* neighbours skip positions when chunk > 1: what they read there is their own business */
        step(backend);
    }
    memcpy(logits, backend->ops->logits(backend, neighbours), VOCAB * sizeof(float));
}

static double relative_rms(const float *a, const float *b) {
    double error = 0, size = 0;
    for (int i = 0; i < VOCAB; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return sqrt(error / size);
}

static const char *const isas[] = {"sse2", "avx2", "avx512", "amx", "amx-bf16"};
enum { ISAS = 5, ISAS_OF_F32 = 3 /* from there on floats are rounded to bfloat16 */ };

static bool have(const char *isa) {
    struct fault fault;
    return cpu_check(isa, &fault);
}

Test(fast, agrees_with_exact_for_every_type) {
    for (size_t t = 0; t < block_rig_n_types; t++) {
        enum quant_type type = block_rig_types[t];
        bool floats = quant_info(type)->block_values == 1;
        model_make(&shape_llama, type);
        float wanted[VOCAB], got[VOCAB];
        run(backend_make("exact", 2, CONFIG_KV_F32), 7, 0, wanted);
        for (size_t i = 0; i < ISAS; i++) {
            if (!have(isas[i])) continue;
            run(backend_make(isas[i], 2, CONFIG_KV_F32), 7, 0, got);
            double error = relative_rms(got, wanted);
            double bound = !floats ? 0.03 : type == QUANT_F32 || i < ISAS_OF_F32 ? 2e-5 : 0.01;
            cr_assert_lt(error, bound, "%s %s: %g", isas[i], quant_info(type)->name, error);
        }
    }
}

Test(fast, agrees_with_exact_for_other_shapes_and_caches) {
    const struct tiny_shape *shapes[] = {&shape_qwen2, &shape_odd};
    static const double bound[] = {
        [CONFIG_KV_F16] = 3e-3, [CONFIG_KV_F32] = 2e-5, [CONFIG_KV_Q8_0] = 0.15};
    for (size_t s = 0; s < 2; s++) {
        model_make(shapes[s], QUANT_F32);
        float wanted[VOCAB], got[VOCAB];
        run(backend_make("exact", 1, CONFIG_KV_F32), TOKENS, 0, wanted);
        for (size_t i = 0; i < ISAS; i++)
            for (uint32_t kv = CONFIG_KV_F16; have(isas[i]) && kv <= CONFIG_KV_Q8_0; kv++) {
                run(backend_make(isas[i], 2, kv), 9, 0, got);
                double error = relative_rms(got, wanted);
                cr_assert_lt(error, bound[kv], "%s %s kv %u: %g", isas[i], shapes[s]->architecture,
                             kv, error);
            }
    }
}

Test(fast, bits_do_not_depend_on_threads_chunk_or_neighbours) {
    static const enum quant_type types[] = {QUANT_Q8_0, QUANT_Q6_K, QUANT_F16, QUANT_Q4_0,
                                            QUANT_Q4_K};
    static const uint32_t chunks[] = {1, 5, TOKENS};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        model_make(&shape_llama, types[t]);
        for (size_t i = 0; i < ISAS; i++) {
            if (!have(isas[i])) continue;
            float first[VOCAB], got[VOCAB];
            run(backend_make(isas[i], 1, CONFIG_KV_F16), 1, 0, first);
            for (uint32_t threads = 1; threads <= 3; threads += 2) {
                struct backend *backend = backend_make(isas[i], threads, CONFIG_KV_F16);
                for (size_t c = 0; c < 3; c++)
                    for (uint32_t neighbours = 0; neighbours <= 3; neighbours += 3) {
                        run(backend, chunks[c], neighbours, got);
                        cr_assert_eq(memcmp(first, got, sizeof first), 0,
                                     "%s threads %u chunk %u neighbours %u", isas[i], threads,
                                     chunks[c], neighbours);
                    }
                backend->ops->close(backend);
            }
        }
    }
}

/* Attention to 1093 positions: chunks one after the other for many rows, shared out for few. */
Test(fast, bits_do_not_depend_on_who_attends_to_which_chunk) {
    enum { LONG = 1093, ALONE = 3 };
    static const struct tiny_shape grouped = {"llama", 1, 32, 32, 4, 2, 8, VOCAB, false, false};
    static const struct tiny_shape *const shapes[] = {&grouped, &shape_odd};
    static uint32_t pages[LONG / 16 + 1];
    context = 1104;
    for (uint32_t p = 0; p < LONG / 16 + 1; p++) pages[p] = (p * 5 + 3) % (context / 16);
    for (size_t i = 0; i < 2 * ISAS; i++) {
        if (!have(isas[i / 2])) continue;
        float got[3][VOCAB]; /* many rows, one thread, three threads */
        model_make(shapes[i % 2], QUANT_F32);
        for (uint32_t run = 0; run < 3; run++) {
            struct backend *backend = backend_make(isas[i / 2], run == 2 ? 3 : 1, CONFIG_KV_F16);
            for (uint32_t at = 0, n; at < LONG; at += n) {
                uint32_t end = run > 0 && at < LONG - ALONE ? LONG - ALONE : LONG;
                n = run > 0 && at >= LONG - ALONE ? 1 : end - at < ROWS ? end - at : ROWS;
                batch.n_rows = n;
                for (uint32_t r = 0; r < n; r++)
                    batch.row[r] =
                        (struct batch_row){token_at(at + r, 0), at + r, pages,
                                           at + r + 1 == LONG ? ROW_LOGITS : ROW_NOTHING, 0};
                step(backend);
            }
            memcpy(got[run], backend->ops->logits(backend, 0), sizeof got[run]);
            backend->ops->close(backend);
        }
        cr_assert_arr_eq(got[1], got[0], sizeof got[0], "%s: alone", isas[i / 2]);
        cr_assert_arr_eq(got[2], got[0], sizeof got[0], "%s: three threads", isas[i / 2]);
    }
}

/* Every type, and shapes whose last panel is not full; one row and tiles. */
Test(fast, weights_of_the_mapped_file_give_the_bits_of_packed_ones) {
    static const struct tiny_shape *const shapes[] = {&shape_llama, &shape_qwen2, &shape_odd};
    for (size_t t = 0; t < 3 * block_rig_n_types; t++) {
        enum quant_type type = block_rig_types[t / 3];
        const struct tiny_shape *shape = shapes[t % 3];
        if (shape->dim % quant_info(type)->block_values != 0 ||
            shape->ffn % quant_info(type)->block_values != 0)
            continue;
        model_make(shape, type);
        for (size_t i = 0; i < ISAS; i++) {
            if (!have(isas[i])) continue;
            float wanted[VOCAB], got[VOCAB];
            for (uint32_t chunk = 1; chunk <= TOKENS; chunk += TOKENS - 1) {
                mapped = false;
                struct backend *backend = backend_make(isas[i], 2, CONFIG_KV_F32);
                run(backend, chunk, 0, wanted);
                backend->ops->close(backend);
                mapped = true;
                backend = backend_make(isas[i], 3, CONFIG_KV_F32);
                run(backend, chunk, 0, got);
                backend->ops->close(backend);
                cr_assert_arr_eq(got, wanted, sizeof got, "%s %s chunk=%u", quant_info(type)->name,
                                 isas[i], chunk);
            }
        }
    }
}

Test(fast, a_step_can_be_given_up_and_done_again) {
    model_make(&shape_llama, QUANT_Q8_0);
    struct backend *backend = backend_make("auto", 2, CONFIG_KV_F16);
    struct fault fault;
    float wanted[VOCAB], got[VOCAB];
    run(backend, 8, 0, wanted);
    backend->ops->begin(backend, &batch);
    enum backend_status status = backend->ops->advance(backend, 0, &fault);
    cr_assert_eq(status, BACKEND_PENDING, "a deadline in the past is honoured between phases");
    backend->ops->abort(backend);
    backend->ops->abort(backend); /* harmless without a step */
    run(backend, 8, 0, got);
    cr_assert_eq(memcmp(wanted, got, sizeof wanted), 0);
}

Test(isa, an_unknown_name_is_refused_with_advice) {
    struct fault fault;
    cr_assert_not(cpu_check("avx1024", &fault));
    cr_assert_eq(fault.code, FAULT_INVALID_REQUEST);
    cr_assert_not_null(strstr(fault.text, "avx1024"));
    cr_assert(cpu_check("auto", &fault));
    cr_assert(cpu_check("sse2", &fault));
}

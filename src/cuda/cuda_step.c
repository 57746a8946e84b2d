/* cuda_step: a batch handed to the device and its results fetched. */
#include <limits.h>
#include <linux/futex.h>
#include <math.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"
#include "cuda/cuda_state.h"
#include "cuda/descriptor.h"

enum {
    SLEEP_NS = 50 * 1000,      /* and as much again until the kernel wakes us */
    ASK_NS = 20 * 1000 * 1000, /* after that, and again and again: is the device well? */
    TURN_PAUSES = 64,
    MS = 1000 * 1000
};

static bool step_fail(struct cuda *c, struct fault *fault) {
    c->failed = true;
    c->fault = *fault;
    return false;
}

static uint32_t class_of(const struct cuda *c, uint32_t rows) {
    uint32_t class = 0;
    while (c->class[class].room.rows < rows) class ++;
    wick_assert(class < c->n_classes);
    return class;
}

/* The logits of all rows from the first to the last that wants them, in one copy. */
static void copies_plan(struct cuda *c, const struct batch *batch) {
    const struct layout *l = &c->layout;
    uint32_t first = UINT32_MAX, end = 0;
    c->n_results = 0;
    for (uint32_t i = 0; i < batch->n_rows; i++) {
        if (batch->row[i].wants == ROW_NOTHING) continue;
        if (batch->row[i].wants == ROW_LOGITS) {
            if (first == UINT32_MAX) first = c->n_results;
            end = c->n_results + 1;
        }
        c->n_results++;
    }
    wick_assert(c->n_results <= l->limits.logits_max);
    c->run.n_copies = end > 0;
    if (end == 0) return;
    uint64_t row_bytes = l->logits.stride * sizeof(float);
    c->run.copy = (struct gpu_copy){.to = (uint8_t *)l->logits_host + first * row_bytes,
                                    .from = l->logits.at + first * row_bytes,
                                    .bytes = (end - first) * row_bytes};
}

/* Nothing is on its way: the batch is written and handed over. */
static bool step_post(struct cuda *c, struct fault *fault) {
    const struct batch *batch = c->batch;
    uint32_t class = class_of(c, batch->n_rows);
    const struct layout_batch *room = &c->class[class].room;
    c->batch = NULL;
    c->ticket += 2;
    descriptor_write(room, batch, launches_split_all(room->rows), c->ticket, c->layout.batch_host);
    copies_plan(c, batch);
    c->run.call.api = &c->driver->api;
    c->run.stream = c->driver->opened.stream;
    c->run.exec = c->class[class].exec;
    c->run.finish = c->function[GPU_ENTRY_FINISH];
    c->run.arguments =
        (struct gpu_finish){.step = c->layout.batch + room->after_at, .flag = c->pinned.flag};
    uint64_t now_ns = clock_ns();
    c->flight = (struct cuda_flight){.on = true,
                                     .ticket = c->ticket + (c->run.n_copies > 0),
                                     .class = class,
                                     .posted_ns = now_ns,
                                     .asked_ns = now_ns};
    c->asking = false;
    c->driver->posted = foreign_post(&c->driver->foreign, gpu_step_thread, &c->run);
    return c->driver->posted || gpu_death_fault(c->driver, fault) || step_fail(c, fault);
}

static bool flag_shows(const struct cuda *c, uint32_t ticket) {
    const _Atomic uint32_t *flag = (const _Atomic uint32_t *)c->layout.flag;
    uint32_t shown = atomic_load_explicit(flag, memory_order_acquire);
    return (int32_t)(shown - ticket) >= 0;
}

/* The call in flight has ended: did it go well? */
static bool call_look(struct cuda *c, int64_t result, struct fault *fault) {
    if (result != 0) {
        gpu_call_fault(c->asking ? &c->query.call : &c->run.call, fault);
        return step_fail(c, fault);
    }
    if (!c->asking || !c->query.finished || flag_shows(c, c->flight.ticket)) return true;
    fault_set(fault, FAULT_CUDA_ERROR, "cuda: the step has ended and left no result");
    return step_fail(c, fault);
}

static bool hang_fault(struct cuda *c, struct fault *fault) {
    fault_set(fault, FAULT_CUDA_ERROR,
              "cuda: a step of at most %u rows hangs: not finished after hang_ms=%u",
              c->class[c->flight.class].room.rows, c->hang_ms);
    foreign_condemn(&c->driver->foreign, c->hang_ms);
    return step_fail(c, fault);
}

/* Looks at the step on its way. DONE: there is none any more. */
static enum backend_status flight_look(struct cuda *c, uint64_t now_ns, struct fault *fault) {
    struct foreign *foreign = &c->driver->foreign;
    struct cuda_flight *flight = &c->flight;
    int64_t result = 0;
    enum foreign_status status = foreign_poll(foreign, &result);
    if (status == FOREIGN_DEAD) {
        gpu_death_fault(c->driver, fault);
        return step_fail(c, fault), BACKEND_FAILED;
    }
    if (c->driver->posted && status == FOREIGN_DONE) {
        c->driver->posted = false;
        if (!call_look(c, result, fault)) return BACKEND_FAILED;
    }
    if (!flight->on) return c->driver->posted ? BACKEND_PENDING : BACKEND_DONE;
    if (flag_shows(c, flight->ticket) && !c->driver->posted) {
        c->class[flight->class].usual_ns = now_ns - flight->posted_ns;
        flight->on = false;
        return BACKEND_DONE;
    }
    if (now_ns - flight->posted_ns > (uint64_t)c->hang_ms * MS)
        return hang_fault(c, fault), BACKEND_FAILED;
    if (!c->driver->posted && now_ns - flight->asked_ns > ASK_NS) {
        flight->asked_ns = now_ns;
        c->asking = true;
        c->query =
            (struct gpu_query){.call.api = &c->driver->api, .stream = c->driver->opened.stream};
        c->driver->posted = foreign_post(foreign, gpu_query_thread, &c->query);
    }
    return BACKEND_PENDING;
}

/* Spins about the time when the step usually ends, sleeps otherwise. */
static void step_pause(const struct cuda *c, uint64_t now_ns) {
    uint64_t usual_ns = c->flight.posted_ns + c->class[c->flight.class].usual_ns;
    if (now_ns + 3 * SLEEP_NS > usual_ns && now_ns < usual_ns + 3 * SLEEP_NS) {
        for (int i = 0; i < TURN_PAUSES; i++) __builtin_ia32_pause();
        return;
    }
    /* A wait that nobody ends: of all calls that sleep, the one that the sandbox allows anyway. */
    static const uint32_t never = 0;
    struct timespec rest = {.tv_nsec = SLEEP_NS};
    syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, &rest, NULL, 0);
}

/* Hands the batch over if nothing is in its way. */
static enum backend_status step_go(struct cuda *c, uint64_t now_ns, struct fault *fault) {
    enum backend_status status = flight_look(c, now_ns, fault);
    if (status != BACKEND_DONE || c->batch == NULL) return status;
    return step_post(c, fault) ? BACKEND_PENDING : BACKEND_FAILED;
}

void cuda_begin(struct backend *backend, const struct batch *batch) {
    struct cuda *c = (struct cuda *)backend;
    wick_assert(c->batch == NULL && batch->n_rows <= c->layout.limits.rows_max);
    c->batch = batch;
    struct fault fault;
    if (!c->failed) (void)step_go(c, clock_ns(), &fault); /* advance tells of a failure */
}

enum backend_status cuda_advance(struct backend *backend, uint64_t deadline_ns,
                                 struct fault *fault) {
    struct cuda *c = (struct cuda *)backend;
    for (;;) {
        if (c->failed) {
            *fault = c->fault;
            return BACKEND_FAILED;
        }
        uint64_t now_ns = clock_ns();
        enum backend_status status = step_go(c, now_ns, fault);
        if (status != BACKEND_PENDING) return status;
        if (now_ns >= deadline_ns) return BACKEND_PENDING;
        step_pause(c, now_ns);
    }
}

const float *cuda_logits(const struct backend *backend, uint32_t index) {
    const struct cuda *c = (const struct cuda *)backend;
    wick_assert(!c->flight.on && index < c->n_results);
    return c->layout.logits_host + (size_t)index * c->layout.logits.stride;
}

struct backend_candidates cuda_candidates(const struct backend *backend, uint32_t index) {
    const struct cuda *c = (const struct cuda *)backend;
    wick_assert(!c->flight.on && index < c->n_results);
    const struct gpu_choice *choice = &c->layout.choice[index];
    struct backend_candidates among = {.n = choice->count,
                                       .id = choice->id,
                                       .logit = choice->logit,
                                       .log_sum = log((double)choice->sum)};
    while (among.n > 0 && among.logit[among.n - 1] == -INFINITY) among.n--;
    return among;
}

void cuda_abort(struct backend *backend) {
    struct cuda *c = (struct cuda *)backend;
    c->batch = NULL;
}

/* A step that was given up may still be on its way. */
bool cuda_look(struct backend *backend, struct fault *fault) {
    struct cuda *c = (struct cuda *)backend;
    return flight_look(c, clock_ns(), fault) != BACKEND_FAILED;
}

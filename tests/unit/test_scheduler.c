#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "scheduler_rig.h"

enum { EVENTS_MAX = 4096, MS = 1000000 };

/* A scheduler, its backend, its clock and everything it has said. */
static struct scheduler *s;
static struct vocab vocab;
static struct rig_backend rig;
static struct batch batch;
static struct event said[EVENTS_MAX];
static uint32_t n_said;
static uint64_t now_ns;

static const struct scheduler_limits small = {.slots = 2, .ctx = 128, .queue = 2, .chunk = 16};

static void open_all(struct scheduler_limits limits, uint32_t n_pages) {
    n_said = 0;
    now_ns = 1000 * (uint64_t)MS;
    rig_vocab(&vocab);
    rig_backend_open(&rig, n_pages, 64, 8);
    s = rig_scheduler(&limits, n_pages, 64, 8, &vocab);
}

static void listen_all(void) {
    while (scheduler_next_event(s, &said[n_said])) cr_assert(++n_said < EVENTS_MAX);
    cr_assert_null(scheduler_check(s), "%s", scheduler_check(s));
}

static bool begin(void) {
    bool work = scheduler_build(s, now_ns, &batch);
    if (work) rig.backend.ops->begin(&rig.backend, &batch);
    listen_all();
    return work;
}

static void finish(void) {
    struct fault fault;
    rig.backend.ops->advance(&rig.backend, 0, &fault);
    now_ns += MS;
    scheduler_absorb(s, &rig.backend, now_ns);
    listen_all();
}

static bool step(void) {
    if (!begin()) return false;
    finish();
    return true;
}

static void run_all(void) {
    for (int i = 0; i < 5000; i++)
        if (!step()) return;
    cr_assert_fail("it never ends");
}

static int32_t prompt[RIG_CTX_MAX];

static struct job_request request_of(uint32_t client, uint32_t tag, uint32_t n_tokens,
                                     uint32_t max_tokens) {
    for (uint32_t i = 0; i < n_tokens; i++)
        prompt[i] = (int32_t)(RIG_WORD_FIRST + (i * 7 + tag) % (RIG_VOCAB - RIG_WORD_FIRST));
    struct job_request request = {.id = {client, tag},
                                  .tokens = prompt,
                                  .n_tokens = n_tokens,
                                  .max_tokens = max_tokens,
                                  .sampling = sampler_defaults,
                                  .ignore_eos = true};
    request.sampling.seed = 1000 + tag;
    return request;
}

static bool submit(struct job_request request) {
    struct fault fault = {0};
    bool accepted = scheduler_submit(s, &request, now_ns, &fault);
    cr_assert(accepted == (fault.code == FAULT_NONE));
    listen_all();
    return accepted;
}

static enum fault_code refusal(struct job_request request) {
    struct fault fault = {0};
    cr_assert_not(scheduler_submit(s, &request, now_ns, &fault));
    listen_all();
    return fault.code;
}

/* The nth event of that kind of a tag. */
static const struct event *event_of(uint32_t tag, enum event_kind kind, uint32_t nth) {
    for (uint32_t i = 0; i < n_said; i++)
        if (said[i].id.tag == tag && said[i].kind == kind && nth-- == 0) return &said[i];
    return NULL;
}

static uint32_t count_of(uint32_t tag, enum event_kind kind) {
    uint32_t n = 0;
    while (event_of(tag, kind, n) != NULL) n++;
    return n;
}

/* All that was said of the tag is what the request gives by the definitions. */
static void assert_as_expected(const struct job_request *request) {
    static struct rig_expected expected;
    static char text[RIG_TEXT_MAX];
    uint32_t tag = request->id.tag, n_text = 0;
    rig_expect(request, &expected);
    const struct event *end = event_of(tag, EVENT_END, 0);
    cr_assert_not_null(end);
    cr_assert_eq(end->reason, expected.reason);
    cr_assert_eq(end->stop_index, expected.stop_index);
    cr_assert_eq(end->tokens, expected.n_tokens);
    cr_assert_eq(count_of(tag, EVENT_STARTED), 1);
    cr_assert_eq(count_of(tag, EVENT_END) + count_of(tag, EVENT_ERROR), 1);
    for (uint32_t i = 0; i < count_of(tag, EVENT_TOKEN); i++) {
        const struct event *token = event_of(tag, EVENT_TOKEN, i);
        bool beyond = i == expected.n_tokens;
        cr_assert_eq(token->index, i);
        cr_assert_eq(token->token, beyond ? expected.end_token : expected.token[i]);
        memcpy(text + n_text, token->text, token->text_bytes);
        n_text += token->text_bytes;
    }
    cr_assert(count_of(tag, EVENT_TOKEN) >= expected.n_tokens);
    cr_assert_eq(n_text, expected.text_bytes);
    cr_assert_eq(memcmp(text, expected.text, n_text), 0);
}

static void assert_idle_and_nothing_leaked(void) {
    struct scheduler_counts counts;
    cr_assert_not(begin());
    scheduler_counts(s, &counts);
    cr_assert_eq(counts.slots_free, counts.slots);
    cr_assert_eq(counts.queued, 0);
    cr_assert_eq(counts.pages_free + counts.pages_cached, counts.pages);
}

/* --- one job -----------------------------------------------------------------------------------
 */

Test(scheduler, job_gives_what_its_tokens_and_parameters_say) {
    open_all(small, 32);
    struct job_request request = request_of(1, 1, 40, 30);
    cr_assert(submit(request));
    run_all();
    assert_as_expected(&request);
    assert_idle_and_nothing_leaked();
}

Test(scheduler, output_token_i_has_position_prompt_plus_i) {
    open_all(small, 32);
    cr_assert(submit(request_of(1, 1, 20, 5)));
    step();
    step(); /* 16 and 4 tokens of the prompt: the first output token is there */
    cr_assert_eq(count_of(1, EVENT_TOKEN), 1);
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert(begin());
        cr_assert_eq(batch.n_rows, 1);
        cr_assert_eq(batch.row[0].position, 20 + i);
        cr_assert_eq(batch.row[0].token, event_of(1, EVENT_TOKEN, i)->token);
        finish();
    }
    cr_assert_not(begin(), "the last token needs no step");
}

Test(scheduler, chunks_do_not_change_the_output) {
    uint32_t chunks[] = {1, 3, 16, 17, 64};
    for (int i = 0; i < 5; i++) {
        struct scheduler_limits limits = small;
        limits.chunk = chunks[i];
        open_all(limits, 32);
        struct job_request request = request_of(1, 1, 50, 20);
        cr_assert(submit(request));
        run_all();
        assert_as_expected(&request);
    }
}

Test(scheduler, every_parameter_has_its_effect) {
    struct job_request plain = request_of(1, 1, 10, 40);
    static struct rig_expected without, with;
    rig_expect(&plain, &without);
    for (int field = 0; field < 6; field++) {
        open_all(small, 32);
        struct job_request request = plain;
        if (field == 0) request.sampling.temperature = 0;
        if (field == 1) request.sampling.top_p = 0.3;
        if (field == 2) request.sampling.top_k = 3;
        if (field == 3) request.sampling.min_p = 0.5;
        if (field == 4) request.sampling.repetition_penalty = 2;
        if (field == 5) request.sampling.seed++;
        rig_expect(&request, &with);
        cr_assert_neq(memcmp(with.token, without.token, sizeof with.token), 0, "%d", field);
        cr_assert(submit(request));
        run_all();
        assert_as_expected(&request);
    }
}

Test(scheduler, started_names_seed_prompt_and_slot) {
    open_all(small, 32);
    cr_assert(submit(request_of(1, 1, 10, 4)));
    cr_assert(submit(request_of(1, 2, 12, 4)));
    const struct event *started = event_of(2, EVENT_STARTED, 0);
    cr_assert_eq(started->seed, 1002);
    cr_assert_eq(started->prompt_tokens, 12);
    cr_assert_eq(started->reused_tokens, 0);
    cr_assert_eq(started->slot, 1);
}

Test(scheduler, stop_string_across_tokens_ends_the_job_before_it) {
    struct job_request request = request_of(1, 1, 10, 60);
    static struct rig_expected whole;
    request.bytes = true; /* the text may hold broken characters */
    rig_expect(&request, &whole);
    request.n_stop = 2;
    request.stop[0] = (struct job_stop){.length = 5, .text = "never"};
    request.stop[1].length = 9; /* longer than any two pieces */
    memcpy(request.stop[1].text, whole.text + whole.text_bytes / 2, 9);
    rig_expect(&request, &whole);
    cr_assert_eq(whole.reason, STOP_SEQUENCE, "choose another prompt");
    open_all(small, 32);
    cr_assert(submit(request));
    run_all();
    assert_as_expected(&request);
    cr_assert_eq(event_of(1, EVENT_END, 0)->stop_index, 1);
    assert_idle_and_nothing_leaked();
}

/* A prompt of that tag whose output ends with the end token; with text held back or without. */
static struct job_request request_that_ends(bool held) {
    static struct rig_expected expected;
    for (uint64_t seed = 1; seed < 5000; seed++) {
        struct job_request request = request_of(1, 1, 10, 60);
        request.ignore_eos = false;
        request.sampling.seed = seed;
        request.n_stop = 1;
        request.stop[0] = (struct job_stop){.length = 4, .text = "abzq"};
        rig_expect(&request, &expected);
        if (expected.reason != STOP_EOS || expected.n_tokens < 3) continue;
        bool ends_in_a = expected.text[expected.text_bytes - 1] == 'a';
        bool whole = expected.token[expected.n_tokens - 1] >= RIG_WORD_FIRST &&
                     expected.text[expected.text_bytes - 1] == '.';
        if (held ? ends_in_a : whole) return request;
    }
    cr_assert_fail("no seed ends so");
    return (struct job_request){0};
}

Test(scheduler, end_token_ends_without_an_event_of_its_own) {
    open_all(small, 32);
    struct job_request request = request_that_ends(false);
    cr_assert(submit(request));
    run_all();
    assert_as_expected(&request);
    cr_assert_eq(count_of(1, EVENT_TOKEN), event_of(1, EVENT_END, 0)->tokens);
}

Test(scheduler, text_held_back_at_the_end_token_comes_with_its_index) {
    open_all(small, 32);
    struct job_request request = request_that_ends(true);
    cr_assert(submit(request));
    run_all();
    assert_as_expected(&request);
    uint32_t tokens = event_of(1, EVENT_END, 0)->tokens;
    cr_assert_eq(count_of(1, EVENT_TOKEN), tokens + 1);
    cr_assert_eq(event_of(1, EVENT_TOKEN, tokens)->token, RIG_END);
    cr_assert_eq(event_of(1, EVENT_TOKEN, tokens)->text_bytes, 1);
}

Test(scheduler, ignore_eos_decodes_on_to_max_tokens) {
    open_all(small, 32);
    struct job_request request = request_that_ends(false);
    request.ignore_eos = true;
    cr_assert(submit(request));
    run_all();
    assert_as_expected(&request);
    cr_assert_eq(event_of(1, EVENT_END, 0)->tokens, 60);
}

Test(scheduler, logprobs_are_of_the_model_not_of_the_sampling) {
    open_all(small, 32);
    struct job_request request = request_of(1, 1, 10, 8);
    request.sampling.temperature = 0.5;
    request.sampling.repetition_penalty = 1.5;
    request.logprobs = 5;
    cr_assert(submit(request));
    run_all();
    int32_t tokens[64];
    float logits[RIG_VOCAB];
    memcpy(tokens, prompt, sizeof tokens);
    for (uint32_t i = 0; i < 8; i++) {
        const struct event *token = event_of(1, EVENT_TOKEN, i);
        struct sampler_candidate top[5];
        rig_logits(tokens, 10 + i, logits);
        sampler_top(logits, RIG_VOCAB, 5, top);
        cr_assert_eq(token->n_top, 5);
        cr_assert(fabs(token->logprob - sampler_logprob(logits, RIG_VOCAB, token->token)) < 1e-12);
        for (int k = 0; k < 5; k++) cr_assert_eq(token->top[k].id, top[k].id);
        tokens[10 + i] = token->token;
    }
}

Test(scheduler, times_run_from_the_slot_to_the_first_token_to_the_end) {
    open_all(small, 32);
    cr_assert(submit(request_of(1, 1, 40, 5)));
    run_all(); /* a step is 1 ms: 3 for the prompt, 4 more tokens */
    cr_assert(fabs(event_of(1, EVENT_END, 0)->prompt_ms - 3) < 1e-9);
    cr_assert(fabs(event_of(1, EVENT_END, 0)->decode_ms - 4) < 1e-9);
}

/* --- refusals ----------------------------------------------------------------------------------
 */

Test(scheduler, prompt_and_output_over_the_context_are_refused_with_the_numbers) {
    open_all(small, 32);
    struct job_request request = request_of(1, 1, 100, 29);
    struct fault fault;
    cr_assert_not(scheduler_submit(s, &request, now_ns, &fault));
    cr_assert_eq(fault.code, FAULT_PROMPT_TOO_LONG);
    cr_assert(strstr(fault.text, "100") && strstr(fault.text, "29") && strstr(fault.text, "128"));
    request.max_tokens = 28;
    cr_assert(submit(request));
    run_all();
    assert_as_expected(&request);
}

Test(scheduler, job_larger_than_all_pages_is_refused_at_once) {
    open_all(small, 4);
    cr_assert_eq(refusal(request_of(1, 1, 60, 5)), FAULT_PROMPT_TOO_LONG);
    cr_assert(submit(request_of(1, 1, 60, 4)));
    run_all();
    cr_assert_eq(count_of(1, EVENT_END), 1);
}

Test(scheduler, full_queue_says_busy_and_order_is_first_in_first_out) {
    open_all(small, 32);
    for (uint32_t tag = 1; tag <= 4; tag++) cr_assert(submit(request_of(1, tag, 10, 4 + tag)));
    cr_assert_eq(refusal(request_of(1, 5, 10, 4)), FAULT_BUSY);
    cr_assert_null(event_of(3, EVENT_STARTED, 0));
    run_all();
    uint32_t order = 0;
    for (uint32_t i = 0; i < n_said; i++)
        if (said[i].kind == EVENT_STARTED) cr_assert_eq(said[i].id.tag, ++order);
    cr_assert_eq(order, 4);
    cr_assert(submit(request_of(1, 5, 10, 4)));
}

Test(scheduler, without_a_queue_no_slot_or_no_pages_is_busy) {
    struct scheduler_limits limits = small;
    limits.queue = 0;
    open_all(limits, 8);
    cr_assert(submit(request_of(1, 1, 60, 40)));
    cr_assert_eq(refusal(request_of(1, 2, 10, 10)), FAULT_BUSY, "7 of 8 pages are promised");
    cr_assert(submit(request_of(1, 3, 10, 6)));
    cr_assert_eq(refusal(request_of(1, 4, 1, 1)), FAULT_BUSY, "no slot");
    run_all();
    assert_idle_and_nothing_leaked();
}

Test(scheduler, tag_in_use_is_refused_until_the_job_is_over) {
    open_all(small, 32);
    cr_assert(submit(request_of(1, 1, 10, 4)));
    cr_assert_eq(refusal(request_of(1, 1, 10, 4)), FAULT_TAG_IN_USE);
    cr_assert(submit(request_of(2, 1, 10, 4)), "another client's tag is another tag");
    run_all();
    cr_assert(submit(request_of(1, 1, 10, 4)));
}

Test(scheduler, draining_refuses_new_jobs_and_finishes_old_ones) {
    open_all(small, 32);
    for (uint32_t tag = 1; tag <= 3; tag++) cr_assert(submit(request_of(1, tag, 10, 4)));
    scheduler_drain(s);
    cr_assert_eq(refusal(request_of(1, 9, 10, 4)), FAULT_SHUTTING_DOWN);
    run_all();
    for (uint32_t tag = 1; tag <= 3; tag++) cr_assert_eq(count_of(tag, EVENT_END), 1);
}

/* --- ends from outside -------------------------------------------------------------------------
 */

Test(scheduler, cancel_says_so_at_once_and_keeps_the_pages_until_the_step_is_over) {
    open_all(small, 32);
    cr_assert(submit(request_of(1, 1, 20, 8)));
    cr_assert(begin());
    cr_assert(scheduler_cancel(s, (struct job_id){1, 1}, now_ns));
    listen_all();
    cr_assert_eq(event_of(1, EVENT_END, 0)->reason, STOP_CANCELLED);
    cr_assert(scheduler_step_is_moot(s));
    cr_assert_not(scheduler_cancel(s, (struct job_id){1, 1}, now_ns), "cancel is idempotent");
    struct job_request next = request_of(1, 2, 20, 8);
    cr_assert(submit(next));
    cr_assert_eq(event_of(2, EVENT_STARTED, 0)->slot, 1, "slot 0 is still being computed");
    rig.backend.ops->abort(&rig.backend);
    scheduler_absorb_abort(s, now_ns);
    listen_all();
    run_all();
    cr_assert_eq(count_of(1, EVENT_TOKEN), 0);
    assert_as_expected(&next);
    assert_idle_and_nothing_leaked();
}

Test(scheduler, step_with_a_living_job_in_it_is_not_moot) {
    open_all(small, 32);
    cr_assert_not(scheduler_step_is_moot(s), "no step");
    cr_assert(submit(request_of(1, 1, 4, 8)));
    cr_assert(submit(request_of(1, 2, 4, 8)));
    cr_assert(begin());
    cr_assert_not(scheduler_step_is_moot(s));
    scheduler_cancel(s, (struct job_id){1, 1}, now_ns);
    listen_all();
    cr_assert_not(scheduler_step_is_moot(s));
    finish();
    cr_assert_eq(count_of(2, EVENT_TOKEN), 1);
    cr_assert_eq(count_of(1, EVENT_TOKEN), 0);
}

Test(scheduler, tag_of_a_cancelled_job_is_free_while_its_step_still_runs) {
    open_all(small, 32);
    cr_assert(submit(request_of(1, 1, 20, 8)));
    cr_assert(begin());
    scheduler_cancel(s, (struct job_id){1, 1}, now_ns);
    listen_all();
    cr_assert(submit(request_of(1, 1, 20, 3)));
    finish();
    run_all();
    cr_assert_eq(count_of(1, EVENT_END), 2);
    cr_assert_eq(event_of(1, EVENT_END, 1)->tokens, 3);
}

Test(scheduler, waiting_job_can_be_cancelled) {
    open_all(small, 32);
    for (uint32_t tag = 1; tag <= 4; tag++) cr_assert(submit(request_of(1, tag, 10, 4)));
    cr_assert(scheduler_cancel(s, (struct job_id){1, 3}, now_ns));
    listen_all();
    cr_assert_eq(event_of(3, EVENT_END, 0)->reason, STOP_CANCELLED);
    run_all();
    cr_assert_eq(count_of(3, EVENT_STARTED), 0);
    cr_assert_eq(count_of(4, EVENT_TOKEN), 4);
}

Test(scheduler, dropped_client_gets_no_event_and_frees_its_slots) {
    open_all(small, 32);
    cr_assert(submit(request_of(7, 1, 10, 50)));
    cr_assert(submit(request_of(7, 2, 10, 50)));
    cr_assert(submit(request_of(7, 3, 10, 50)));
    cr_assert(submit(request_of(8, 4, 10, 5)));
    step();
    cr_assert(begin());
    uint32_t before = n_said;
    scheduler_drop_client(s, 7);
    finish();
    cr_assert_eq(n_said, before);
    run_all();
    cr_assert_eq(count_of(4, EVENT_END), 1);
    assert_idle_and_nothing_leaked();
}

Test(scheduler, held_job_says_nothing_and_goes_on_where_it_was) {
    open_all(small, 32);
    struct job_request request = request_of(1, 1, 20, 20);
    cr_assert(submit(request));
    for (int i = 0; i < 6; i++) step();
    cr_assert(begin());
    scheduler_hold(s, request.id, true, now_ns);
    uint32_t before = n_said;
    finish();
    cr_assert_eq(n_said, before, "not even the token of the step in flight");
    cr_assert_not(begin());
    scheduler_hold(s, request.id, false, now_ns);
    run_all();
    assert_as_expected(&request);
}

Test(scheduler, job_held_in_its_prompt_keeps_no_backend_busy) {
    open_all(small, 32);
    struct job_request request = request_of(1, 1, 40, 5);
    cr_assert(submit(request));
    step();
    scheduler_hold(s, request.id, true, now_ns);
    cr_assert_not(begin());
    scheduler_hold(s, request.id, false, now_ns);
    run_all();
    assert_as_expected(&request);
}

Test(scheduler, held_job_leaves_the_others_their_pace) {
    open_all(small, 32);
    cr_assert(submit(request_of(1, 1, 10, 20)));
    struct job_request other = request_of(2, 2, 10, 20);
    cr_assert(submit(other));
    step();
    scheduler_hold(s, (struct job_id){1, 1}, true, now_ns);
    for (int i = 0; i < 20; i++) step();
    assert_as_expected(&other);
    cr_assert_eq(count_of(1, EVENT_END), 0);
}

Test(scheduler, client_that_stalls_loses_its_job) {
    struct scheduler_limits limits = small;
    limits.stall_ms = 100;
    open_all(limits, 32);
    cr_assert(submit(request_of(1, 1, 10, 20)));
    cr_assert_eq(scheduler_next_deadline_ns(s), UINT64_MAX);
    scheduler_hold(s, (struct job_id){1, 1}, true, now_ns);
    uint64_t at = scheduler_next_deadline_ns(s);
    cr_assert_eq(at, now_ns + 100 * (uint64_t)MS);
    scheduler_hold(s, (struct job_id){1, 1}, true, now_ns + 50 * (uint64_t)MS);
    cr_assert_eq(scheduler_next_deadline_ns(s), at, "held again is held since the first time");
    scheduler_expire(s, at - 1);
    listen_all();
    cr_assert_null(event_of(1, EVENT_ERROR, 0));
    scheduler_expire(s, at);
    listen_all();
    cr_assert_eq(event_of(1, EVENT_ERROR, 0)->fault.code, FAULT_INFERENCE_TIMEOUT);
    cr_assert_not_null(strstr(event_of(1, EVENT_ERROR, 0)->fault.text, "client reads too slowly"));
    assert_idle_and_nothing_leaked();
}

Test(scheduler, deadline_counts_from_submit_and_ends_waiting_jobs_too) {
    struct scheduler_limits limits = small;
    limits.slots = 1;
    limits.deadline_ms = 500;
    open_all(limits, 32);
    struct job_request request = request_of(1, 1, 10, 50);
    request.deadline_ms = 50;
    cr_assert(submit(request));
    cr_assert(submit(request_of(1, 2, 10, 50)));
    uint64_t start = now_ns;
    cr_assert_eq(scheduler_next_deadline_ns(s), start + 50 * (uint64_t)MS);
    cr_assert(begin());
    scheduler_expire(s, start + 50 * (uint64_t)MS);
    listen_all();
    cr_assert_eq(event_of(1, EVENT_ERROR, 0)->fault.code, FAULT_INFERENCE_TIMEOUT);
    cr_assert_eq(scheduler_next_deadline_ns(s), start + 500 * (uint64_t)MS);
    scheduler_expire(s, start + 500 * (uint64_t)MS);
    listen_all();
    cr_assert_eq(event_of(2, EVENT_ERROR, 0)->fault.code, FAULT_INFERENCE_TIMEOUT);
    finish();
    cr_assert_eq(count_of(1, EVENT_TOKEN), 0);
    assert_idle_and_nothing_leaked();
}

Test(scheduler, failed_backend_is_an_error_for_every_job_and_never_an_end) {
    open_all(small, 32);
    for (uint32_t tag = 1; tag <= 3; tag++) cr_assert(submit(request_of(1, tag, 10, 4)));
    cr_assert(begin());
    struct fault fault = {.code = FAULT_CUDA_ERROR, .text = "the device is lost"};
    scheduler_fail(s, &fault, now_ns);
    listen_all();
    for (uint32_t tag = 1; tag <= 3; tag++) {
        cr_assert_eq(count_of(tag, EVENT_END), 0);
        cr_assert_eq(event_of(tag, EVENT_ERROR, 0)->fault.code, FAULT_CUDA_ERROR);
        cr_assert_str_eq(event_of(tag, EVENT_ERROR, 0)->fault.text, "the device is lost");
    }
    cr_assert_eq(refusal(request_of(1, 9, 10, 4)), FAULT_WORKER_UNHEALTHY);
    assert_idle_and_nothing_leaked();
}

Test(scheduler, cut_ends_everything_with_its_fault) {
    open_all(small, 32);
    for (uint32_t tag = 1; tag <= 3; tag++) cr_assert(submit(request_of(1, tag, 10, 4)));
    cr_assert(begin());
    struct fault fault = {.code = FAULT_SHUTTING_DOWN, .text = "time is up"};
    scheduler_cut(s, &fault, now_ns);
    listen_all();
    for (uint32_t tag = 1; tag <= 3; tag++)
        cr_assert_eq(event_of(tag, EVENT_ERROR, 0)->fault.code, FAULT_SHUTTING_DOWN);
    cr_assert(scheduler_step_is_moot(s));
    rig.backend.ops->abort(&rig.backend);
    scheduler_absorb_abort(s, now_ns);
    assert_idle_and_nothing_leaked();
}

/* --- batches and pages -------------------------------------------------------------------------
 */

Test(scheduler, decode_rows_come_first_and_prompts_share_one_chunk_in_order) {
    struct scheduler_limits limits = small;
    limits.slots = 4;
    limits.chunk = 64; /* 16 beside a decoding job */
    open_all(limits, 64);
    cr_assert(submit(request_of(1, 1, 4, 20)));
    step();
    cr_assert(submit(request_of(1, 2, 10, 20)));
    cr_assert(submit(request_of(1, 3, 40, 20)));
    cr_assert(begin());
    cr_assert_eq(batch.n_rows, 1 + 16);
    cr_assert_eq(batch.row[0].position, 4);
    cr_assert_eq(batch.row[1].position, 0);
    cr_assert_eq(batch.row[10].position, 9);
    cr_assert(batch.row[10].wants == ROW_LOGITS && batch.row[9].wants == ROW_NOTHING);
    cr_assert_eq(batch.row[11].position, 0);
    cr_assert_eq(batch.row[16].position, 5);
    cr_assert_eq(batch.row[16].wants, ROW_NOTHING);
    finish();
    run_all();
}

Test(scheduler, a_chunk_is_whole_when_nobody_decodes_and_a_quarter_beside_who_does) {
    struct scheduler_limits limits = small;
    limits.chunk = 30;
    open_all(limits, 32);
    cr_assert(submit(request_of(1, 1, 60, 4)));
    cr_assert(begin());
    cr_assert_eq(batch.n_rows, 30);
    finish();
    step();
    cr_assert(submit(request_of(1, 2, 60, 4)));
    cr_assert(begin());
    cr_assert_eq(batch.n_rows, 1 + 8); /* a quarter, rounded up: never nothing */
    finish();
    run_all();
}

Test(scheduler, prompt_that_was_seen_before_is_not_computed_again) {
    open_all(small, 32);
    struct job_request first = request_of(1, 1, 40, 4), again = first;
    cr_assert(submit(first));
    run_all();
    again.id.tag = 2;
    uint64_t rows = rig.rows_computed;
    cr_assert(submit(again));
    run_all();
    cr_assert_eq(event_of(2, EVENT_STARTED, 0)->reused_tokens, 32);
    cr_assert_eq(rig.rows_computed - rows, 8 + 3);
    assert_as_expected(&again);
}

Test(scheduler, last_prompt_token_is_always_computed) {
    open_all(small, 32);
    struct job_request first = request_of(1, 1, 32, 4), again = first;
    cr_assert(submit(first));
    run_all();
    again.id.tag = 2;
    cr_assert(submit(again));
    run_all();
    cr_assert_eq(event_of(2, EVENT_STARTED, 0)->reused_tokens, 16);
    assert_as_expected(&again);
}

Test(scheduler, conversation_that_goes_on_reuses_its_own_output) {
    open_all(small, 32);
    cr_assert(submit(request_of(1, 1, 30, 30)));
    run_all();
    struct job_request next = request_of(1, 1, 30, 10); /* the first prompt again, and its output */
    next.id.tag = 2;
    for (uint32_t i = 0; i < 30; i++) prompt[30 + i] = event_of(1, EVENT_TOKEN, i)->token;
    next.n_tokens = 60;
    cr_assert(submit(next));
    run_all();
    cr_assert_eq(event_of(2, EVENT_STARTED, 0)->reused_tokens, 48);
    assert_as_expected(&next);
}

Test(scheduler, pages_of_a_step_that_was_given_up_are_not_reused) {
    open_all(small, 32);
    struct job_request first = request_of(1, 1, 40, 4), again = first;
    cr_assert(submit(first));
    cr_assert(begin());
    scheduler_cancel(s, first.id, now_ns);
    rig.backend.ops->abort(&rig.backend);
    scheduler_absorb_abort(s, now_ns);
    listen_all();
    again.id.tag = 2;
    cr_assert(submit(again));
    run_all();
    cr_assert_eq(event_of(2, EVENT_STARTED, 0)->reused_tokens, 0);
    assert_as_expected(&again);
}

Test(scheduler, aborted_step_is_computed_again) {
    open_all(small, 32);
    struct job_request request = request_of(1, 1, 40, 8);
    cr_assert(submit(request));
    for (int i = 0; begin(); i++) {
        if (i % 2 == 0) {
            finish();
            continue;
        }
        rig.backend.ops->abort(&rig.backend);
        scheduler_absorb_abort(s, now_ns);
        listen_all();
    }
    assert_as_expected(&request);
}

Test(scheduler, job_waits_for_pages_and_is_not_overtaken) {
    open_all(small, 8);
    cr_assert(submit(request_of(1, 1, 60, 30))); /* 6 of 8 pages */
    cr_assert(submit(request_of(1, 2, 40, 30))); /* 5 */
    cr_assert(submit(request_of(1, 3, 5, 5)));   /* 1: there is room, but not its turn */
    step();
    cr_assert_null(event_of(2, EVENT_STARTED, 0));
    cr_assert_null(event_of(3, EVENT_STARTED, 0));
    run_all();
    cr_assert(event_of(2, EVENT_STARTED, 0) < event_of(3, EVENT_STARTED, 0));
    assert_idle_and_nothing_leaked();
}

/* --- scores ------------------------------------------------------------------------------------
 */

Test(scheduler, score_gives_the_logprob_of_every_token_after_the_first) {
    open_all(small, 32);
    struct job_request warm = request_of(1, 1, 40, 4), request = warm;
    cr_assert(submit(warm)); /* its pages hold no logits: they must not be taken for the score */
    run_all();
    request.id.tag = 2;
    request.kind = JOB_SCORE;
    request.logprobs = 3;
    cr_assert(submit(request));
    run_all();
    const struct event *end = event_of(2, EVENT_END, 0);
    float logits[RIG_VOCAB];
    double sum = 0;
    cr_assert_eq(count_of(2, EVENT_SCORE), 39);
    for (uint32_t i = 0; i < 39; i++) {
        const struct event *score = event_of(2, EVENT_SCORE, i);
        rig_logits(prompt, i + 1, logits);
        double logprob = sampler_logprob(logits, RIG_VOCAB, prompt[i + 1]);
        cr_assert_eq(score->index, i + 1);
        cr_assert_eq(score->token, prompt[i + 1]);
        cr_assert_eq(score->n_top, 3);
        cr_assert(fabs(score->logprob - logprob) < 1e-12);
        sum += logprob;
    }
    cr_assert(fabs(end->logprob_sum - sum) < 1e-9);
    cr_assert_eq(end->tokens, 39);
    assert_idle_and_nothing_leaked();
}

Test(scheduler, score_of_one_token_ends_at_once) {
    open_all(small, 32);
    struct job_request request = request_of(1, 1, 1, 0);
    request.kind = JOB_SCORE;
    cr_assert(submit(request));
    cr_assert_eq(count_of(1, EVENT_STARTED), 1);
    cr_assert_eq(event_of(1, EVENT_END, 0)->tokens, 0);
    assert_idle_and_nothing_leaked();
}

Test(scheduler, score_beside_decoding_jobs_keeps_within_the_logits_there_are) {
    struct scheduler_limits limits = small;
    limits.slots = 4;
    limits.chunk = 64;
    open_all(limits, 64);
    struct job_request first = request_of(1, 1, 10, 30);
    cr_assert(submit(first));
    cr_assert(submit(request_of(1, 2, 10, 30)));
    step();
    struct job_request score = request_of(1, 3, 60, 0);
    score.kind = JOB_SCORE;
    cr_assert(submit(score));
    cr_assert(begin());
    cr_assert_eq(batch.n_rows, 8); /* 2 to decode, 6 to score */
    finish();
    run_all();
    cr_assert_eq(count_of(3, EVENT_SCORE), 59);
    first = request_of(1, 1, 10, 30);
    assert_as_expected(&first);
}

Test(scheduler, counts_tell_what_happened) {
    open_all(small, 32);
    struct scheduler_counts counts;
    cr_assert(submit(request_of(1, 1, 40, 5)));
    cr_assert(submit(request_of(1, 2, 10, 5)));
    scheduler_cancel(s, (struct job_id){1, 2}, now_ns);
    cr_assert_eq(refusal(request_of(1, 1, 10, 5)), FAULT_TAG_IN_USE);
    run_all();
    struct job_request again = request_of(1, 1, 40, 5);
    again.id.tag = 3;
    cr_assert(submit(again));
    scheduler_drop_client(s, 1);
    scheduler_counts(s, &counts);
    cr_assert_eq(counts.jobs_completed, 1);
    cr_assert_eq(counts.jobs_cancelled, 1);
    cr_assert_eq(counts.jobs_refused, 1);
    cr_assert_eq(counts.jobs_dropped, 1);
    cr_assert_eq(counts.tokens_in, 90);
    cr_assert_eq(counts.tokens_out, 5);
    cr_assert_eq(counts.tokens_reused, 32);
    cr_assert_eq(counts.inference_ns, 7 * (uint64_t)MS);
}

Test(scheduler, stop_reasons_have_the_words_of_the_protocol) {
    const char *words[] = {"MAX_TOKENS", "EOS", "STOP_SEQUENCE", "CANCELLED", "ERROR"};
    for (int i = 0; i <= STOP_ERROR; i++)
        cr_assert_str_eq(stop_reason_word((enum stop_reason)i), words[i]);
}

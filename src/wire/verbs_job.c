/* The verbs that make jobs and end them: GEN PUT RUN STOP SCORE. */
#include <stdio.h>

#include "base/clock.h"
#include "base/panic.h"
#include "wire/reply.h"
#include "wire/server.h"
#include "wire/verbs.h"

/* Text -> server->ids. Fewer than `least` tokens, or more than the context, are refused. Returns
 * their number; 0: refused and answered. */
static uint32_t prompt_encode(struct server *server, struct client *client,
                              const struct command *command, uint32_t least) {
    struct engine *engine = server->engine;
    struct vocab_encode_options options = {.add_bos = command->bos_set ? command->bos
                                                                       : engine->vocab.add_bos,
                                           .parse_special = command->parse_special};
    wick_assert(command->text.length > 0 && command->text.length <= ENGINE_TEXT_MAX);
    size_t n = vocab_encode(&engine->vocab, &engine->scratch, command->text.bytes,
                            command->text.length, options, server->ids, engine->ctx + 1);
    if (n > engine->ctx) {
        struct fault fault;
        fault_set(&fault, FAULT_PROMPT_TOO_LONG,
                  "%zu prompt tokens are more than ctx=%u; shorten the text", n, engine->ctx);
        reply_fault(&client->output, command->tag, &fault);
        return 0;
    }
    if (n >= least) return (uint32_t)n;
    struct command_errors errors = {.n = 0};
    command_error_add(&errors, command->verb->text_name,
                      least == 1 ? "at least 1 token" : "at least 2 tokens");
    server->metrics.invalid++;
    reply_errors(&client->output, command->tag, &errors);
    return 0;
}

/* What the context, and the KV cache if it is smaller, leave after the prompt; at least 1, so that
 * a prompt that leaves nothing is refused as too long. */
static uint32_t max_tokens_left(const struct server *server, uint32_t n_tokens) {
    uint64_t room = (uint64_t)server->engine->n_pages * KV_PAGE_TOKENS;
    if (room > server->engine->ctx) room = server->engine->ctx;
    uint64_t left = room > n_tokens ? room - n_tokens : 1;
    return left < JOB_MAX_TOKENS ? (uint32_t)left : JOB_MAX_TOKENS;
}

static void job_submit(struct server *server, struct client *client, const struct command *command,
                       enum job_kind kind) {
    uint32_t n_tokens = prompt_encode(server, client, command, kind == JOB_SCORE ? 2 : 1);
    if (n_tokens == 0) return;
    struct job_request request = {.id = {client->number, command->tag},
                                  .kind = kind,
                                  .tokens = server->ids,
                                  .n_tokens = n_tokens,
                                  .max_tokens = command->max_tokens,
                                  .sampling = command->sampling,
                                  .n_stop = command->n_stop,
                                  .logprobs = command->logprobs,
                                  .bytes = command->bytes,
                                  .ignore_eos = command->ignore_eos,
                                  .deadline_ms = command->deadline_ms};
    for (uint32_t i = 0; i < command->n_stop; i++) request.stop[i] = command->stop[i];
    if (kind == JOB_GENERATE && request.max_tokens == 0) {
        request.max_tokens = max_tokens_left(server, n_tokens);
    }
    struct fault fault;
    struct replay_ring *ring = NULL;
    if (client->seal.kind == SEAL_CRC) {
        ring = replay_take(&server->replay, client->number, command->tag);
        if (ring == NULL) {
            fault_set(&fault, FAULT_BUSY, "all %u rings for REPLAY are taken; try again",
                      server->replay.n_rings);
            reply_fault(&client->output, command->tag, &fault);
            return;
        }
    }
    if (!command->seed_set) request.sampling.seed = sampler_rng_next(&server->seeds);

    if (!scheduler_submit(server->scheduler, &request, clock_ns(), &fault)) {
        if (ring != NULL) replay_release(ring);
        reply_fault(&client->output, command->tag, &fault);
        server_deliver(server);
        return;
    }
    jobs_add(&server->jobs, client, &request, ring);
    struct staged *staged = staging_find(&server->staging, client->number, command->tag);
    if (staged != NULL) staging_release(staged);
    server_deliver(server);
}

void verb_gen(struct server *server, struct client *client, const struct command *command) {
    job_submit(server, client, command, JOB_GENERATE);
}

void verb_run(struct server *server, struct client *client, const struct command *command) {
    job_submit(server, client, command, JOB_GENERATE);
}

void verb_score(struct server *server, struct client *client, const struct command *command) {
    job_submit(server, client, command, JOB_SCORE);
}

void verb_put(struct server *server, struct client *client, const struct command *command) {
    struct staged *staged = staging_find(&server->staging, client->number, command->tag);
    bool first = staged == NULL;
    if (first) staged = staging_take(&server->staging, client->number, command->tag);
    struct fault fault;
    if (staged == NULL) {
        fault_set(&fault, FAULT_BUSY, "all %u staging places are taken; try again",
                  server->staging.n_places);
        reply_fault(&client->output, command->tag, &fault);
        return;
    }
    uint32_t chars;
    uint32_t at = command->at_set ? command->at : staged->bytes;
    bool fits = at <= staged->bytes;
    if (!fits || staging_put(staged, at, command->text.bytes, command->text.length, &chars) !=
                     STAGING_DONE) {
        struct command_errors errors = {.n = 0};
        char limits[48];
        snprintf(limits, sizeof limits, "0..%u", staged->bytes);
        if (fits) {
            wick_assert(!first); /* a line is far from the limit */
            command_error_add(&errors, command->verb->text_name, command_text_limits);
        } else {
            command_error_add(&errors, "at", limits);
        }
        if (first) staging_release(staged);
        server->metrics.invalid++;
        reply_errors(&client->output, command->tag, &errors);
        return;
    }
    reply_text(&client->output, 210, command->tag, "put chars=%u bytes=%u", chars, staged->bytes);
}

/* The job's own last line comes first. */
void verb_stop(struct server *server, struct client *client, const struct command *command) {
    struct job_id id = {client->number, command->tag};
    bool stopped = scheduler_cancel(server->scheduler, id, clock_ns());
    server_deliver(server);
    struct staged *staged = staging_find(&server->staging, client->number, command->tag);
    if (staged != NULL) {
        staging_release(staged);
        stopped = true;
    }
    reply_text(&client->output, 230, command->tag, stopped ? "stopped" : "idle");
}

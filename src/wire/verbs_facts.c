/* The verbs that tell facts: HELLO HEALTH INFO METRICS HELP PING. */
#include "base/build_id.h"
#include "base/clock.h"
#include "base/panic.h"
#include "wire/line.h"
#include "wire/reply.h"
#include "wire/server.h"
#include "wire/verbs.h"

void verb_hello(struct server *server, struct client *client, const struct command *command) {
    /* Its proto, if given, is ours: the table allows no other. */
    if (command->crc && client->seal.kind == SEAL_MAC) {
        struct command_errors errors = {.n = 0};
        command_error_add(&errors, "crc", "0: lines have a MAC already");
        server->metrics.invalid++;
        reply_errors(&client->output, 0, &errors);
        return;
    }
    if (client->seal.kind != SEAL_MAC) {
        struct seal seal = {.kind = command->crc ? SEAL_CRC : SEAL_NONE};
        client_seal(client, &seal);
    }
    reply_text(&client->output, 220, 0, "wick proto=%d%s", SERVER_PROTO,
               command->crc ? " crc=1" : "");
}

void verb_ping(struct server *server, struct client *client, const struct command *command) {
    (void)server;
    (void)command;
    reply_text(&client->output, 200, 0, "pong");
}

static double uptime_s(const struct server *server) {
    return (double)(clock_ns() - server->opened_ns) / 1e9;
}

static const char *status_word(const struct server *server, const struct scheduler_counts *counts) {
    if (server->failed) return "failed";
    if (server->phase == SERVER_LOADING || server->phase == SERVER_LOADED) return "loading";
    if (server->draining) return "draining";
    return counts->slots_free == 0 ? "busy" : "ready";
}

/* What is wrong, and what is not as it was asked for. */
static void health_troubles(const struct server *server, struct line *line) {
    if (server->failed) {
        line_add(line, " code=%s reason=", fault_kind(server->failure.code)->word);
        line_string(line, server->failure.text);
    }
    char notice[HOST_NOTICE_BYTES] = "";
    if (server->host != NULL) server->host->ops->notice(server->host, notice);
    if (notice[0] == '\0') return;
    line_add(line, " notice=");
    line_string(line, notice);
}

void verb_health(struct server *server, struct client *client, const struct command *command) {
    (void)command;
    const struct engine *engine = server->engine;
    const struct model_geometry *geo = &engine->model.geo;
    const struct backend_info *info = &engine->backend->info;
    struct scheduler_counts counts;
    scheduler_counts(server->scheduler, &counts);
    bool loads = server->phase == SERVER_LOADING;
    bool resident = !loads && server->phase != SERVER_DOWN;

    struct line line;
    line_begin(&line, 201, LINE_LAST, 0);
    line_add(&line, "status=%s", status_word(server, &counts));
    if (loads) line_add(&line, " percent=%u", server->percent);
    line_add(&line, " model=");
    line_string(&line, geo->name);
    line_add(&line, " architecture=%s quantisation=%s resident=%s", geo->architecture,
             geo->quantisation, resident ? "yes" : "no");
    line_add(&line, " weight_bytes=%llu kv_bytes=%llu arena_bytes=%zu vram_bytes=%llu",
             (unsigned long long)info->weight_bytes, (unsigned long long)info->kv_bytes,
             server->arena->used, (unsigned long long)info->vram_bytes);
    line_add(&line, " tokenizer=%s vocab=%u ctx=%u", engine->vocab.kind_name,
             engine->vocab.n_tokens, engine->ctx);
    line_add(&line, " slots_free=%u slots=%u queued=%u queue=%u uptime_s=%.0f", counts.slots_free,
             counts.slots, counts.queued, counts.queue, uptime_s(server));
    line_add(&line, " backend=%s isa=%s device=", info->name, info->isa);
    line_string(&line, info->device);
    line_add(&line, " proto=%d build=", SERVER_PROTO);
    line_string(&line, build_id());
    health_troubles(server, &line);
    line_send(&line, &client->output);
}

/* One fact a line. */
static void info_text(struct client *client, const char *name, const char *value) {
    struct line line;
    line_begin(&line, 202, LINE_MORE, 0);
    line_add(&line, "%s=", name);
    line_string(&line, value);
    line_send(&line, &client->output);
}

static void info_number(struct client *client, const char *name, long long value) {
    reply_more(&client->output, 202, 0, "%s=%lld", name, value);
}

static void info_model(const struct engine *engine, struct client *client) {
    const struct model_geometry *geo = &engine->model.geo;
    const struct vocab *vocab = &engine->vocab;
    info_text(client, "model", geo->name);
    info_text(client, "architecture", geo->architecture);
    info_text(client, "quantisation", geo->quantisation);
    if (engine->pin.hex[0] != '\0') info_text(client, "sha256", engine->pin.hex);
    info_number(client, "layers", geo->n_layers);
    info_number(client, "dim", geo->dim);
    info_number(client, "ffn", geo->ffn);
    info_number(client, "heads", geo->n_heads);
    info_number(client, "kv_heads", geo->n_kv_heads);
    info_number(client, "head_dim", geo->head_dim);
    info_number(client, "vocab", vocab->n_tokens);
    info_text(client, "tokenizer", vocab->kind_name);
    info_text(client, "pre", vocab->pre_name);
    info_number(client, "ctx_train", geo->ctx_train);
    info_number(client, "bos", vocab->bos);
    info_number(client, "eos", vocab->eos);
    info_number(client, "add_bos", vocab->add_bos);
    info_text(client, "chat_format", vocab->chat_format);
}

static void info_server(const struct server *server, struct client *client) {
    const struct config *config = server->config;
    const struct engine *engine = server->engine;
    const struct backend_info *info = &engine->backend->info;
    static const char *const kv_types[] = {
        [CONFIG_KV_F16] = "f16", [CONFIG_KV_F32] = "f32", [CONFIG_KV_Q8_0] = "q8_0"};
    wick_assert(config->kv_type < sizeof kv_types / sizeof *kv_types);
    struct scheduler_counts counts;
    scheduler_counts(server->scheduler, &counts);
    info_number(client, "ctx", engine->ctx);
    info_number(client, "slots", counts.slots);
    info_number(client, "queue", counts.queue);
    info_number(client, "chunk", config->chunk);
    info_text(client, "kv_type", kv_types[config->kv_type]);
    info_number(client, "kv_pages", counts.pages);
    info_number(client, "kv_pages_free", counts.pages_free);
    info_number(client, "kv_pages_cached", counts.pages_cached);
    info_text(client, "backend", info->name);
    info_text(client, "isa", info->isa);
    info_text(client, "device", info->device);
    for (int i = 0; engine->gpu != NULL && i < engine->gpu->list.n; i++) {
        char gpu[GPU_LINE_BYTES_MAX];
        gpu_device_line(engine->gpu, (uint32_t)i, gpu);
        info_text(client, "gpu", gpu);
    }
    info_number(client, "deadline_ms", config->deadline_ms);
    info_number(client, "stall_ms", config->stall_ms);
    info_number(client, "drain_ms", config->drain_ms);
    info_number(client, "max_tokens", JOB_MAX_TOKENS);
    info_number(client, "prompt_chars", ENGINE_PROMPT_CHARS_MAX);
    info_number(client, "line_bytes", FRAME_LINE_MAX);
    info_number(client, "connections", server_connections(server));
    info_number(client, "connections_max", WIRE_CLIENTS_MAX);
    for (uint32_t i = 0; i < server->n_wires; i++) {
        info_text(client, "listen", server->wire[i].name);
    }
}

void verb_info(struct server *server, struct client *client, const struct command *command) {
    (void)command;
    info_text(client, "build", build_id());
    info_number(client, "proto", SERVER_PROTO);
    info_model(server->engine, client);
    info_server(server, client);
    reply_text(&client->output, 202, 0, "end");
}

void verb_metrics(struct server *server, struct client *client, const struct command *command) {
    (void)command;
    struct metrics_view view = {.connections = server_connections(server),
                                .uptime_s = uptime_s(server)};
    scheduler_counts(server->scheduler, &view.counts);
    metrics_reply(&server->metrics, &view, &client->output);
}

/* Both tables as they are. */
void verb_help(struct server *server, struct client *client, const struct command *command) {
    (void)command;
    for (const struct verb *verb = verbs; verb->name != NULL; verb++) {
        const char *space = verb->syntax[0] != '\0' ? " " : "";
        reply_more(&client->output, 204, 0, "%s%s%s: %s", verb->name, space, verb->syntax,
                   verb->help);
    }
    for (const struct field *field = fields; field->name != NULL; field++) {
        char limits[48];
        field_limits(field, server->engine->vocab.n_tokens, limits);
        reply_more(&client->output, 204, 0, "%s=%s: %s (default: %s)", field->name, limits,
                   field->help, field->initial);
    }
    reply_text(&client->output, 204, 0, "docs/PROTOCOL.md has the rest");
}

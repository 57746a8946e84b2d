#include "lab/plan.h"

#include <stdio.h>

#include "engine/plan.h"
#include "lab/session.h"
#include "wire/server.h"

static void print_table(const struct arena *arena, const struct engine *engine) {
    char line[PLAN_LINE_BYTES];
    for (size_t i = 0; plan_line(arena, engine, i, line) != NULL; i++) printf("%s\n", line);
}

static void print_json(const struct arena *arena, const struct engine *engine) {
    printf("{\"ctx\":%u,\"slots\":%u,\"pages\":%u,\"arena_bytes\":%zu,\"file_bytes\":%llu,"
           "\"sections\":{",
           engine->ctx, engine->slots, engine->n_pages, arena->used,
           (unsigned long long)engine->file_bytes);
    for (uint32_t i = 0; i < arena->n_sections; i++)
        printf("%s\"%s\":%zu", i > 0 ? "," : "", arena->section[i].name, arena->section[i].bytes);
    printf("}}\n");
}

int plan_run(const struct config *config) {
    static struct engine engine; /* both are big */
    static struct server server;
    struct arena arena;
    struct fault fault;
    if (!engine_map(&engine, config, &fault)) return session_fail(&fault);
    arena_measure(&arena);
    if (!engine_carve(&engine, &arena, &fault)) return session_fail(&fault);
    server_carve(&server, config, &engine, &arena);
    if (config->json)
        print_json(&arena, &engine);
    else
        print_table(&arena, &engine);
    bool fits = engine_fits(&engine, arena.used, server_measure, &fault);
    engine_close(&engine);
    return fits ? 0 : session_fail(&fault);
}

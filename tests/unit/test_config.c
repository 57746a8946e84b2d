#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/config.h"
#include "base/log.h"
#include "cpu/team.h"
#include "engine/scheduler.h"
#include "model/model.h"

static const uint32_t all_uses[] = {CONFIG_SERVE,      CONFIG_INSPECT, CONFIG_PLAN, CONFIG_TOKENIZE,
                                    CONFIG_RUN,        CONFIG_LOGITS,  CONFIG_DUMP, CONFIG_BENCH,
                                    CONFIG_MAKE_MODEL, CONFIG_SCORE,   CONFIG_DIFF};

static struct config config;
static struct fault fault;

/* Parses a NULL-terminated argv over the defaults. */
static bool parse(uint32_t use, char **argv) {
    int argc = 0;
    while (argv[argc] != NULL) argc++;
    char asked;
    config_defaults(&config, use);
    return config_from_argv(&config, use, argc, argv, &asked, &fault);
}
#define ARGS(...)                                                                                  \
    (char *[]) {                                                                                   \
        __VA_ARGS__, NULL                                                                          \
    }

static const struct config_key *row_of(const char *name, uint32_t use) {
    for (const struct config_key *row = NULL; (row = config_next(row)) != NULL;) {
        if (strcmp(row->name, name) == 0 && (row->uses & use) != 0) return row;
    }
    cr_assert_fail("no key %s", name);
    return NULL;
}

Test(config, no_use_has_a_key_twice) {
    for (const struct config_key *a = NULL; (a = config_next(a)) != NULL;) {
        for (const struct config_key *b = config_next(NULL); b != a; b = config_next(b)) {
            cr_assert(strcmp(a->name, b->name) != 0 || (a->uses & b->uses) == 0, "%s", a->name);
        }
    }
}

Test(config, every_row_is_in_use_and_every_default_passes_its_own_check) {
    for (const struct config_key *row = NULL; (row = config_next(row)) != NULL;) {
        cr_assert_neq(row->uses, 0, "%s", row->name);
        cr_assert_lt(row->offset, sizeof config);
        for (size_t i = 0; i < sizeof all_uses / sizeof all_uses[0]; i++) {
            if ((row->uses & all_uses[i]) == 0 || row->initial == NULL) continue;
            cr_assert(config_set(&config, all_uses[i], row->name, row->initial, &fault), "%s",
                      fault.text);
        }
    }
    for (size_t i = 0; i < sizeof all_uses / sizeof all_uses[0]; i++) {
        config_defaults(&config, all_uses[i]);
    }
}

Test(config, limits_agree_with_the_modules_that_own_them) {
    cr_assert_eq(row_of("threads", CONFIG_SERVE)->max, TEAM_THREADS_MAX);
    cr_assert_eq(row_of("slots", CONFIG_SERVE)->max, SCHEDULER_SLOTS_MAX);
    cr_assert_eq(row_of("queue", CONFIG_SERVE)->max, SCHEDULER_QUEUE_MAX);
    cr_assert_eq(row_of("ctx", CONFIG_SERVE)->max, MODEL_CTX_MAX);
    cr_assert_eq(row_of("max_tokens", CONFIG_RUN)->max, JOB_MAX_TOKENS);
    cr_assert_leq(row_of("chunk", CONFIG_SERVE)->max + SCHEDULER_SLOTS_MAX, BATCH_ROWS_MAX);
    cr_assert_eq(row_of("dim", CONFIG_MAKE_MODEL)->max, MODEL_DIM_MAX);
    cr_assert_eq(row_of("layers", CONFIG_MAKE_MODEL)->max, MODEL_LAYERS_MAX);
    cr_assert_eq(row_of("head_dim", CONFIG_MAKE_MODEL)->max, MODEL_HEAD_DIM_MAX);
    cr_assert_eq(CONFIG_STOP_MAX, JOB_STOP_MAX);
}

Test(config, defaults_are_the_documented_ones) {
    config_defaults(&config, CONFIG_SERVE);
    cr_assert_eq(config.slots, 4);
    cr_assert_eq(config.chunk, 256);
    cr_assert_eq(config.queue, 16);
    cr_assert_eq(config.kv_type, CONFIG_KV_F16);
    cr_assert_eq(config.stall_ms, 10000);
    cr_assert_eq(config.drain_ms, 30000);
    cr_assert_eq(config.log_level, LOG_INFO);
    cr_assert_eq(config.n_listen, 0);
    cr_assert_str_eq(config.isa, "auto");
    config_defaults(&config, CONFIG_RUN);
    cr_assert_eq(config.temperature, 1);
    cr_assert_eq(config.top_p, 1);
    cr_assert_eq(config.min_p, 0);
    cr_assert_eq(config.repetition_penalty, 1);
    cr_assert_not(config.seed_set);
    cr_assert_not(config.add_bos_set);
}

Test(config, commands_that_measure_weights_default_to_an_exact_cache) {
    config_defaults(&config, CONFIG_LOGITS);
    cr_assert_eq(config.kv_type, CONFIG_KV_F32);
    config_defaults(&config, CONFIG_DUMP);
    cr_assert_eq(config.kv_type, CONFIG_KV_F32);
    cr_assert(parse(CONFIG_LOGITS, ARGS("kv=q8_0")));
    cr_assert_eq(config.kv_type, CONFIG_KV_Q8_0);
}

Test(config, three_spellings_mean_the_same) {
    cr_assert(parse(CONFIG_RUN, ARGS("max_tokens=7")));
    cr_assert_eq(config.max_tokens, 7);
    cr_assert(parse(CONFIG_RUN, ARGS("--max-tokens=7")));
    cr_assert_eq(config.max_tokens, 7);
    cr_assert(parse(CONFIG_RUN, ARGS("--max_tokens", "7")));
    cr_assert_eq(config.max_tokens, 7);
    cr_assert(parse(CONFIG_RUN, ARGS("max-tokens=7", "prompt-file=x=y")));
    cr_assert_str_eq(config.prompt_file, "x=y");
}

Test(config, bare_word_is_the_model_once) {
    cr_assert(parse(CONFIG_SERVE, ARGS("tales.gguf", "slots=2")));
    cr_assert_str_eq(config.model, "tales.gguf");
    cr_assert_not(parse(CONFIG_SERVE, ARGS("tales.gguf", "other.gguf")));
    cr_assert_not(parse(CONFIG_MAKE_MODEL, ARGS("tales.gguf")));
    cr_assert_not(parse(CONFIG_SERVE, ARGS("-x")));
}

Test(config, bare_words_fill_the_keys_that_take_them_in_order) {
    cr_assert(parse(CONFIG_DIFF, ARGS("a.gguf", "b.gguf", "text.txt")), "%s", fault.text);
    cr_assert_str_eq(config.model, "a.gguf");
    cr_assert_str_eq(config.model_b, "b.gguf");
    cr_assert_str_eq(config.file, "text.txt");
    cr_assert(parse(CONFIG_DIFF, ARGS("file=text.txt", "a.gguf")));
    cr_assert_null(config.model_b);
    cr_assert(parse(CONFIG_SCORE, ARGS("a.gguf", "text.txt")));
    cr_assert_str_eq(config.file, "text.txt");
    cr_assert_not(parse(CONFIG_SCORE, ARGS("a.gguf", "text.txt", "more")));
}

Test(config, flag_without_value_is_on) {
    cr_assert(parse(CONFIG_BENCH, ARGS("--json", "m.gguf")));
    cr_assert(config.json);
    cr_assert_str_eq(config.model, "m.gguf");
    cr_assert(parse(CONFIG_BENCH, ARGS("--json", "0", "m.gguf")));
    cr_assert_not(config.json);
    cr_assert(parse(CONFIG_RUN, ARGS("add_bos=0")));
    cr_assert(config.add_bos_set);
    cr_assert_not(config.add_bos);
}

Test(config, processors_are_a_list_and_a_bad_one_is_told_by_its_place) {
    cr_assert(parse(CONFIG_SERVE, ARGS("cpus=8,0-2")), "%s", fault.text);
    cr_assert_eq(config.cpus.n, 4);
    cr_assert_eq(config.cpus.number[0], 8);
    cr_assert(parse(CONFIG_BENCH, ARGS("--cpus", "1")), "%s", fault.text);
    cr_assert_not(parse(CONFIG_SERVE, ARGS("cpus=0-3,x")));
    cr_assert_not_null(strstr(fault.text, "cpus='0-3,x': wrong at character 5: want "), "%s",
                       fault.text);
    cr_assert_not_null(strstr(fault.text, "0-3,8"), "%s", fault.text);
    char line[] = "quiet wick.cpus=1-2";
    config_defaults(&config, CONFIG_SERVE);
    cr_assert(config_from_cmdline(&config, CONFIG_SERVE, line, &fault));
    cr_assert_eq(config.cpus.n, 2);
}

Test(config, sizes_take_suffixes) {
    cr_assert(parse(CONFIG_SERVE, ARGS("memory=3G")));
    cr_assert_eq(config.memory, 3ull << 30);
    cr_assert(parse(CONFIG_SERVE, ARGS("memory=512k")));
    cr_assert_eq(config.memory, 512u << 10);
    cr_assert(parse(CONFIG_SERVE, ARGS("memory=1T")));
    cr_assert_eq(config.memory, 1ull << 40);
    cr_assert_not(parse(CONFIG_SERVE, ARGS("memory=1KB")));
    cr_assert_not(parse(CONFIG_SERVE, ARGS("memory=99999999999999G")));
    cr_assert_not(parse(CONFIG_SERVE, ARGS("slots=1K")));
}

Test(config, values_out_of_range_or_shape_are_refused_by_name) {
    static const struct {
        uint32_t use;
        const char *key;
        const char *value;
    } bad[] = {
        {CONFIG_SERVE, "slots", "0"},
        {CONFIG_SERVE, "slots", "65"},
        {CONFIG_SERVE, "slots", "-1"},
        {CONFIG_SERVE, "slots", "+1"},
        {CONFIG_SERVE, "slots", ""},
        {CONFIG_SERVE, "slots", " 4"},
        {CONFIG_SERVE, "slots", "4x"},
        {CONFIG_SERVE, "ctx", "18446744073709551617"},
        {CONFIG_SERVE, "ctx", "4294967297"},
        {CONFIG_SERVE, "kv", "f8"},
        {CONFIG_SERVE, "kv", "f16|f32"},
        {CONFIG_SERVE, "kv", ""},
        {CONFIG_SERVE, "isa", "AVX2"},
        {CONFIG_RUN, "temperature", "nan"},
        {CONFIG_RUN, "temperature", "inf"},
        {CONFIG_RUN, "temperature", "2.01"},
        {CONFIG_RUN, "temperature", "-0.1"},
        {CONFIG_RUN, "temperature", "1,5"},
        {CONFIG_RUN, "top_p", "1e400"},
        {CONFIG_RUN, "top_p", "-nan"},
        {CONFIG_RUN, "max_tokens", "2049"},
        {CONFIG_RUN, "json", "yes"},
        {CONFIG_RUN, "seed", "18446744073709551616"},
        {CONFIG_SERVE, "model", ""},
        {CONFIG_SERVE, "listen", ""},
        {CONFIG_SERVE, "cpus", "0-"},
        {CONFIG_SERVE, "cpus", ""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        config_defaults(&config, bad[i].use);
        unsigned char before[sizeof config];
        memcpy(before, &config, sizeof config);
        cr_assert_not(config_set(&config, bad[i].use, bad[i].key, bad[i].value, &fault), "%s=%s",
                      bad[i].key, bad[i].value);
        cr_assert_eq(fault.code, FAULT_INVALID_REQUEST);
        cr_assert_eq(strncmp(fault.text, bad[i].key, strlen(bad[i].key)), 0, "%s", fault.text);
        cr_assert_arr_eq(before, (const unsigned char *)&config, sizeof config,
                         "%s must leave config alone", bad[i].key);
    }
}

Test(config, largest_seed_is_kept_exactly) {
    cr_assert(parse(CONFIG_RUN, ARGS("seed=18446744073709551615")));
    cr_assert_eq(config.seed, UINT64_MAX);
    cr_assert(config.seed_set);
}

Test(config, unknown_key_names_the_nearest) {
    cr_assert_not(parse(CONFIG_RUN, ARGS("temprature=1")));
    cr_assert_not_null(strstr(fault.text, "did you mean 'temperature'"), "%s", fault.text);
    cr_assert_not(parse(CONFIG_SERVE, ARGS("--slot", "4")));
    cr_assert_not_null(strstr(fault.text, "did you mean 'slots'"), "%s", fault.text);
    cr_assert_not(parse(CONFIG_SERVE, ARGS("frobnicate=1")));
    cr_assert_null(strstr(fault.text, "did you mean"), "%s", fault.text);
    char key[4000];
    memset(key, 'k', sizeof key);
    key[sizeof key - 1] = '\0';
    cr_assert_not(config_set(&config, CONFIG_SERVE, key, "1", &fault));
}

Test(config, key_of_another_command_is_told_apart_from_an_unknown_one) {
    cr_assert_not(parse(CONFIG_RUN, ARGS("listen=stdio")));
    cr_assert_not_null(strstr(fault.text, "no use here"), "%s", fault.text);
}

Test(config, missing_value_is_named) {
    cr_assert_not(parse(CONFIG_SERVE, ARGS("--slots")));
    cr_assert_not_null(strstr(fault.text, "--slots needs a value"), "%s", fault.text);
}

Test(config, lists_collect_until_they_are_full) {
    cr_assert(parse(CONFIG_SERVE, ARGS("listen=stdio", "--listen", "unix:/tmp/w")));
    cr_assert_eq(config.n_listen, 2);
    cr_assert_str_eq(config.listen[1], "unix:/tmp/w");
    for (int i = 2; i < CONFIG_LISTEN_MAX; i++) {
        cr_assert(config_set(&config, CONFIG_SERVE, "listen", "stdio", &fault));
    }
    cr_assert_not(config_set(&config, CONFIG_SERVE, "listen", "stdio", &fault));
    cr_assert_eq(config.n_listen, CONFIG_LISTEN_MAX);
}

Test(config, help_and_version_stop_the_parse) {
    char asked;
    config_defaults(&config, CONFIG_SERVE);
    cr_assert(config_from_argv(&config, CONFIG_SERVE, 2, ARGS("--help", "bad=1"), &asked, &fault));
    cr_assert_eq(asked, 'h');
    cr_assert(config_from_argv(&config, CONFIG_SERVE, 1, ARGS("-V"), &asked, &fault));
    cr_assert_eq(asked, 'V');
}

Test(config, kernel_command_line_takes_only_its_own_words) {
    char line[] =
        "quiet console=ttyS0 wick.slots=2 root=/dev/vda wick.listen=tty:/dev/ttyS1,115200 "
        "nosmp wick.model=\"a b.gguf\"\n";
    config_defaults(&config, CONFIG_SERVE);
    cr_assert(config_from_cmdline(&config, CONFIG_SERVE, line, &fault), "%s", fault.text);
    cr_assert_eq(config.slots, 2);
    cr_assert_str_eq(config.listen[0], "tty:/dev/ttyS1,115200");
    cr_assert_str_eq(config.model, "a b.gguf");
}

Test(config, kernel_command_line_faults_like_argv) {
    char unknown[] = "wick.slot=2";
    char bare[] = "wick.slots";
    char empty[] = "   ";
    cr_assert_not(config_from_cmdline(&config, CONFIG_SERVE, unknown, &fault));
    cr_assert_not(config_from_cmdline(&config, CONFIG_SERVE, bare, &fault));
    cr_assert(config_from_cmdline(&config, CONFIG_SERVE, empty, &fault));
}

Test(config, kernel_command_line_goes_on_after_a_bad_word_and_tells_the_first) {
    char line[] = "wick.slot=2 wick.ctx=x wick.listen=tty:/dev/hvc0 wick.queue=7";
    config_defaults(&config, CONFIG_SERVE);
    cr_assert_not(config_from_cmdline(&config, CONFIG_SERVE, line, &fault));
    cr_assert_not_null(strstr(fault.text, "'slot'"), "%s", fault.text);
    cr_assert_eq(config.n_listen, 1);
    cr_assert_eq(config.queue, 7);
}

Test(config, help_lists_exactly_the_keys_of_the_use) {
    static char text[1 << 16];
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    fcntl(ends[1], F_SETPIPE_SZ, (int)sizeof text);
    config_help(ends[1], CONFIG_LOGITS);
    close(ends[1]);
    size_t length = 0;
    for (ssize_t n; (n = read(ends[0], text + length, sizeof text - 1 - length)) > 0;) {
        length += (size_t)n;
    }
    text[length] = '\0';
    for (const struct config_key *row = NULL; (row = config_next(row)) != NULL;) {
        char usage[64];
        snprintf(usage, sizeof usage, "  %s=%s ", row->name, row->kind);
        bool used = (row->uses & CONFIG_LOGITS) != 0;
        if (used) cr_assert_not_null(strstr(text, usage), "%s", usage);
    }
    cr_assert_null(strstr(text, "  listen="));
    cr_assert_not_null(strstr(text, "[f32]"));
}

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "wickctl/chat_style.h"
#include "wickctl/conversation.h"

/* A conversation of two turns, the second one open. */
static struct conversation talk(const char *system) {
    struct conversation c = {0};
    conversation_set_system(&c, system);
    conversation_say(&c, "Who are you?");
    conversation_answer(&c, "A fox.", strlen("A fox."));
    conversation_say(&c, "Where from?");
    return c;
}

static void drop(struct conversation *c) {
    conversation_reset(c);
    conversation_set_system(c, NULL);
    free(c->turn);
}

static void expect(const char *name, const char *system, const char *want) {
    const struct chat_style *style = chat_style_find(name);
    struct conversation c = talk(system);
    struct text out = {0};
    cr_assert_not_null(style);
    chat_style_write(style, &c, &out);
    cr_expect_str_eq(out.bytes, want, "%s", name);
    text_free(&out);
    drop(&c);
}

/* What is expected is what the published templates of these models render (chat_style.c names the
 * models), less the begin-of-text token, which the server puts in front. */
Test(chat_style, conversations_are_written_as_the_published_templates_do) {
    expect("llama2", "Be brief.",
           "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWho are you? [/INST] A fox. </s>"
           "<s>[INST] Where from? [/INST]");
    expect("llama3", "Be brief.",
           "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
           "<|start_header_id|>user<|end_header_id|>\n\nWho are you?<|eot_id|>"
           "<|start_header_id|>assistant<|end_header_id|>\n\nA fox.<|eot_id|>"
           "<|start_header_id|>user<|end_header_id|>\n\nWhere from?<|eot_id|>"
           "<|start_header_id|>assistant<|end_header_id|>\n\n");
    expect("chatml", "Be brief.",
           "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n"
           "<|im_start|>assistant\nA fox.<|im_end|>\n<|im_start|>user\nWhere from?<|im_end|>\n"
           "<|im_start|>assistant\n");
    expect("mistral", "Be brief.",
           "[INST] Be brief.\n\nWho are you? [/INST]A fox.</s>[INST] Where from? [/INST]");
    expect("zephyr", "Be brief.",
           "<|system|>\nBe brief.</s>\n<|user|>\nWho are you?</s>\n<|assistant|>\nA fox.</s>\n"
           "<|user|>\nWhere from?</s>\n<|assistant|>\n");
    expect("phi3", "Be brief.",
           "<|system|>\nBe brief.<|end|>\n<|user|>\nWho are you?<|end|>\n<|assistant|>\nA fox."
           "<|end|>\n<|user|>\nWhere from?<|end|>\n<|assistant|>\n");
    expect("plain", "Be brief.",
           "Be brief.\n\nUser: Who are you?\nAssistant:A fox.\nUser: Where from?\nAssistant:");
}

Test(chat_style, without_a_system_prompt_there_is_no_trace_of_one) {
    expect("llama2", NULL, "[INST] Who are you? [/INST] A fox. </s><s>[INST] Where from? [/INST]");
    expect("mistral", "", "[INST] Who are you? [/INST]A fox.</s>[INST] Where from? [/INST]");
    expect("chatml", NULL,
           "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\nA fox.<|im_end|>\n"
           "<|im_start|>user\nWhere from?<|im_end|>\n<|im_start|>assistant\n");
}

Test(chat_style, turns_that_were_dropped_are_not_written_and_the_system_prompt_stays) {
    const struct chat_style *style = chat_style_find("llama2");
    struct conversation c = talk("Be brief.");
    struct text out = {0};
    c.first = 1;
    chat_style_write(style, &c, &out);
    cr_expect_str_eq(out.bytes, "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhere from? [/INST]");
    text_free(&out);
    drop(&c);
}

Test(chat_style, blanks_around_messages_go_where_the_template_takes_them_away) {
    struct conversation c = {0};
    struct text out = {0};
    conversation_say(&c, " hi \n");
    chat_style_write(chat_style_find("llama3"), &c, &out);
    cr_expect_not_null(strstr(out.bytes, "\n\nhi<|eot_id|>"));
    text_clear(&out);
    chat_style_write(chat_style_find("chatml"), &c, &out);
    cr_expect_not_null(strstr(out.bytes, "user\n hi \n<|im_end|>"));
    text_free(&out);
    drop(&c);
}

Test(chat_style, a_model_without_a_format_reads_a_plain_dialogue) {
    cr_assert_str_eq(chat_style_find("none")->name, "plain");
    cr_assert_null(chat_style_find("gemma"));
}

Test(conversation, what_is_written_is_read_back) {
    struct conversation c = talk("Sp\xc3\xa9"
                                 "cial \"quotes\"\n\\ and\ttabs"),
                        d = {0};
    struct text first = {0}, second = {0};
    unsigned line;
    conversation_write(&c, &first);
    cr_assert(conversation_read(&d, first.bytes, first.length, &line));
    conversation_write(&d, &second);
    cr_assert_str_eq(first.bytes, second.bytes);
    cr_assert_str_eq(d.system, c.system);
    cr_assert_eq(d.n, 2);
    cr_assert_null(d.turn[1].answer);
    text_free(&first);
    text_free(&second);
    drop(&c);
    drop(&d);
}

Test(conversation, json_of_others_is_read) {
    static const char text[] = "\n { \"id\" : \"x\", \"content\" : \"\\u00e9\\ud83e\\udd8a\\/\\n\" "
                               ", \"role\":\"user\"} \n";
    struct conversation c = {0};
    unsigned line;
    cr_assert(conversation_read(&c, text, strlen(text), &line));
    cr_assert_str_eq(c.turn[0].user, "\xc3\xa9\xf0\x9f\xa6\x8a/\n");
    drop(&c);
}

Test(conversation, what_is_no_conversation_changes_nothing_and_is_told_by_line) {
    static const struct {
        const char *text;
        unsigned line;
    } bad[] = {
        {"{\"role\":\"assistant\",\"content\":\"x\"}", 1},
        {"{\"role\":\"user\",\"content\":\"x\"}\n{\"role\":\"user\",\"content\":\"x\"}", 2},
        {"{\"role\":\"user\",\"content\":\"x\"}\n{\"role\":\"system\",\"content\":\"x\"}", 2},
        {"{\"role\":\"user\"}", 1},
        {"{\"content\":\"x\"}", 1},
        {"{\"role\":\"user\",\"content\":\"x\"", 1},
        {"{\"role\":\"user\",\"content\":\"x\"} y", 1},
        {"{\"role\":\"user\",\"content\":\"\\ud800\"}", 1},
        {"{\"role\":\"user\",\"content\":\"\\udc00\"}", 1},
        {"{\"role\":\"user\",\"content\":\"\\q\"}", 1},
        {"{\"role\":\"user\",\"content\":\"\\u12", 1},
        {"{\"role\":\"user\",\"content\":3}", 1},
        {"\n\nhello", 3},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct conversation c = talk("Be brief.");
        unsigned line = 0;
        cr_assert_not(conversation_read(&c, bad[i].text, strlen(bad[i].text), &line), "%s",
                      bad[i].text);
        cr_assert_eq(line, bad[i].line, "%s", bad[i].text);
        cr_assert_eq(c.n, 2);
        cr_assert_str_eq(c.system, "Be brief.");
        drop(&c);
    }
}

Test(conversation, undo_takes_back_what_was_dropped_too) {
    struct conversation c = talk(NULL);
    c.first = 1;
    cr_assert(conversation_undo(&c));
    cr_assert_eq(c.first, 0);
    cr_assert(conversation_undo(&c));
    cr_assert_not(conversation_undo(&c));
    drop(&c);
}

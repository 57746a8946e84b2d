#include "token/chat_format.h"

#include <string.h>

/* The first row whose mark the template contains decides. What tells two formats that share words
 * apart comes first: Phi-4 marks turns as ChatML does, but separates them by <|im_sep|>; Phi-3 and
 * Zephyr both name <|user|>, and only Phi-3 ends a turn with <|end|>; Llama 2 and Mistral share
 * [INST], and only Llama 2 has <<SYS>>. */
static const struct {
    const char *mark;
    char name[8];
} formats[] = {
    {"<|im_sep|>", "none"}, {"<|im_start|>", "chatml"}, {"<|start_header_id|>", "llama3"},
    {"<|end|>", "phi3"},    {"<|user|>", "zephyr"},     {"<<SYS>>", "llama2"},
    {"[INST]", "mistral"},
};

const char *chat_format_find(const struct gguf *gguf) {
    struct gguf_string template = {NULL, 0};
    struct fault ignored; /* a template that is no text is none */
    (void)gguf_get_string(gguf, "tokenizer.chat_template", &template, &ignored);
    if (template.text == NULL) return "none";
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        size_t length = strlen(formats[i].mark);
        if (memmem(template.text, template.length, formats[i].mark, length) != NULL)
            return formats[i].name;
    }
    return "none";
}

#include "chat_style.h"

#include <ctype.h>
#include <string.h>

/* What the chat templates of these models write:
 *
 *   llama2   meta-llama/Llama-2-7b-chat-hf        llama3   meta-llama/Meta-Llama-3-8B-Instruct
 *   chatml   Qwen/Qwen2-7B-Instruct and others    mistral  mistralai/Mistral-7B-Instruct-v0.2
 *   zephyr   HuggingFaceH4/zephyr-7b-beta         phi3     microsoft/Phi-3-mini-4k-instruct
 *
 * Mistral's template knows no system prompt; it goes before the first message, as Mistral's own
 * later templates put it. */
const struct chat_style chat_styles[] = {
    {.name = "llama2",
     .system_begin = "<<SYS>>\n",
     .system_end = "\n<</SYS>>\n\n",
     .user_begin = "[INST] ",
     .user_end = " [/INST]",
     .next_user_begin = "<s>[INST] ",
     .answer_begin = " ",
     .answer_end = " </s>",
     .generate = "",
     .system_inside = true,
     .trims = true,
     .special = true},
    {.name = "llama3",
     .system_begin = "<|start_header_id|>system<|end_header_id|>\n\n",
     .system_end = "<|eot_id|>",
     .user_begin = "<|start_header_id|>user<|end_header_id|>\n\n",
     .user_end = "<|eot_id|>",
     .answer_begin = "<|start_header_id|>assistant<|end_header_id|>\n\n",
     .answer_end = "<|eot_id|>",
     .stop = {"<|eot_id|>"},
     .trims = true,
     .special = true},
    {.name = "chatml",
     .system_begin = "<|im_start|>system\n",
     .system_end = "<|im_end|>\n",
     .user_begin = "<|im_start|>user\n",
     .user_end = "<|im_end|>\n",
     .answer_begin = "<|im_start|>assistant\n",
     .answer_end = "<|im_end|>\n",
     .stop = {"<|im_end|>"},
     .special = true},
    {.name = "mistral",
     .system_begin = "",
     .system_end = "\n\n",
     .user_begin = "[INST] ",
     .user_end = " [/INST]",
     .answer_begin = "",
     .answer_end = "</s>",
     .system_inside = true,
     .special = true},
    {.name = "zephyr",
     .system_begin = "<|system|>\n",
     .system_end = "</s>\n",
     .user_begin = "<|user|>\n",
     .user_end = "</s>\n",
     .answer_begin = "<|assistant|>\n",
     .answer_end = "</s>\n",
     .stop = {"<|user|>"},
     .special = true},
    {.name = "phi3",
     .system_begin = "<|system|>\n",
     .system_end = "<|end|>\n",
     .user_begin = "<|user|>\n",
     .user_end = "<|end|>\n",
     .answer_begin = "<|assistant|>\n",
     .answer_end = "<|end|>\n",
     .stop = {"<|end|>"},
     .special = true},
    {.name = "plain",
     .system_begin = "",
     .system_end = "\n\n",
     .user_begin = "User: ",
     .user_end = "\n",
     .answer_begin = "Assistant:",
     .answer_end = "\n",
     .stop = {"\nUser:", "\nAssistant:"}},
    {0}};

const struct chat_style *chat_style_find(const char *name) {
    if (strcmp(name, "none") == 0) name = "plain";
    for (const struct chat_style *format = chat_styles; format->name; format++)
        if (strcmp(format->name, name) == 0) return format;
    return NULL;
}

static void message_write(const struct chat_style *format, const char *message, struct text *out) {
    size_t n = strlen(message);
    while (format->trims && n > 0 && isspace((unsigned char)message[n - 1])) n--;
    while (format->trims && n > 0 && isspace((unsigned char)*message)) message++, n--;
    text_add(out, message, n);
}

static void system_write(const struct chat_style *format, const char *system, struct text *out) {
    if (!system) return;
    text_add_string(out, format->system_begin);
    message_write(format, system, out);
    text_add_string(out, format->system_end);
}

void chat_style_write(const struct chat_style *format, const struct conversation *conversation,
                      struct text *out) {
    if (!format->system_inside) system_write(format, conversation->system, out);
    for (size_t i = conversation->first; i < conversation->n; i++) {
        const struct turn *turn = &conversation->turn[i];
        bool first = i == conversation->first;
        const char *begin = format->next_user_begin;
        text_add_string(out, first || !begin ? format->user_begin : begin);
        if (first && format->system_inside) system_write(format, conversation->system, out);
        message_write(format, turn->user, out);
        text_add_string(out, format->user_end);
        if (!turn->answer) {
            text_add_string(out, format->generate ? format->generate : format->answer_begin);
            return;
        }
        text_add_string(out, format->answer_begin);
        message_write(format, turn->answer, out);
        text_add_string(out, format->answer_end);
    }
}

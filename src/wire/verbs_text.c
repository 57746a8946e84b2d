/* The verbs between text and ids: TOKENIZE DETOKENIZE. */
#include "base/clock.h"
#include "base/panic.h"
#include "wire/reply.h"
#include "wire/server.h"
#include "wire/verbs.h"

/* The place for a long answer; false: taken, and answered so. */
static bool listing_is_free(struct server *server, struct client *client,
                            const struct command *command) {
    if (server->listing.client == NULL) return true;
    struct fault fault;
    fault_set(&fault, FAULT_BUSY, "another long answer is being written; try again");
    reply_fault(&client->output, command->tag, &fault);
    return false;
}

static void listing_write(struct server *server, struct client *client,
                          const struct command *command, enum listing_kind kind, size_t n) {
    uint64_t now_ns = clock_ns();
    listing_begin(&server->listing, client, kind, command->tag, (uint32_t)n, now_ns);
    listing_continue(&server->listing, server_reserve(server, client), now_ns);
}

static void staged_release(struct server *server, const struct client *client,
                           const struct command *command) {
    /* On a bad cable the answer may have to be asked for again. */
    if (command->tag == 0 || client->seal.kind == SEAL_CRC) return;
    struct staged *staged = staging_find(&server->staging, client->number, command->tag);
    if (staged != NULL && !command->has_text && !command->ids_set) staging_release(staged);
}

void verb_tokenize(struct server *server, struct client *client, const struct command *command) {
    if (!listing_is_free(server, client, command)) return;
    struct engine *engine = server->engine;
    struct vocab_encode_options options = {.add_bos = command->bos_set ? command->bos
                                                                       : engine->vocab.add_bos,
                                           .parse_special = command->parse_special};
    size_t n = vocab_encode(&engine->vocab, &engine->scratch, command->text.bytes,
                            command->text.length, options, server->listing.ids, LISTING_IDS_MAX);
    wick_assert(n <= LISTING_IDS_MAX);
    staged_release(server, client, command);
    listing_write(server, client, command, LISTING_IDS, n);
}

/* The ids are read into the upper half of the listing's memory and the text is written from its
 * beginning: at least 128 KB each, as a list of ids takes two characters an id or more. */
void verb_detokenize(struct server *server, struct client *client, const struct command *command) {
    if (!listing_is_free(server, client, command)) return;
    const struct vocab *vocab = &server->engine->vocab;
    enum { IDS_CAP = LISTING_IDS_MAX / 2 };
    int32_t *ids = server->listing.ids + (LISTING_IDS_MAX - IDS_CAP);
    size_t text_cap = sizeof(int32_t) * (LISTING_IDS_MAX - IDS_CAP);
    int32_t n = command_read_ids(command->ids, vocab->n_tokens, ids, IDS_CAP);
    size_t bytes = 0;
    if (n >= 0) {
        bytes =
            vocab_decode(vocab, ids, (size_t)n, command->special, server->listing.text, text_cap);
    }
    if (n < 0 || bytes > text_cap) {
        struct command_errors errors = {.n = 0};
        char limits[48];
        const struct field *field = fields;
        while (field->kind != FIELD_IDS) field++;
        field_limits(field, vocab->n_tokens, limits);
        command_error_add(&errors, "ids", n < 0 ? limits : "fewer: the text is too long");
        server->metrics.invalid++;
        reply_errors(&client->output, command->tag, &errors);
        return;
    }
    staged_release(server, client, command);
    listing_write(server, client, command, LISTING_TEXT, bytes);
}

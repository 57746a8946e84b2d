#include "show/manual.h"

#include <string.h>

/* Backslashes, hyphens (which roff would make typographic) and leading dots are roff's own. */
static void text_write(FILE *out, const char *text, char line_feed) {
    bool line_start = true;
    for (; *text; text++) {
        if (line_start && (*text == '.' || *text == '\'')) fputs("\\&", out);
        line_start = false;
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else if (*text == '^')
            fputs("\\(ha", out);
        else if (*text == '~')
            fputs("\\(ti", out);
        else if (*text == '\n' && text[1] == '\n' && line_feed == ' ')
            fputs("\n.PP\n", out), text++, line_start = true;
        else if (*text == '\n')
            fputc(text[1] ? line_feed : '\n', out), line_start = line_feed == '\n';
        else
            fputc(*text, out);
    }
}

static void paragraph_begin(struct manual *manual) {
    if (!manual->fresh) fputs(".PP\n", manual->out);
    manual->fresh = false;
}

void manual_begin(struct manual *manual, FILE *out, const char *name, const char *section,
                  const char *summary) {
    *manual = (struct manual){.out = out};
    fputs(".TH \"", out);
    text_write(out, name, ' ');
    fprintf(out, "\" \"%s\" \"\" \"wick\" \"\"\n", section);
    manual_section(manual, "NAME");
    text_write(out, name, ' ');
    fputs(" \\- ", out);
    text_write(out, summary, ' ');
    fputc('\n', out);
}

void manual_section(struct manual *manual, const char *title) {
    fprintf(manual->out, ".SH \"%s\"\n", title);
    manual->fresh = true;
}

void manual_text(struct manual *manual, const char *text) {
    paragraph_begin(manual);
    text_write(manual->out, text, ' ');
    if (*text && text[strlen(text) - 1] != '\n') fputc('\n', manual->out);
}

void manual_example(struct manual *manual, const char *lines) {
    paragraph_begin(manual);
    fputs(".nf\n.RS\n", manual->out);
    text_write(manual->out, lines, '\n');
    fputs(".RE\n.fi\n", manual->out);
}

void manual_item(struct manual *manual, const char *term, const char *text) {
    manual->fresh = false;
    fputs(".TP\n\\fB", manual->out);
    text_write(manual->out, term, ' ');
    fputs("\\fR\n", manual->out);
    text_write(manual->out, text, ' ');
    fputc('\n', manual->out);
}

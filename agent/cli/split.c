/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/split.h"

#include "base/buf.h"
#include "base/limits.h"

#include <string.h>

/* Where the splitting stands. */
struct splitter {
    const char *line;
    const char *at;
    struct chp_buf word;
    struct chp_error *error;
};

static const char blanks[] = " \t\r\n";

static int refuse(struct splitter *splitter, const char *at, const char *why)
{
    return chp_error_set(splitter->error, CHP_EINVAL, "character %d: %s",
                         (int)(at - splitter->line) + 1, why);
}

/* A quoted part; at stands behind its quote, and then behind the closing one. */
static int take_quoted(struct splitter *splitter, char quote)
{
    const char *start = splitter->at - 1;
    for (; *splitter->at != quote; splitter->at++) {
        const char *c = splitter->at;
        if (*c == 0) {
            return refuse(splitter, start, "the quote is not closed");
        }
        if (quote == '"' && (*c == '$' || *c == '`')) {
            return refuse(splitter, c,
                          "no shell runs it, so nothing would be put in its place: use single "
                          "quotes, or sh -c '...'");
        }
        if (quote == '"' && *c == '\\' && c[1] != 0 && strchr("\"\\$`", c[1]) != NULL) {
            c = ++splitter->at;
        }
        chp_buf_add_byte(&splitter->word, (uint8_t)*c);
    }
    splitter->at++;
    return 0;
}

/* One word, which begins at at. */
static int take_word(struct splitter *splitter)
{
    chp_buf_clear(&splitter->word);
    int code = 0;
    while (code == 0 && *splitter->at != 0 && strchr(blanks, *splitter->at) == NULL) {
        char c = *splitter->at++;
        if (c == '\'' || c == '"') {
            code = take_quoted(splitter, c);
        } else if (c == '\\' && *splitter->at == 0) {
            code = refuse(splitter, splitter->at - 1, "nothing follows the backslash");
        } else if (c == '\\') {
            chp_buf_add_byte(&splitter->word, (uint8_t)*splitter->at++);
        } else if (strchr("|&;<>()$`*?", c) != NULL) {
            code = refuse(splitter, splitter->at - 1,
                          "no shell runs it: quote this character, or use sh -c '...'");
        } else {
            chp_buf_add_byte(&splitter->word, (uint8_t)c);
        }
    }
    return code;
}

int cli__split(const char *line, struct chp_arena *arena, const char ***words, size_t *count,
               struct chp_error *error)
{
    struct splitter splitter = {.line = line, .at = line, .error = error};
    const char **list = chp_arena_calloc(arena, CHP_ARGV_MAX, sizeof *list);
    int code = 0;
    *count = 0;
    splitter.at += strspn(splitter.at, blanks);
    while (code == 0 && *splitter.at != 0) {
        if (*count == CHP_ARGV_MAX) {
            code = chp_error_set(error, CHP_ETOOBIG, "it has more than %d words", CHP_ARGV_MAX);
            break;
        }
        code = take_word(&splitter);
        list[(*count)++] = chp_arena_strdup(arena, chp_buf_text(&splitter.word));
        splitter.at += strspn(splitter.at, blanks);
    }
    if (code == 0 && *count == 0) {
        code = chp_error_set(error, CHP_EINVAL, "it is empty");
    }
    chp_buf_deinit(&splitter.word);
    *words = list;
    return code;
}

/* SPDX-License-Identifier: AGPL-3.0-only */
/* Tokens of scope-lang. Internal to the folder. */
#ifndef CHP_SCOPE_LEXER_H
#define CHP_SCOPE_LEXER_H

#include "base/err.h"

#include <stdbool.h>

enum scope__token_kind {
    TOKEN_NAME,   /* letters, digits, '.', '_', '-'; also keywords, numbers, durations */
    TOKEN_QUOTED, /* start and len without the quotes */
    TOKEN_AND,
    TOKEN_CROSS,
    TOKEN_OR,
    TOKEN_STAR,
    TOKEN_COLON,
    TOKEN_COMMA,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_BRACE_OPEN,
    TOKEN_BRACE_CLOSE,
    TOKEN_END,
};

struct scope__token {
    enum scope__token_kind kind;
    const char *start; /* in the text */
    size_t len;
    size_t character; /* from 1 */
};

struct scope__lexer {
    const char *at;
    size_t character; /* of at, from 1 */
};

/* Moves over the next token. The position is counted in characters, since that is what a person
 * counts. */
int scope__lex(struct scope__lexer *lexer, struct scope__token *token,
               struct chp_error *error) CHP_MUST_CHECK;

/* True for what a name may hold without quotes. */
bool scope__name_char(char c);

#endif

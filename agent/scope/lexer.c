/* SPDX-License-Identifier: AGPL-3.0-only */
#include "scope/lexer.h"

#include "base/buf.h"

#include <string.h>

static const struct {
    const char *text;
    enum scope__token_kind kind;
} marks[] = {
    {"&", TOKEN_AND},        {"%", TOKEN_CROSS},       {"||", TOKEN_OR},  {"*", TOKEN_STAR},
    {":", TOKEN_COLON},      {",", TOKEN_COMMA},       {"(", TOKEN_OPEN}, {")", TOKEN_CLOSE},
    {"{", TOKEN_BRACE_OPEN}, {"}", TOKEN_BRACE_CLOSE},
};

bool scope__name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

/* Bytes of the character at text, 0 when it is not valid UTF-8. */
static size_t character_bytes(const char *text)
{
    unsigned char lead = (unsigned char)*text;
    size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return strnlen(text, len) == len && chp_utf8_valid(text, len) ? len : 0;
}

static int not_text(size_t character, struct chp_error *error)
{
    return chp_error_set(error, CHP_EMALFORMED,
                         "scope at character %zu: not valid UTF-8; a scope is UTF-8 text",
                         character);
}

static int lex_quoted(struct scope__lexer *lexer, struct scope__token *token,
                      struct chp_error *error)
{
    token->kind = TOKEN_QUOTED;
    token->start = ++lexer->at;
    lexer->character++;
    while (*lexer->at != '"') {
        if (*lexer->at == '\0') {
            return chp_error_set(error, CHP_EMALFORMED,
                                 "scope at character %zu: the quote that opens here is not closed; "
                                 "a '\"' must follow the name",
                                 token->character);
        }
        size_t len = character_bytes(lexer->at);
        if (len == 0) {
            return not_text(lexer->character, error);
        }
        if ((unsigned char)*lexer->at < ' ' || *lexer->at == 0x7f) {
            return chp_error_set(error, CHP_EMALFORMED,
                                 "scope at character %zu: a control character in a name; a quoted "
                                 "name may hold anything "
                                 "but control characters and '\"'",
                                 lexer->character);
        }
        lexer->at += len;
        lexer->character++;
    }
    token->len = (size_t)(lexer->at - token->start);
    if (token->len == 0) {
        return chp_error_set(
            error, CHP_EMALFORMED,
            "scope at character %zu: an empty name; a name has at least one character",
            token->character);
    }
    lexer->at++;
    lexer->character++;
    return 0;
}

static int unknown_character(const struct scope__lexer *lexer, struct chp_error *error)
{
    size_t len = character_bytes(lexer->at);
    if (len == 0) {
        return not_text(lexer->character, error);
    }
    if (*lexer->at == '|') {
        return chp_error_set(error, CHP_EMALFORMED,
                             "scope at character %zu: found a single '|'; \"or\" is written '||'",
                             lexer->character);
    }
    if ((unsigned char)*lexer->at < ' ' || *lexer->at == 0x7f) {
        return chp_error_set(error, CHP_EMALFORMED,
                             "scope at character %zu: found a control character; only spaces, tabs "
                             "and line ends may stand between names",
                             lexer->character);
    }
    return chp_error_set(error, CHP_EMALFORMED,
                         "scope at character %zu: found '%.*s'; names are letters (a-z, A-Z), "
                         "digits, '.', '_' and '-', "
                         "any other name stands in double quotes",
                         lexer->character, (int)len, lexer->at);
}

int scope__lex(struct scope__lexer *lexer, struct scope__token *token, struct chp_error *error)
{
    size_t blank = strspn(lexer->at, " \t\r\n");
    lexer->at += blank;
    lexer->character += blank;
    *token =
        (struct scope__token){.kind = TOKEN_END, .start = lexer->at, .character = lexer->character};
    if (*lexer->at == '\0') {
        return 0;
    }
    if (*lexer->at == '"') {
        return lex_quoted(lexer, token, error);
    }
    while (scope__name_char(lexer->at[token->len])) {
        token->len++;
    }
    if (token->len > 0) {
        token->kind = TOKEN_NAME;
    }
    for (size_t i = 0; i < sizeof marks / sizeof marks[0] && token->len == 0; i++) {
        size_t len = strlen(marks[i].text);
        if (strncmp(lexer->at, marks[i].text, len) == 0) {
            token->kind = marks[i].kind;
            token->len = len;
        }
    }
    if (token->len == 0) {
        return unknown_character(lexer, error);
    }
    lexer->at += token->len; /* all ASCII: a byte is a character */
    lexer->character += token->len;
    return 0;
}

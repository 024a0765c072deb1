/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Error codes and error detail.
 *
 * Functions that can fail return int: 0, or a negative CHP_E* code (must be checked). What the code
 * cannot say, which value was wrong and what is allowed, goes into a struct chp_error of the
 * caller's, bounded. Three kinds of failure are kept apart: an operating error is returned; being
 * out of memory logs and aborts, since every size is bounded before it is allocated; a broken
 * invariant is CHP_ASSERT, never compiled out.
 */
#ifndef CHP_BASE_ERR_H
#define CHP_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

#define CHP_MUST_CHECK __attribute__((warn_unused_result))
#define CHP_PRINTF(format_index, args_index)                                                       \
    __attribute__((format(printf, format_index, args_index)))

/* name, value, text, HTTP status that the doors answer with */
#define CHP_ERRORS(X)                                                                              \
    X(EINVAL, -1, "invalid argument", 400)                                                         \
    X(EMALFORMED, -2, "malformed", 400)                                                            \
    X(ETOOBIG, -3, "too big", 413)                                                                 \
    X(ETOODEEP, -4, "nested too deep", 400)                                                        \
    X(EVERSION, -5, "unknown version", 400)                                                        \
    X(ENOTFOUND, -6, "not found", 404)                                                             \
    X(ECONFLICT, -7, "conflict", 409)                                                              \
    X(EREFUSED, -8, "refused", 422)                                                                \
    X(EUNAUTHORIZED, -9, "not authenticated", 401)                                                 \
    X(EFORBIDDEN, -10, "not allowed", 403)                                                         \
    X(EBUSY, -11, "busy, try again later", 429)                                                    \
    X(EUNAVAILABLE, -12, "unavailable", 503)                                                       \
    X(ETIMEOUT, -13, "timed out", 504)                                                             \
    X(ECANCELED, -14, "canceled", 499)                                                             \
    X(EIO, -15, "input/output error", 500)                                                         \
    X(EINTERNAL, -16, "internal error", 500)                                                       \
    X(EGONE, -17, "gone", 410)

enum chp_error_code {
#define X(name, value, text, http) CHP_##name = (value),
    CHP_ERRORS(X)
#undef X
};

enum { CHP_ERROR_TEXT_BYTES = 512 };

/* One sentence for a person: what was wrong and what is allowed. Zero-initialise. */
struct chp_error {
    int code;
    char text[CHP_ERROR_TEXT_BYTES];
};

/* Text of a code; "unknown error" for a value that is not one. Static storage. */
const char *chp_error_name(int code);

/* HTTP status for a code; 500 for a value that is not one. */
int chp_error_http_status(int code);

/* Fills *error (may be NULL) with code and the formatted text, cut to fit and always valid UTF-8;
 * returns code. */
int chp_error_set(struct chp_error *error, int code, const char *format, ...) CHP_PRINTF(3, 4);

/* Logs the place and aborts. Never compiled out. */
_Noreturn void chp_assert_failed(const char *expression, const char *file, int line);

#define CHP_ASSERT(expression)                                                                     \
    ((expression) ? (void)0 : chp_assert_failed(#expression, __FILE__, __LINE__))

#endif
